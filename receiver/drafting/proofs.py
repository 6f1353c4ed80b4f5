"""Proofs: which signature the headers of a captured request look like, and how the dialect says so."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from receiver import senders
from receiver.dialects.headers import names_secret
from receiver.drafting.naming import literal, words_in
from receiver.errors import HookmirrorError, NotVerified
from receiver.verify.composed import Signature
from receiver.verify.freshness import Fresh
from receiver.verify.places import Header
from receiver.verify.request import WebhookRequest
from receiver.verify.signatures import HmacSha256, Unsigned
from receiver.verify.verifiers import Credentials, Secret, Verifier

#: Words in the names of headers that carry a proof.
_PROOF = frozenset({"signature", "sig", "hmac", "sign", "digest"})

#: Words in the names of headers that carry a time.
_TIME = frozenset({"timestamp", "time", "ts"})

#: The digits of a digest in hexadecimal, and the algorithm that makes so many.
_HEX: Mapping[int, str] = {64: "hmac_sha256", 40: "hmac_sha1", 128: "hmac_sha512"}

#: The same for base64.
_BASE64 = {44: "hmac_sha256", 43: "hmac_sha256", 28: "hmac_sha1", 88: "hmac_sha512"}

_HEX_DIGITS = re.compile(r"[0-9a-f]+", re.I)

_BASE64_SIGNS = re.compile(r"[0-9A-Za-z+/_-]+=*")

_PREFIXED = re.compile(r"(?P<prefix>[A-Za-z0-9-]{1,12}[=:])(?P<rest>.+)")

#: Classes of `receiver` that a drafted module may call.
_MADE_BY: Mapping[str, Any] = {"HmacSha256": HmacSha256, "Signature": Signature, "Header": Header, "Fresh": Fresh}


@dataclass(frozen=True, slots=True)
class CodeCall:
    """A call of a public name, to be written down and to be made."""

    name: str
    args: tuple[Any, ...] = ()
    named: Mapping[str, Any] = field(default_factory=dict)

    @property
    def code(self) -> str:
        """The call as Python writes it."""
        return f"{self.name}({', '.join(self.parts)})"

    @property
    def parts(self) -> list[str]:
        """The code of each argument."""
        return [*map(_code, self.args), *(f"{name}={_code(value)}" for name, value in self.named.items())]

    @property
    def names(self) -> set[str]:
        """The names that a module imports for it."""
        inner = [each for each in (*self.args, *self.named.values()) if isinstance(each, CodeCall)]
        return {self.name}.union(*(each.names for each in inner))

    def make(self) -> Any:
        """The value that the call returns."""
        made = [each.make() if isinstance(each, CodeCall) else each for each in self.args]
        named = {name: each.make() if isinstance(each, CodeCall) else each for name, each in self.named.items()}
        return (_MADE_BY.get(self.name) or getattr(senders, self.name))(*made, **named)


@dataclass(frozen=True, slots=True)
class Proof:
    """How a sender proves itself, by its headers."""

    call: CodeCall
    #: The headers that it reads, in lower case.
    headers: tuple[str, ...]
    #: What it is believed by.
    because: str
    #: Whether it is a vendor's form, imported from `receiver.senders`.
    is_short_form: bool = False
    #: Whether a secret has confirmed it.
    is_confirmed: bool = False


def proof_of(headers: Mapping[str, str], body: bytes, secrets: Sequence[bytes] = ()) -> Proof | None:
    """The likeliest proof of this request, or with secrets the first that one of them confirms; None for none."""
    likely = list(_proofs(headers))
    for proof in likely if secrets else ():
        if _verifies(proof.call.make(), headers, body, secrets):
            return Proof(proof.call, proof.headers, "confirmed by the secret", proof.is_short_form, is_confirmed=True)
    return likely[0] if likely else None


def secret_header(headers: Mapping[str, str]) -> str | None:
    """The name of a header that seems to carry the secret itself; None without one."""
    return next(filter(names_secret, headers), None)


def unsigned() -> CodeCall:
    """No proof at all."""
    return CodeCall(Unsigned.__name__)


def _verifies(verifier: Verifier, headers: Mapping[str, str], body: bytes, secrets: Sequence[bytes]) -> bool:
    wire = [(name.encode("latin-1", "replace"), value.encode("latin-1", "replace")) for name, value in headers.items()]
    request = WebhookRequest(body, wire, at=datetime.now(UTC))
    try:
        verifier.verify(request, Credentials(secrets=tuple(map(Secret, secrets))))
    except NotVerified as refusal:
        # The signature is right, and a capture is older than a sender's retry may be.
        return refusal.code == "signature_stale"
    except (HookmirrorError, ValueError):
        return False
    return True


def _proofs(headers: Mapping[str, str]) -> Iterator[Proof]:
    """What these headers may prove, the likeliest first."""
    yield from sorted(_known(headers), key=lambda proof: -len(proof.headers))
    named = [name for name in headers if not _PROOF.isdisjoint(words_in(name))]
    for name in sorted(named, key=lambda each: "256" not in each):
        yield from _composed(name, headers)


def _known(headers: Mapping[str, str]) -> Iterator[Proof]:
    """The short forms of vendors all of whose headers are there."""
    for name, make in vars(senders).items():
        if not name[0].isupper() or getattr(make, "func", None) is None:
            continue
        verifier = make()
        needed = tuple(each.lower() for each in getattr(verifier, "signature_headers", ()))
        if needed and all(each in headers for each in needed) and _is_written_so(verifier, headers):
            yield Proof(CodeCall(name), needed, f"by {', '.join(needed).title()}", is_short_form=True)


def _is_written_so(verifier: Signature, headers: Mapping[str, str]) -> bool:
    """Whether the signature in these headers can be read as this one's."""
    try:
        wire = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in headers.items()]
        found = verifier.at.find(WebhookRequest(b"", wire), dict(wire))
    except (NotVerified, ValueError):
        return False
    if found is None or not found[0]:
        return False
    written, by = _digest_in(found[0][0].decode("latin-1"))
    return written == verifier.written and by in (verifier.by, None)


