"""Hookmirror's framework: the public names with which dialects and handlers are written.

Each name is loaded at its first use (docs/decisions/0049-public-names-are-loaded-at-their-first-use.md).
"""

from __future__ import annotations

#: Type checkers treat a variable of this name as true, wherever it is defined. Importing it from `typing` would take
#: longer than this whole module.
TYPE_CHECKING = False

if TYPE_CHECKING:
    from receiver.dialects.challenges import ChallengeRequest, Consent, EchoBody, EchoQuery, FormPing, SignedToken
    from receiver.dialects.dialect import Dialect
    from receiver.dialects.items import each
    from receiver.dialects.listing import Listed, ListPage, Wanted
    from receiver.dialects.replies import SenderReply
    from receiver.envelope import ARRIVAL, Envelope, Event
    from receiver.errors import ApiError, ChallengeRefused, Discard, HookmirrorError, NotVerified, Retry, Unreadable
    from receiver.header_values import TrustedValue
    from receiver.mirror import changes as changes
    from receiver.mirror.news import Mirror
    from receiver.mirror.rows import MirrorRow, document_field, price_field, time_field
    from receiver.mirror.versions import Patch
    from receiver.settings.settings import SourceSettings
    from receiver.verify.ciphers import EncryptedBody
    from receiver.verify.composed import Signature
    from receiver.verify.freshness import Fresh
    from receiver.verify.places import BodyMember, Header, Headers, SignaturePlace
    from receiver.verify.request import WebhookRequest
    from receiver.verify.signatures import HmacSha256, Unsigned
    from receiver.verify.token import Token
    from receiver.verify.verifiers import Credentials, Secret, Verified, Verifier
    from receiver.verify.web_signatures import BodyHashJwt, DetachedJws

#: The names by the modules that define them, as in the imports above. `changes` is a module itself.
_HOMES = {
    "receiver.dialects.challenges": ("ChallengeRequest", "Consent", "EchoBody", "EchoQuery", "FormPing", "SignedToken"),
    "receiver.dialects.dialect": ("Dialect",),
    "receiver.dialects.items": ("each",),
    "receiver.dialects.listing": ("Listed", "ListPage", "Wanted"),
    "receiver.dialects.replies": ("SenderReply",),
    "receiver.envelope": ("ARRIVAL", "Envelope", "Event"),
    "receiver.errors": (
        "ApiError",
        "ChallengeRefused",
        "Discard",
        "HookmirrorError",
        "NotVerified",
        "Retry",
        "Unreadable",
    ),
    "receiver.header_values": ("TrustedValue",),
    "receiver.mirror.changes": ("changes",),
    "receiver.mirror.news": ("Mirror",),
    "receiver.mirror.rows": ("MirrorRow", "document_field", "price_field", "time_field"),
    "receiver.mirror.versions": ("Patch",),
    "receiver.settings.settings": ("SourceSettings",),
    "receiver.verify.ciphers": ("EncryptedBody",),
    "receiver.verify.composed": ("Signature",),
    "receiver.verify.freshness": ("Fresh",),
    "receiver.verify.places": ("BodyMember", "Header", "Headers", "SignaturePlace"),
    "receiver.verify.request": ("WebhookRequest",),
    "receiver.verify.signatures": ("HmacSha256", "Unsigned"),
    "receiver.verify.token": ("Token",),
    "receiver.verify.verifiers": ("Credentials", "Secret", "Verified", "Verifier"),
    "receiver.verify.web_signatures": ("BodyHashJwt", "DetachedJws"),
}

_HOME_OF = {name: home for home, names in _HOMES.items() for name in names}

if not TYPE_CHECKING:

    def __getattr__(name: str) -> object:
        """Load a public name. Hidden from type checkers, which would take any name for a public one."""
        home = _HOME_OF.get(name)
        if home is None:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        from importlib import import_module

        module = import_module(home)
        found = module if home.endswith(f".{name}") else getattr(module, name)
        globals()[name] = found
        return found


__all__ = [
    "ARRIVAL",
    "ApiError",
    "BodyHashJwt",
    "BodyMember",
    "ChallengeRefused",
    "ChallengeRequest",
    "Consent",
    "Credentials",
    "DetachedJws",
    "Dialect",
    "Discard",
    "EchoBody",
    "EchoQuery",
    "EncryptedBody",
    "Envelope",
    "Event",
    "FormPing",
    "Fresh",
    "Header",
    "Headers",
    "HmacSha256",
    "HookmirrorError",
    "ListPage",
    "Listed",
    "Mirror",
    "MirrorRow",
    "NotVerified",
    "Patch",
    "Retry",
    "Secret",
    "SenderReply",
    "Signature",
    "SignaturePlace",
    "SignedToken",
    "SourceSettings",
    "Token",
    "TrustedValue",
    "Unreadable",
    "Unsigned",
    "Verified",
    "Verifier",
    "Wanted",
    "WebhookRequest",
    "document_field",
    "each",
    "price_field",
    "time_field",
]


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
