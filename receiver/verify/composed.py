"""Composed signatures: signed bytes, algorithm, form of the key, place, encoding, and the largest age of a request."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Literal
from urllib.parse import urlsplit

from receiver.errors import ConfigurationError, NotVerified, WiringError
from receiver.http_urls import comparable_host
from receiver.verify import algorithms
from receiver.verify.algorithms import ALGORITHMS, DIGESTS, AlgorithmName, KeyForm, WrongKey
from receiver.verify.encodings import ENCODINGS
from receiver.verify.freshness import Fresh
from receiver.verify.places import SignaturePlace
from receiver.verify.request import WebhookRequest, wire_text
from receiver.verify.signature_plan import SignaturePlan, TextOf
from receiver.verify.verifiers import EMPTY_SECRET, NAMED_SECRET, Credentials, Secret, Verified, Verifier, hinted_order

#: The most secrets of one source, since each request is compared with all of them.
MOST_SECRETS = 16


@dataclass(frozen=True)
class Signature(Verifier):
    """A verifier composed of the values that a sender's documentation gives.

    `signed` is a template, such as `"{webhook-timestamp}.{body}"`, or a function from the request to the signed bytes.
    `covers` names the headers that such a function uses. Raises `WiringError` for values that do not fit together.
    """

    signed: str | TextOf
    #: The place of the signature: the name of a header, or a `Header`, `Headers` or `BodyMember`.
    at: SignaturePlace
    #: The algorithm.
    by: AlgorithmName = "hmac_sha256"
    #: The form of the secret, which decides how it is decoded into the key.
    key: KeyForm = "text"
    #: The encoding of the signature: `hex`, `base64` or `base64url`.
    written: Literal["hex", "base64", "base64url"] = "hex"
    #: The signed time that is compared with the arrival; None if the sender signs no time.
    fresh: Fresh | None = None
    #: The headers that the function `signed` uses.
    covers: tuple[str, ...] = ()
    #: The header that lists which headers the signature of one request includes: those of `covers`, and perhaps others.
    listed_in: str = ""
    #: Whether the function `signed` uses the URL that the sender called.
    needs_url: bool = False
    #: A regular expression for this sender's secrets; a secret that does not match causes a warning at start.
    looks_like: str = ""
    #: A function that reads the unverified body and names the secret to try first.
    hint: Callable[[bytes], str | None] | None = None
    #: Values that `sign` sends in headers of `covers`, or in other fields of the signature's header.
    examples: Mapping[str, str] = field(default_factory=dict, hash=False)

    def __post_init__(self) -> None:
        if self.by not in ALGORITHMS:
            raise WiringError(f"Signature knows no algorithm {self.by!r}: write one of {', '.join(ALGORITHMS)}.")
        if self.key not in ("text", "hex", "base64", "whsec", "whpk", "pem"):
            raise WiringError(f'Signature knows no key {self.key!r}: write "text", "hex", "base64", "whsec" or "pem".')
        if self.written not in ENCODINGS:
            raise WiringError(f"Signature knows no encoding {self.written!r}: write one of {', '.join(ENCODINGS)}.")
        if self.by not in DIGESTS and self.key == "text":
            raise WiringError(f'{self.by} takes a public key: write key="pem", or key="whpk" for Ed25519 in base64.')
        # Made now, so that wrong wiring fails at start and not at the first webhook.
        _ = self._plan

    @cached_property
    def _plan(self) -> SignaturePlan:
        return SignaturePlan(self)

    @property
    def signature_headers(self) -> tuple[str, ...]:
        """The headers that the verifier reads. They may be kept, because a signature does not reveal the secret."""
        return self._plan.names

    @property
    def signed_headers(self) -> frozenset[str]:
        """The names of the headers that the signature covers, in lower case."""
        return self._plan.signed

    def listed_headers(self, request: WebhookRequest) -> frozenset[str]:
        """The names, in lower case, that the request's `listed_in` header has, also of headers not in `covers`."""
        value = request.header(self.listed_in) if self.listed_in else None
        return _names_in(value or b"")

    # ── at start ──────────────────────────────────────────────────────────────────────────────────────────────

    def check(self, credentials: Credentials) -> str | None:
        if credentials.has_empty_secret:
            return EMPTY_SECRET
        if credentials.has_names and self.hint is None:
            return NAMED_SECRET
        if self._plan.needs_url and not credentials.public_url:
            return (
                "its sender signs the URL that it calls: set `public_url` to the address under which senders reach "
                "this installation, or `registered_url` in its table to its own"
            )
        called = WebhookRequest(b"", public_url=credentials.public_url)
        signed = (called.url if self._plan.needs_url else "") + (called.path if self._plan.has_path else "")
        if not signed.isascii():
            return _not_as_called(credentials.public_url)
        if not credentials.secrets and not credentials.allow_unsigned:
            return (
                f"it has no secret, and {self.at.name} cannot be verified without one: "
                'set `secrets = ["…"]` or `secrets_file`'
            )
        return self._wrong_secret(credentials.secrets) or credentials.unused_without_encryption

    def _wrong_secret(self, secrets: Sequence[Secret]) -> str | None:
        if len(secrets) > MOST_SECRETS:
            return f"it has {len(secrets)} secrets, and at most {MOST_SECRETS} are allowed: remove the oldest"
        known: dict[Any, int] = {}
        for place, secret in enumerate(secrets, start=1):
            try:
                key = self._key_of(secret)
            except WrongKey as wrong:
                return f"secret {place} of {len(secrets)} {wrong}: copy it from the sender again"
            first = known.setdefault(key, place)
            if first != place:
                is_equal = secrets[first - 1].value == secret.value
                same = "equal" if is_equal else "the same key, written in two ways"
                return f"its secrets {first} and {place} are {same}: remove one"
        return None

    def _key_of(self, secret: Secret) -> Any:
        if self.by in DIGESTS:
            return algorithms.key_bytes(secret.value, self.key)
        return algorithms.identity_of(algorithms.public_key(secret.value, self.by, self.key))

    # ── each webhook ──────────────────────────────────────────────────────────────────────────────────────────

    def verify(self, request: WebhookRequest, credentials: Credentials) -> Verified:
        plan, secrets, body = self._plan, credentials.secrets, request.body
        headers = plan.headers_of(request.headers)
        found = self.at.find(request, headers)
        if found is None:
            if credentials.allow_unsigned:
                return Verified(body, None)
            raise NotVerified(
                "signature_missing",
                f"There is no {self.at.name}. Set a secret at the sender, and the same one in this source.",
            )
        if not secrets and credentials.allow_unsigned:
            return Verified(body, None)
        signatures, fields = found
        text = None if plan.has_secret else plan.text_of(request, headers, fields, b"")
        for position in (0,) if len(secrets) == 1 else hinted_order(secrets, self.hint, body):
            secret = secrets[position].value
            if plan.fits(secret, plan.text_of(request, headers, fields, secret) if text is None else text, signatures):
                break
        else:
            raise self._refusal(signatures)
        if plan.freshness is not None:
            plan.freshness.check(headers, fields, request.at)
        return Verified(body, position, self._covered(headers) if self.listed_in else plan.signed)

    def _covered(self, headers: dict[bytes, bytes]) -> frozenset[str]:
        """The signed headers of this request, as the sender lists them in a header."""
        return self._plan.signed & _names_in(headers.get(wire_text(self.listed_in.lower()), b""))

    def _refusal(self, signatures: list[bytes]) -> NotVerified:
        """Make the refusal of a request none of whose signatures fits."""
        if not any(map(self._plan.is_well_formed, signatures)):
            form = ENCODINGS[self.written].form
            size = self._plan.size
            shape = form(size) if size else f"in {self.written}"
            return NotVerified("signature_malformed", f"The signature in {self.at.name} is not {shape}.")
        return NotVerified(
            "signature_wrong",
            f"{self.at.name} does not fit this request with any secret of this source. "
            "Compare the secrets on both sides, and sign the exact bytes that are sent.",
        )

    # ── the sender's side ─────────────────────────────────────────────────────────────────────────────────────

    def sign(self, request: WebhookRequest, credentials: Credentials) -> tuple[bytes, dict[str, str]]:
        """Return the body, and the headers that the sender would send with it.

        Headers that the template names and `request` lacks get invented values. The time of a `Fresh` is `request.at`.
        Raises `ConfigurationError` for a public key, which cannot sign.
        """
        if not credentials.secrets:
            return request.body, {}
        made, fields = self._made_up(request)
        # A function finds the fields in the header of the signature, which has no signature yet.
        is_read = self.at.has_fields and not isinstance(self.signed, str)
        unsigned = self.at.write(request.body, [""], fields)[1] if is_read else {}
        added = (made | unsigned).items()
        sent = [*request.headers, *((wire_text(name.lower()), value.encode("latin-1")) for name, value in added)]
        whole = WebhookRequest(
            request.body,
            sent,
            method=request.method,
            target=request.target,
            public_url=request.public_url or credentials.public_url,
            at=request.at,
        )
        known = {wire_text(name): value.encode() for name, value in fields.items()}
        secret = credentials.secrets[0].value
        try:
            text = self._plan.text_of(whole, self._plan.headers_of(sent), known, secret)
            signature = self._plan.signature(secret, text)
        except WrongKey as wrong:
            raise ConfigurationError(f"This cannot be signed: the secret {wrong}.") from None
        except NotVerified as missing:
            raise ConfigurationError(f"This cannot be signed: {missing.message}") from None
        body, headers = self.at.write(request.body, [signature], fields)
        return body, {**made, **headers}

    def _made_up(self, request: WebhookRequest) -> tuple[dict[str, str], dict[str, str]]:
        """Invent the signed headers that the request lacks, and the fields beside the signature."""
        present = {name for name, _ in request.headers}
        examples = {name.lower(): value for name, value in self.examples.items()}
        made = {name: examples.get(name, "example") for name in self._plan.signed if wire_text(name) not in present}
        fields = {each.name: "example" for each in self._plan.placeholders if each.kind == "field"}
        fields |= {name: value for name, value in self.examples.items() if name.lower() not in self._plan.signed}
        if self.fresh is not None:
            place, time = self.fresh.stands_in, self.fresh.write(request.at)
            if place.kind == "field":
                fields[place.name] = time
            elif place.name in made:
                made[place.name] = time
        return made, fields


def _names_in(listed: bytes) -> frozenset[str]:
    """The names, in lower case, of a list with commas."""
    names = (name.strip() for name in listed.decode("latin-1").lower().split(","))
    return frozenset(filter(None, names))


def _not_as_called(url: str) -> str:
    """The message about a signed URL that is not ASCII, with the forms in which a sender writes its parts."""
    host = urlsplit(url).hostname or ""
    parts = ["its path percent-encoded"]
    if not host.isascii():
        try:
            parts.insert(0, f"its host as `{comparable_host(host)}`")
        except ValueError:
            parts.insert(0, "its host in a form such as `xn--bcher-kva.example`")
    return (
        "its sender signs the URL that it calls, which has only ASCII: write `public_url`, or `registered_url` in its "
        f"table, as it is called, with {' and '.join(parts)}"
    )
