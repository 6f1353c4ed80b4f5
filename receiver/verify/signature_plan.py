"""The plan of a composed signature: prepared once from the signature's values, and run for each webhook."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from hashlib import sha256
from hmac import compare_digest
from typing import Protocol

from receiver.errors import WiringError
from receiver.verify import algorithms
from receiver.verify.algorithms import DIGESTS, AlgorithmName, KeyForm
from receiver.verify.encodings import ENCODINGS
from receiver.verify.freshness import Fresh, FreshnessCheck
from receiver.verify.places import SignaturePlace
from receiver.verify.request import RawHeaders, WebhookRequest, repeated, wire_text
from receiver.verify.templates import Template

#: A function that makes the signed text where a template cannot. It does no I/O and reads no clock.
TextOf = Callable[[WebhookRequest], bytes]


class SignatureValues(Protocol):
    """The values of a composed signature; `receiver.verify.composed.Signature` has them."""

    @property
    def signed(self) -> str | TextOf: ...
    @property
    def at(self) -> SignaturePlace: ...
    @property
    def by(self) -> AlgorithmName: ...
    @property
    def key(self) -> KeyForm: ...
    @property
    def written(self) -> str: ...
    @property
    def fresh(self) -> Fresh | None: ...
    @property
    def covers(self) -> tuple[str, ...]: ...
    @property
    def needs_url(self) -> bool: ...


def _covers_time(fresh: Fresh, covers: Sequence[str]) -> bool:
    """Whether a function covers the signed time. A time in the signature's own header needs no entry in `covers`."""
    place = fresh.stands_in
    return place.kind == "field" or place.name in map(str.lower, covers)


class SignaturePlan:
    """The prepared verification of one composed signature."""

    def __init__(self, of: SignatureValues) -> None:
        """Raises `WiringError` for values that do not fit together."""
        self._by, self._key = of.by, of.key
        self._encoding = ENCODINGS[of.written]
        self._expected, self._spelled = self._encoding.expected, self._encoding.spelled
        self._is_digest = of.by in DIGESTS
        #: Bytes of the signature; 0 if the size depends on the key.
        self.size = DIGESTS[of.by][1] if self._is_digest else 64 if of.by == "ed25519" else 0
        self._template = Template(of.signed) if isinstance(of.signed, str) else None
        self._function = None if isinstance(of.signed, str) else of.signed
        self.placeholders = [] if self._template is None else self._template.placeholders
        self.has_secret = any(each.kind == "secret" for each in self.placeholders)
        self._check_fit(of)
        covered = of.covers if self._template is None else self._template.headers
        self.signed = frozenset(name.lower() for name in covered)
        time = () if of.fresh is None or of.fresh.stands_in.kind != "header" else (of.fresh.stands_in.name,)
        self.names = tuple(dict.fromkeys([*(name.lower() for name in of.at.headers), *sorted(self.signed), *time]))
        self._wanted = frozenset(map(wire_text, self.names))
        self.freshness = None if of.fresh is None or of.fresh.within is None else FreshnessCheck(of.fresh)
        self.needs_url = of.needs_url or any(each.kind == "url" for each in self.placeholders)
        self.has_path = any(each.kind == "path" for each in self.placeholders)

    def _check_fit(self, of: SignatureValues) -> None:
        places = [*self.placeholders, *([of.fresh.stands_in] if of.fresh is not None else [])]
        for each in places:
            if each.kind == "field" and not of.at.has_fields:
                raise WiringError(
                    f"{{{each.name}}} names a field of {of.at.name}, which has no fields: write {{body}} for the body, "
                    f"{{header:{each.name}}} for a header, or give the `items` and the `field` of its Header(…)."
                )
        if self._template is not None:
            self._check_template(self._template, of)
        elif of.fresh is not None and not _covers_time(of.fresh, of.covers):
            raise WiringError(
                f"{of.fresh.time} is not in `covers`, so a stranger could set it: add it, or remove `fresh`."
            )

    def _check_template(self, template: Template, of: SignatureValues) -> None:
        if of.fresh is not None and of.fresh.stands_in not in self.placeholders:
            raise WiringError(
                f"{of.fresh.time} is not in the template, so a stranger could set it: add it there, or remove `fresh`."
            )
        if not any(each.kind in ("body", "url") for each in self.placeholders):
            raise WiringError(
                f"The template {template.text!r} does not cover the body, so a stranger could change it: add {{body}}."
            )
        if self.has_secret != (of.by == "sha256"):
            raise WiringError('A template needs {secret} with by="sha256", and may not have it otherwise.')

    def headers_of(self, headers: RawHeaders) -> dict[bytes, bytes]:
        """Select the headers that the plan uses. Raises `NotVerified` for a repeated header."""
        wanted = self._wanted
        found: dict[bytes, bytes] = {}
        for name, value in headers:
            if name in wanted:
                if name in found:
                    raise repeated(name.decode(), sum(other == name for other, _ in headers))
                found[name] = value
        return found

    def text_of(
        self, request: WebhookRequest, headers: dict[bytes, bytes], fields: Mapping[bytes, bytes], secret: bytes
    ) -> bytes:
        """Make the signed text. Raises `NotVerified`."""
        if self._template is not None:
            return self._template.text_of(request, headers, fields, secret)
        assert self._function is not None
        text = self._function(request)
        if type(text) is not bytes:
            raise TypeError(f"the function for the signed text returned {type(text).__name__} instead of bytes")
        return text

    def fits(self, secret: bytes, text: bytes, signatures: list[bytes]) -> bool:
        """Whether one of the signatures fits the text and this secret."""
        if self._is_digest:
            expected, spelled = self._expected(self._digest(secret, text)), self._spelled
            # Most requests have one signature, and `any` with a generator would take as long as its comparison.
            for each in signatures:  # noqa: SIM110
                if compare_digest(spelled(each), expected):
                    return True
            return False
        key = algorithms.public_key(secret, self._by, self._key)
        return any(algorithms.is_signed(self._by, key, self._read(each), text) for each in signatures)

    def _digest(self, secret: bytes, text: bytes) -> bytes:
        if self._by == "sha256":
            return sha256(text).digest()
        return algorithms.keyed(self._by, self._key, secret).digest(text)

    def signature(self, secret: bytes, text: bytes) -> str:
        """Compute the encoded signature. Raises `WrongKey`."""
        if self._is_digest:
            return self._encoding.write(self._digest(secret, text))
        key = algorithms.private_key(secret, self._by, self._key)
        return self._encoding.write(algorithms.signed(self._by, key, text))

    def is_well_formed(self, signature: bytes) -> bool:
        """Whether the text has the form of a signature."""
        read = self._read(signature)
        return bool(read) and self.size in (0, len(read))

    def _read(self, signature: bytes) -> bytes:
        """Decode a signature; empty bytes if it is malformed."""
        try:
            return self._encoding.read(signature)
        except ValueError:
            return b""