def _composed(name: str, headers: Mapping[str, str]) -> Iterator[Proof]:
    """Signatures that one header may carry, as its value looks."""
    value, shown = headers[name], name.title()
    because = f"by the form of {shown}"
    fields = dict(item.strip().partition("=")[::2] for item in value.split(","))
    if "t" in fields and len(fields) > 1:
        version = next(each for each in fields if each != "t")
        place = CodeCall("Header", (shown,), {"items": ",", "field": version})
        call = CodeCall("Signature", ("{t}.{body}",), {"at": place, "fresh": CodeCall("Fresh", ("{t}",))})
        yield Proof(call, (name,), because)
        return
    prefixed = _PREFIXED.fullmatch(value)
    prefix, (written, by) = "", _digest_in(value)
    if written is None and prefixed is not None:
        prefix, (written, by) = prefixed["prefix"], _digest_in(prefixed["rest"])
    if written is None or by is None:
        return
    plain = _over_body(shown, prefix, written, by)
    timed = _over_time(shown, headers, prefix, written, by)
    # A sender that sends a time beside its signature nearly always signs it.
    yield from (Proof(call, (name, time), because) for call, time in timed)
    yield Proof(plain, (name,), because)


def _over_body(name: str, prefix: str, written: str, by: str) -> CodeCall:
    if by == "hmac_sha256" and written in ("hex", "base64") and prefix in ("", "sha256="):
        given: dict[str, Any] = {"header": name}
        if written == "base64":
            given |= {"encoding": "base64", "prefix": prefix}
        return CodeCall("HmacSha256", (), given)
    return CodeCall("Signature", ("{body}",), _parts(name, prefix, written, by))


def _over_time(name: str, headers: Mapping[str, str], prefix: str, written: str, by: str) -> list[tuple[CodeCall, str]]:
    """Signatures over the body and a time that another header says, each with that header."""
    found = []
    for time, value in headers.items():
        unit = _unit_of(value)
        if _TIME.isdisjoint(words_in(time)) or unit is None:
            continue
        place = f"{{{time.title()}}}"
        fresh = CodeCall("Fresh", (place,), {} if unit == "seconds" else {"unit": unit})
        for between in (".", "", ":"):
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
    """The unit of a time as a header writes it; None for what is no time."""
    if value.isascii() and value.isdigit():
        return {10: "seconds", 13: "milliseconds"}.get(len(value))
    try:
        return "iso" if datetime.fromisoformat(value).tzinfo is not None else None
    except ValueError:
        return None


def _digest_in(text: str) -> tuple[str, str] | tuple[None, None] | tuple[str, None]:
    """How a digest is written, and the algorithm that makes one of that length; nothing for other texts."""
    if _HEX_DIGITS.fullmatch(text) and len(text) in _HEX:
        return "hex", _HEX[len(text)]
    if _BASE64_SIGNS.fullmatch(text) and len(text) > 20:
        written = "base64url" if "-" in text or "_" in text else "base64"
        return (written, _BASE64[len(text)]) if len(text) in _BASE64 else (written, None)
    return None, None


def _code(value: Any) -> str:
    if isinstance(value, CodeCall):
        return value.code
    return literal(value) if isinstance(value, str) else repr(value)
