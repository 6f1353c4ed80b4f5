"""Hookmirror's framework: verified webhooks in, a correct mirror out. What dialects and handlers are written with."""

from receiver.dialects.challenges import ChallengeRequest, Consent, EchoBody, EchoQuery, FormPing, SignedToken
from receiver.dialects.dialect import Dialect
from receiver.dialects.items import each
from receiver.dialects.listing import Listed, ListPage, Wanted
from receiver.dialects.replies import SenderReply
from receiver.envelope import ARRIVAL, Envelope, Event
from receiver.errors import ApiError, ChallengeRefused, Discard, HookmirrorError, NotVerified, Retry, Unreadable
from receiver.header_values import TrustedValue
from receiver.mirror import changes as changes
from receiver.mirror.rows import Mirror, MirrorRow, document_field, price_field, time_field
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
