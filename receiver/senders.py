"""Short forms for senders that many people have: each is a `Signature` or a `Token` as its vendor documents it.

All take the arguments of that, to change a part: `Stripe(fresh=Fresh("{t}", within=timedelta(hours=1)))`.
"""

from __future__ import annotations

import json
from base64 import b64encode
from collections.abc import Callable
from datetime import timedelta
from functools import partial
from hashlib import sha256
from hmac import compare_digest
from typing import Any
from urllib.parse import parse_qsl, quote, unquote
from zlib import crc32

from receiver import codec
from receiver.errors import NotVerified, Unreadable
from receiver.verify.composed import Signature
from receiver.verify.freshness import Fresh
from receiver.verify.places import BodyMember, Header, Headers
from receiver.verify.request import WebhookRequest
from receiver.verify.token import Token

#: A short form: called without arguments, it is the signature of its sender.
Sender = Callable[..., Signature]

#: The same for senders that sign nothing, and show a secret.
TokenSender = Callable[..., Token]

_STANDARD = "{webhook-id}.{webhook-timestamp}.{body}"
_SVIX = "{svix-id}.{svix-timestamp}.{body}"


def _listed(header: str, version: str) -> Header:
    """A list as Standard Webhooks writes it: `v1,… v1a,…`."""
    return Header(header, items=" ", field=version, between=",")


_in_base64: Callable[..., Signature] = partial(Signature, written="base64")

#: The specification's version 1: a secret of both sides, `whsec_…`.
StandardWebhooks: Sender = partial(
    _in_base64,
    _STANDARD,
    at=_listed("webhook-signature", "v1"),
    key="whsec",
    fresh=Fresh("{webhook-timestamp}"),
)

#: Its version 1a: the secret is the sender's public key, `whpk_…`.
StandardWebhooksPublicKey: Sender = partial(
    _in_base64,
    _STANDARD,
    at=_listed("webhook-signature", "v1a"),
    by="ed25519",
    key="whpk",
    fresh=Fresh("{webhook-timestamp}"),
)

Svix: Sender = partial(
    _in_base64, _SVIX, at=_listed("svix-signature", "v1"), key="whsec", fresh=Fresh("{svix-timestamp}")
)

#: Its secret is text, although the headers are those of Standard Webhooks.
BigCommerce: Sender = partial(StandardWebhooks, key="text")

#: The whole `whsec_…` is the key. A time ahead passes, as in the vendor's own libraries.
Stripe: Sender = partial(
    Signature,
    "{t}.{body}",
    at=Header("Stripe-Signature", items=",", field="v1"),
    fresh=Fresh("{t}", past_only=True),
    looks_like="whsec_.+",
)

GitHub: Sender = partial(Signature, "{body}", at=Header("X-Hub-Signature-256", prefix="sha256="))

Meta: Sender = GitHub

#: Its secret token. A webhook with a signing token is verified by `StandardWebhooks`, and needs none.
GitLab: TokenSender = partial(Token, header="X-Gitlab-Token")

#: The `clientState` that the subscriber chose, in each notification of a body.
BusinessCentral: TokenSender = partial(Token, body="value[].clientState")

Shopify: Sender = partial(_in_base64, "{body}", at=Header("X-Shopify-Hmac-Sha256"))

WooCommerce: Sender = partial(_in_base64, "{body}", at=Header("X-WC-Webhook-Signature"))

Shopware: Sender = partial(Signature, "{body}", at=Header("shopware-shop-signature"))

Squarespace: Sender = partial(Signature, "{body}", at=Header("Squarespace-Signature"), key="hex")

#: Signs the URL as it is registered, letter for letter: it wants `public_url`.
Square: Sender = partial(_in_base64, "{url}{body}", at=Header("x-square-hmacsha256-signature"))

Slack: Sender = partial(
    Signature,
    "v0:{X-Slack-Request-Timestamp}:{body}",
    at=Header("X-Slack-Signature", prefix="v0="),
    fresh=Fresh("{X-Slack-Request-Timestamp}"),
)

Zoom: Sender = partial(
    Signature,
    "v0:{x-zm-request-timestamp}:{body}",
    at=Header("x-zm-signature", prefix="v0="),
    fresh=Fresh("{x-zm-request-timestamp}"),
)

Akeneo: Sender = partial(Signature, "{body}", at=Headers("X-AKENEO-SIGNATURE-PRIMARY", "X-AKENEO-SIGNATURE-SECONDARY"))

AkeneoEvents: Sender = partial(
    Signature,
    "{X-Akeneo-Request-Timestamp}.{body}",
    at=Header("X-Akeneo-Request-Signature"),
    fresh=Fresh("{X-Akeneo-Request-Timestamp}"),
)

Zendesk: Sender = partial(
    _in_base64,
    "{X-Zendesk-Webhook-Signature-Timestamp}{body}",
    at=Header("X-Zendesk-Webhook-Signature"),
    fresh=Fresh("{X-Zendesk-Webhook-Signature-Timestamp}", unit="iso"),
)

Xero: Sender = partial(_in_base64, "{body}", at=Header("x-xero-signature"))

