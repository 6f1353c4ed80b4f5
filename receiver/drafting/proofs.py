"""Proofs: guesses the verifier of a dialect from the headers of a captured request."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any

from receiver import senders
from receiver.dialects.headers import names_secret
from receiver.drafting.naming import literal, words_in
from receiver.errors import HookmirrorError, NotVerified
from receiver.verify.algorithms import DIGESTS, PUBLIC, AlgorithmName, KeyForm
from receiver.verify.composed import Signature
from receiver.verify.encodings import ENCODINGS
from receiver.verify.freshness import Fresh
from receiver.verify.places import Header, Headers
from receiver.verify.request import WebhookRequest
from receiver.verify.signatures import HmacSha256, Unsigned
from receiver.verify.token import EACH_ITEM, Token
from receiver.verify.verifiers import Credentials, Secret, Verifier

#: Words in the names of headers with a signature.
_PROOF = frozenset({"signature", "sig", "hmac", "sign", "digest"})

#: Words in the names of headers with a time.
_TIME = frozenset({"timestamp", "time", "ts"})

#: Words in the names of headers about a signature that hold no secret.
_NO_SECRET = frozenset({"algo", "algorithm", "url", "path"})

#: The algorithm of a digest, by the number of its bytes.
_ALGORITHMS: Mapping[int, AlgorithmName] = {32: "hmac_sha256", 20: "hmac_sha1", 64: "hmac_sha512"}

#: Names of the field with the time, in the header of a signature.
_TIME_FIELDS = ("t", "ts", "time", "timestamp")

#: The texts that senders put between a time and the body, the likeliest first.
_BETWEEN = (".", "", ":")

#: The forms in which a secret may be written, apart from plain text.
_ENCODED_KEYS: tuple[KeyForm, ...] = ("base64", "hex")

#: The levels of a body that are searched for a secret.
DEEPEST_TOKEN = 4

_HEX_DIGITS = re.compile(r"[0-9a-f]+", re.I)

_BASE64_SIGNS = re.compile(r"[0-9A-Za-z+/_-]+=*")

_PREFIXED = re.compile(r"(?P<prefix>[A-Za-z0-9-]{1,12}[=:])(?P<rest>.+)")

#: Classes of `receiver` that a drafted module may call.
_MADE_BY: Mapping[str, Any] = {"HmacSha256": HmacSha256, "Signature": Signature, "Header": Header, "Fresh": Fresh}


@dataclass(frozen=True, slots=True)
class CodeCall:
    """A call of a public name, which can be written as code and executed."""

    name: str
    args: tuple[Any, ...] = ()
    named: Mapping[str, Any] = field(default_factory=dict)

    @property
    def code(self) -> str:
        """The call as Python code."""
        return f"{self.name}({', '.join(self.parts)})"

    @property
    def parts(self) -> list[str]:
        """The code of each argument."""
        return [*map(_code, self.args), *(f"{name}={_code(value)}" for name, value in self.named.items())]

    @property
    def names(self) -> set[str]:
        """The names that a module must import for the call."""
        inner = [each for each in (*self.args, *self.named.values()) if isinstance(each, CodeCall)]
        return {self.name}.union(*(each.names for each in inner))

    def make(self) -> Any:
        """Execute the call, and return its value."""
        made = [each.make() if isinstance(each, CodeCall) else each for each in self.args]
        named = {name: each.make() if isinstance(each, CodeCall) else each for name, each in self.named.items()}
        return (_MADE_BY.get(self.name) or getattr(senders, self.name))(*made, **named)


@dataclass(frozen=True, slots=True)
class Proof:
    """A guessed verifier, and the reason for the guess."""

    call: CodeCall
    #: The headers that the verifier reads, in lower case.
    headers: tuple[str, ...]
    #: The reason for the guess.
    because: str
    #: Whether the verifier is a short form from `receiver.senders`.
    is_short_form: bool = False
    #: Whether only the sender can sign, because the secret is its public key.
    is_public: bool = False
    #: Whether a secret has confirmed the guess.
    is_confirmed: bool = False
    #: The calls that were tried with a secret, if it confirmed none of them.
    tried: tuple[CodeCall, ...] = ()
    #: Whether no secret can confirm the guess, because the signature covers the URL, which a capture does not have.
    covers_url: bool = False


def proof_of(headers: Mapping[str, str], body: bytes, secrets: Sequence[bytes] = ()) -> Proof | None:
    """Guess the proof of this request: the first that a secret confirms, otherwise the likeliest; None without any."""
    likely = list(_proofs(headers))
    if not likely or not secrets:
        return likely[0] if likely else None
    for proof in likely:
        if _verifies(proof.call.make(), headers, body, secrets):
            return replace(proof, because="confirmed by the secret", is_confirmed=True)
    tried = tuple(proof.call for proof in likely)
    for proof in likely:
        if proof.is_short_form and _covers_url(proof.call.make(), headers, body, secrets):
            return replace(proof, tried=tried, covers_url=True)
    return replace(likely[0], tried=tried)


def secret_header(headers: Mapping[str, str]) -> str | None:
    """Find a header that seems to hold the secret itself; None without one."""
    named = [name for name in headers if _NO_SECRET.isdisjoint(words_in(name))]
    return next(filter(names_secret, named), None)


def unread_signature(headers: Mapping[str, str]) -> str | None:
    """Find a header that is named like a signature; None without one."""
    return next((name for name in headers if not _PROOF.isdisjoint(words_in(name))), None)


def token_in(document: Any, body: bytes, secrets: Sequence[bytes]) -> str | None:
    """Find the member that holds one of the secrets itself, as a path for `Token`; None without one."""
    texts = {secret.decode("utf-8", "replace") for secret in secrets}
    found = [path for path, value in _members(document, "", DEEPEST_TOKEN) if value in texts]
    return next((path for path in found if _verifies(Token(body=path), {}, body, secrets)), None)


def _members(value: Any, path: str, depth: int) -> Iterator[tuple[str, str]]:
    """Yield the path and the value of each text in a document; of a list, those of its first item."""
    if isinstance(value, str):
        yield path, value
    elif depth and isinstance(value, list):
        yield from _members(next(iter(value), None), path + EACH_ITEM, depth - 1)
    elif depth and isinstance(value, dict):
        for name, each in value.items():
            yield from _members(each, f"{path}.{name}" if path else name, depth - 1)


def unsigned() -> CodeCall:
    """The call that makes the verifier of a sender without a proof."""
    return CodeCall(Unsigned.__name__)


def _verifies(verifier: Verifier, headers: Mapping[str, str], body: bytes, secrets: Sequence[bytes]) -> bool:
    request = WebhookRequest(body, _wire(headers), at=datetime.now(UTC))
    try:
        verifier.verify(request, Credentials(secrets=tuple(map(Secret, secrets))))
    except NotVerified as refusal:
        # The signature is right; only the capture is older than a verifier allows.
        return refusal.code == "signature_stale"
    except (HookmirrorError, ValueError):
        return False
    return True


def _covers_url(verifier: Verifier, headers: Mapping[str, str], body: bytes, secrets: Sequence[bytes]) -> bool:
    """Whether two requests that differ only in their URL get different signatures."""
    if getattr(verifier, "needs_url", False):
        return True
    known, now = Credentials(secrets=(Secret(secrets[0]),)), datetime.now(UTC)
    try:
        one, other = (
            verifier.sign(
                WebhookRequest(body, _wire(headers), target=path, public_url=f"https://a{path.decode()}", at=now), known
            )
            for path in (b"/1", b"/2")
        )
    except (HookmirrorError, ValueError):
        return False
    return one != other


def _wire(headers: Mapping[str, str]) -> list[tuple[bytes, bytes]]:
    return [(name.encode("latin-1", "replace"), value.encode("latin-1", "replace")) for name, value in headers.items()]


def _proofs(headers: Mapping[str, str]) -> Iterator[Proof]:
    """Yield the possible proofs in these headers, the likeliest first."""
    yield from sorted(_known(headers), key=lambda proof: -len(proof.headers))
    named = [name for name in headers if not _PROOF.isdisjoint(words_in(name))]
    for name in sorted(named, key=lambda each: "256" not in each):
        yield from _composed(name, headers)


def _known(headers: Mapping[str, str]) -> Iterator[Proof]:
    """Yield the short forms whose headers are all there, or one of them if each may hold the signature."""
    for name, make in vars(senders).items():
        if not name[0].isupper() or getattr(make, "func", None) is None:
            continue
        verifier = make()
        needed = tuple(each.lower() for each in getattr(verifier, "signature_headers", ()))
        if isinstance(getattr(verifier, "at", None), Headers):
            needed = tuple(each for each in needed if each in headers)
        if needed and all(each in headers for each in needed) and _is_written_so(verifier, headers):
            because, is_public = f"by {', '.join(needed).title()}", getattr(verifier, "by", "") in PUBLIC
            yield Proof(CodeCall(name), needed, because, is_short_form=True, is_public=is_public)


def _is_written_so(verifier: Signature, headers: Mapping[str, str]) -> bool:
    """Whether the signature in these headers has the form that this verifier expects."""
    try:
        wire = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in headers.items()]
        found = verifier.at.find(WebhookRequest(b"", wire), dict(wire))
    except (NotVerified, ValueError):
        return False
    if found is None or not found[0]:
        return False
    written, by = _digest_in(found[0][0].decode("latin-1"))
    return written == verifier.written and by in (_ALGORITHMS.get(_size_of(verifier.by)), None)


def _size_of(by: AlgorithmName) -> int:
    """The bytes of a signature by this algorithm; 0 if they depend on the key."""
    return DIGESTS[by][1] if by in DIGESTS else 64 if by == "ed25519" else 0


def _composed(name: str, headers: Mapping[str, str]) -> Iterator[Proof]:
    """Yield the signatures that one header may hold, by the form of its value."""
    calls = _calls(name, headers)
    for key in ("text", *_ENCODED_KEYS):
        for call, needed in calls:
            keyed = call if key == "text" else CodeCall(call.name, call.args, {**call.named, "key": key})
            # `HmacSha256` decodes no key; the same signature as a `Signature` follows it.
            if call.name != "HmacSha256" or key == "text":
                yield Proof(keyed, needed, f"by the form of {name.title()}")


def _calls(name: str, headers: Mapping[str, str]) -> list[tuple[CodeCall, tuple[str, ...]]]:
    """List the calls for the signatures that one header may hold, each with the headers that it reads."""
    value, shown = headers[name], name.title()
    items = ";" if ";" in value else ","
    fields = dict(item.strip().partition("=")[::2] for item in value.split(items))
    time = next((each for each in _TIME_FIELDS if each in fields), None)
    if time is not None and len(fields) > 1:
        return [(call, (name,)) for call in _beside_its_time(shown, fields, time, items)]
    prefixed = _PREFIXED.fullmatch(value)
    prefix, (written, by) = "", _digest_in(value)
    if written is None and prefixed is not None:
        prefix, (written, by) = prefixed["prefix"], _digest_in(prefixed["rest"])
    if written is None or by is None:
        return []
    timed = _over_time(shown, headers, prefix, written, by)
    plain = [
        _over_body(shown, prefix, written, by),
        CodeCall("Signature", ("{body}",), _parts(shown, prefix, written, by)),
    ]
    # A sender that sends a time beside its signature nearly always signs it.
    return [
        *((call, (name, time)) for call, time in timed),
        *((call, (name,)) for call in plain[plain[0] == plain[1] :]),
    ]


def _beside_its_time(name: str, fields: Mapping[str, str], time: str, items: str) -> Iterator[CodeCall]:
    """Yield the signatures of the body in a header with these fields, first those that also cover the field `time`."""
    others = [each for each in fields if each != time]
    version = next((each for each in others if _digest_in(fields[each])[0] is not None), others[0])
    parts: dict[str, Any] = {"at": CodeCall("Header", (name,), {"items": items, "field": version})}
    written, by = _digest_in(fields[version])
    if by not in (None, "hmac_sha256"):
        parts["by"] = by
    if written not in (None, "hex"):
        parts["written"] = written
    unit = _unit_of(fields[time]) or "seconds"
    place = f"{{{time}}}"
    fresh = CodeCall("Fresh", (place,), {} if unit == "seconds" else {"unit": unit})
    for between in _BETWEEN:
        yield CodeCall("Signature", (f"{place}{between}{{body}}",), parts | {"fresh": fresh})
    yield CodeCall("Signature", ("{body}",), parts)


def _over_body(name: str, prefix: str, written: str, by: str) -> CodeCall:
    if by == "hmac_sha256" and written in ("hex", "base64") and prefix in ("", "sha256="):
        given: dict[str, Any] = {"header": name}
        if written == "base64":
            given |= {"encoding": "base64", "prefix": prefix}
        return CodeCall("HmacSha256", (), given)
    return CodeCall("Signature", ("{body}",), _parts(name, prefix, written, by))


def _over_time(name: str, headers: Mapping[str, str], prefix: str, written: str, by: str) -> list[tuple[CodeCall, str]]:
    """List the possible signatures of the body and of a time in another header, each with that header."""
    found = []
    for time, value in headers.items():
        unit = _unit_of(value)
        if _TIME.isdisjoint(words_in(time)) or unit is None:
            continue
        place = f"{{{time.title()}}}"
        fresh = CodeCall("Fresh", (place,), {} if unit == "seconds" else {"unit": unit})
        for between in _BETWEEN:
            parts = {**_parts(name, prefix, written, by), "fresh": fresh}
            found.append((CodeCall("Signature", (f"{place}{between}{{body}}",), parts), time))
    return found


def _parts(name: str, prefix: str, written: str, by: str) -> dict[str, Any]:
    parts: dict[str, Any] = {"at": CodeCall("Header", (name,), {"prefix": prefix} if prefix else {})}
    if by != "hmac_sha256":
        parts["by"] = by
    if written != "hex":
        parts["written"] = written
    return parts


def _unit_of(value: str) -> str | None:
    """Guess the unit of a time in a header; None if the value is not a time."""
    if value.isascii() and value.isdigit():
        return {10: "seconds", 13: "milliseconds"}.get(len(value))
    try:
        return "iso" if datetime.fromisoformat(value).tzinfo is not None else None
    except ValueError:
        return None


def _digest_in(text: str) -> tuple[str, str] | tuple[None, None] | tuple[str, None]:
    """Guess the encoding of a digest from its characters, and the algorithm from its bytes; None for an unknown one."""
    if _HEX_DIGITS.fullmatch(text) and len(text) / 2 in _ALGORITHMS:
        return "hex", _ALGORITHMS[len(text) // 2]
    if _BASE64_SIGNS.fullmatch(text) and len(text) > 20:
        # Base64 of the usual digests has padding, which senders of base64url leave out.
        written = "base64url" if "-" in text or "_" in text or len(text) % 4 else "base64"
        try:
            size = len(ENCODINGS[written].read(text.encode()))
        except ValueError:
            return written, None
        return (written, _ALGORITHMS[size]) if size in _ALGORITHMS else (written, None)
    return None, None


def _code(value: Any) -> str:
    if isinstance(value, CodeCall):
        return value.code
    return literal(value) if isinstance(value, str) else repr(value)