QuickBooks: Sender = partial(_in_base64, "{body}", at=Header("intuit-signature"))

Frappe: Sender = partial(_in_base64, "{body}", at=Header("X-Frappe-Webhook-Signature"))

Storyblok: Sender = partial(Signature, "{body}", at=Header("webhook-signature"), by="hmac_sha1")

Sanity: Sender = partial(
    Signature,
    "{t}.{body}",
    at=Header("sanity-webhook-signature", items=",", field="v1"),
    written="base64url",
    fresh=Fresh("{t}", unit="milliseconds", within=None),
)

#: Signs the base64 of the body.
AdobeCommerce: Sender = partial(
    _in_base64,
    lambda request: b64encode(request.body),
    at=Header("x-adobe-commerce-webhook-signature"),
    by="rsa_sha256",
    key="pem",
)

Pimcore: Sender = partial(_in_base64, "{body}", at=Header("x-pimcore-signature"), by="rsa_sha1", key="pem")

AdyenHeader: Sender = partial(_in_base64, "{body}", at=Header("HmacSignature"), key="hex")


# ── texts that no template writes ─────────────────────────────────────────────────────────────────────────────

#: HubSpot decodes these escapes of the URL before it signs: `: / ? @ ! $ ' ( ) * , ;`.
_ESCAPES_OF_HUBSPOT = ("3A", "2F", "3F", "40", "21", "24", "27", "28", "29", "2A", "2C", "3B")


def hubspot_text(request: WebhookRequest) -> bytes:
    """Method, URL, body and time in milliseconds, one after the other."""
    url = request.url
    for code in _ESCAPES_OF_HUBSPOT if "%" in url else ():
        url = url.replace(f"%{code}", unquote(f"%{code}")).replace(f"%{code.lower()}", unquote(f"%{code}"))
    time = request.header("X-HubSpot-Request-Timestamp") or b""
    return request.method.encode() + url.encode("latin-1") + request.body + time


#: Version 3.
HubSpot: Sender = partial(
    _in_base64,
    hubspot_text,
    at=Header("X-HubSpot-Signature-v3"),
    covers=("X-HubSpot-Request-Timestamp",),
    needs_url=True,
    fresh=Fresh("{X-HubSpot-Request-Timestamp}", unit="milliseconds", past_only=True),
)

HubSpotV1: Sender = partial(Signature, "{secret}{body}", at=Header("X-HubSpot-Signature"), by="sha256")

HubSpotV2: Sender = partial(Signature, "{secret}{method}{url}{body}", at=Header("X-HubSpot-Signature"), by="sha256")


#: Fields of a form that Twilio sends.
MOST_TWILIO_FIELDS = 1_000


def twilio_text(request: WebhookRequest) -> bytes:
    """The URL, and of a form each name with its value, sorted, equal pairs once.

    Another body is proved by its SHA-256 in the query, `bodySHA256`. Raises `NotVerified` if that does not fit.
    """
    query = dict(parse_qsl(request.query, keep_blank_values=True))
    claimed = query.get("bodySHA256")
    if claimed is not None:
        # As bytes, because text that is not ASCII cannot be compared in constant time.
        if not compare_digest(sha256(request.body).hexdigest().encode(), claimed.lower().encode("utf-8", "replace")):
            raise NotVerified("signature_wrong", "The body does not fit `bodySHA256` in the URL, which is signed.")
        return request.url.encode("latin-1")
    try:
        pairs = parse_qsl(
            request.body.decode("ascii"),
            keep_blank_values=True,
            strict_parsing=bool(request.body),
            # The body is a stranger's until it is verified, and every ack waits while it is sorted.
            max_num_fields=MOST_TWILIO_FIELDS,
        )
    except ValueError:
        raise NotVerified(
            "signature_malformed", "The body is not a form, and the URL has no `bodySHA256` to prove it."
        ) from None
    fields = "".join(f"{name}{value}" for name, value in sorted(set(pairs)))
    return request.url.encode("latin-1") + fields.encode()


Twilio: Sender = partial(_in_base64, twilio_text, at=Header("X-Twilio-Signature"), by="hmac_sha1", needs_url=True)

_HYGRAPH = Header("gcms-signature", items=",", field="sign")


def hygraph_text(request: WebhookRequest) -> bytes:
    """Compact JSON of the body as text, the environment and the time. Raises `NotVerified`."""
    fields = _HYGRAPH.fields(request)
    try:
        body, environment, time = request.body.decode(), fields[b"env"].decode(), int(fields[b"t"][:18])
    except (KeyError, ValueError):
        raise NotVerified(
            "signature_malformed", "gcms-signature has no `env` or no `t`, or the body is not UTF-8."
        ) from None
    text = {"Body": body, "EnvironmentName": environment, "TimeStamp": time}
    return json.dumps(text, ensure_ascii=False, separators=(",", ":")).encode()


Hygraph: Sender = partial(_in_base64, hygraph_text, at=_HYGRAPH, fresh=None)

_CONTENTFUL_NAMES = "X-Contentful-Signed-Headers"

_ALWAYS_SIGNED = {"x-contentful-signed-headers", "x-contentful-timestamp"}

#: The bytes of a query that the vendor's library leaves as they are; it escapes `%` twice.
_SAFE_IN_QUERIES = "!'()*-._~"

#: Headers that a request may name as signed: each puts a value into the text, even one that stands there again.
MOST_SIGNED_NAMES = 64

#: Characters of the list of their names, which is a stranger's until it is verified.
LONGEST_LIST_OF_NAMES = 2_048


def contentful_text(request: WebhookRequest) -> bytes:
    """Method, path, the signed headers as `name:value` joined by `;`, and the body, a line each.

    Raises `NotVerified`.
    """
    path, mark, query = request.path.partition("?")
    # The vendor's library encodes the query as a whole, and then what it made of it again.
    escaped = quote(quote(unquote(query), safe=_SAFE_IN_QUERIES), safe=_SAFE_IN_QUERIES) if mark else ""
    listed = (request.header(_CONTENTFUL_NAMES) or b"").decode("latin-1")
    names = [name.strip().lower() for name in listed.split(",")]
    if len(listed) > LONGEST_LIST_OF_NAMES or len(names) > MOST_SIGNED_NAMES:
        raise NotVerified("signature_malformed", f"{_CONTENTFUL_NAMES} names more than {MOST_SIGNED_NAMES} headers.")
    if not _ALWAYS_SIGNED.issubset(names):
        raise NotVerified("signature_malformed", f"{_CONTENTFUL_NAMES} does not name itself and the time.")
    pairs = []
    for name in names:
        value = request.header(name) if name else None
        if value is None:
            raise NotVerified("signature_missing", f"There is no header {name!r}, which {_CONTENTFUL_NAMES} names.")
        pairs.append(f"{name}:{value.decode('latin-1').strip()}")
    head = "\n".join((request.method, f"{path}{mark}{escaped}", ";".join(pairs)))
    return head.encode("latin-1") + b"\n" + request.body


#: The topic is signed, where the vendor's signed headers name it.
Contentful: Sender = partial(
    Signature,
    contentful_text,
    at=Header("X-Contentful-Signature"),
    covers=("X-Contentful-Topic", _CONTENTFUL_NAMES, "X-Contentful-Timestamp"),
    listed_in=_CONTENTFUL_NAMES,
    looks_like=".{64}",
    fresh=Fresh("{X-Contentful-Timestamp}", unit="milliseconds", within=timedelta(seconds=30), past_only=True),
)

_ADYEN = ("pspReference", "originalReference", "merchantAccountCode", "merchantReference")


def adyen_text(request: WebhookRequest) -> bytes:
    """Eight fields of the item, joined by colons. Raises `NotVerified` for a body that is not one item."""
    try:
        item = codec.decode(request.body)
    except Unreadable:
        item = None
    amount = item.get("amount") if isinstance(item, dict) else None
    if not isinstance(item, dict) or not isinstance(amount, dict):
        raise NotVerified("signature_malformed", "The body is not one notification item with its `amount`.")
    values: list[Any] = [item.get(name) for name in _ADYEN]
    values += [amount.get("value"), amount.get("currency"), item.get("eventCode"), item.get("success")]
    return ":".join(map(_as_adyen_writes, values)).encode("utf-8", "replace")


def _as_adyen_writes(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    return "" if value is None else str(value)


#: One item alone: its signature stands in it.
AdyenItem: Sender = partial(_in_base64, adyen_text, at=BodyMember("additionalData.hmacSignature"), key="hex")


def sns_text(request: WebhookRequest) -> bytes:
    """The lines of a message of AWS SNS: names and values of the signed members. Raises `NotVerified`."""
    try:
        message = codec.decode(request.body)
    except Unreadable:
        message = None
    if not isinstance(message, dict):
        raise NotVerified("signature_malformed", "The body is not a message of SNS.")
    confirms = message.get("Type") in ("SubscriptionConfirmation", "UnsubscribeConfirmation")
    middle = ("SubscribeURL", "Timestamp", "Token") if confirms else ("Subject", "Timestamp")
    lines = []
    for name in ("Message", "MessageId", *middle, "TopicArn", "Type"):
        value = message.get(name)
        if value is None and name == "Subject":
            continue
        if not isinstance(value, str):
            raise NotVerified("signature_malformed", f"The body has no `{name}`, which SNS signs.")
        lines.append(f"{name}\n{value}\n")
    return "".join(lines).encode("utf-8", "replace")


def paypal_text(webhook_id: str) -> Callable[[WebhookRequest], bytes]:
    """Makes the function for a webhook of PayPal: id and time of the transmission, the webhook's id, a checksum."""

    def text(request: WebhookRequest) -> bytes:
        sent = (request.header("PayPal-Transmission-Id"), request.header("PayPal-Transmission-Time"))
        if None in sent or any(b"|" in (value or b"") for value in sent):
            raise NotVerified("signature_missing", "There is no PayPal-Transmission-Id or PayPal-Transmission-Time.")
        return b"|".join([*(value or b"" for value in sent), webhook_id.encode(), b"%d" % crc32(request.body)])

    return text
