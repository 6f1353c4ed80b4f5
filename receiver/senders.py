"""Short forms for widespread senders: each is a `Signature` or a `Token` with the values that its vendor documents.

Each takes the arguments of its class, to change a value: `Stripe(fresh=Fresh("{t}", within=timedelta(hours=1)))`.
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

#: A short form that returns the signature of its sender when called without arguments.
Sender = Callable[..., Signature]

#: A short form for senders that sign nothing and send a secret instead.
TokenSender = Callable[..., Token]

_STANDARD = "{webhook-id}.{webhook-timestamp}.{body}"
_SVIX = "{svix-id}.{svix-timestamp}.{body}"


def _listed(header: str, version: str) -> Header:
    """A header with a list in the form of Standard Webhooks: `v1,… v1a,…`."""
    return Header(header, items=" ", field=version, between=",")


_in_base64: Callable[..., Signature] = partial(Signature, written="base64")

#: Version 1 of the specification: both sides share a secret, `whsec_…`.
StandardWebhooks: Sender = partial(
    _in_base64,
    _STANDARD,
    at=_listed("webhook-signature", "v1"),
    key="whsec",
    fresh=Fresh("{webhook-timestamp}"),
)

#: Version 1a of the specification: the secret is the sender's public key, `whpk_…`.
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

#: The headers are those of Standard Webhooks, but the secret is plain text.
BigCommerce: Sender = partial(StandardWebhooks, key="text")

#: The whole text `whsec_…` is the key. A time in the future is accepted, as in the vendor's own libraries.
Stripe: Sender = partial(
    Signature,
    "{t}.{body}",
    at=Header("Stripe-Signature", items=",", field="v1"),
    fresh=Fresh("{t}", past_only=True),
    looks_like="whsec_.+",
)

GitHub: Sender = partial(Signature, "{body}", at=Header("X-Hub-Signature-256", prefix="sha256="))

Meta: Sender = GitHub

#: For webhooks with a secret token. Webhooks with a signing token are verified by `StandardWebhooks`.
GitLab: TokenSender = partial(Token, header="X-Gitlab-Token")

#: The token is the `clientState` that the subscriber chose, in each notification of a body.
BusinessCentral: TokenSender = partial(Token, body="value[].clientState")

Shopify: Sender = partial(_in_base64, "{body}", at=Header("X-Shopify-Hmac-Sha256"))

WooCommerce: Sender = partial(_in_base64, "{body}", at=Header("X-WC-Webhook-Signature"))

Shopware: Sender = partial(Signature, "{body}", at=Header("shopware-shop-signature"))

Squarespace: Sender = partial(Signature, "{body}", at=Header("Squarespace-Signature"), key="hex")

#: The signature covers the registered URL, letter for letter, so the settings need `public_url`.
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

#: The signature covers the base64 of the body.
AdobeCommerce: Sender = partial(
    _in_base64,
    lambda request: b64encode(request.body),
    at=Header("x-adobe-commerce-webhook-signature"),
    by="rsa_sha256",
    key="pem",
)

Pimcore: Sender = partial(_in_base64, "{body}", at=Header("x-pimcore-signature"), by="rsa_sha1", key="pem")

AdyenHeader: Sender = partial(_in_base64, "{body}", at=Header("HmacSignature"), key="hex")


# ── functions for signed texts that a template cannot describe ────────────────────────────────────────────────

#: HubSpot decodes these escapes of the URL before it signs: `: / ? @ ! $ ' ( ) * , ;`.
_ESCAPES_OF_HUBSPOT = ("3A", "2F", "3F", "40", "21", "24", "27", "28", "29", "2A", "2C", "3B")


def hubspot_text(request: WebhookRequest) -> bytes:
    """Join method, URL, body and time in milliseconds."""
    url = request.url
    for code in _ESCAPES_OF_HUBSPOT if "%" in url else ():
        url = url.replace(f"%{code}", unquote(f"%{code}")).replace(f"%{code.lower()}", unquote(f"%{code}"))
    time = request.header("X-HubSpot-Request-Timestamp") or b""
    return request.method.encode() + url.encode("latin-1") + request.body + time


#: Version 3 of the vendor's signatures.
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


#: The most fields of a form.
MOST_TWILIO_FIELDS = 1_000


#: Bounded, because the request is not verified yet, and every ack waits while its fields are parsed and sorted.
_twilio_fields = partial(parse_qsl, keep_blank_values=True, max_num_fields=MOST_TWILIO_FIELDS)


def twilio_text(request: WebhookRequest) -> bytes:
    """Join the URL and the pairs of name and value of a form, sorted and without repeated pairs.

    For a body that is not a form, the signed query contains its SHA-256, `bodySHA256`. Raises `NotVerified` if that
    does not fit.
    """
    try:
        claimed = dict(_twilio_fields(request.query)).get("bodySHA256")
        form = "" if claimed is not None else request.body.decode("ascii")
        pairs = _twilio_fields(form, strict_parsing=bool(form))
    except ValueError:
        raise NotVerified(
            "signature_malformed",
            "The body is not a form, and the URL has no `bodySHA256` to prove it, or one of both has more than "
            f"{MOST_TWILIO_FIELDS:,} fields.",
        ) from None
    if claimed is not None:
        # Compared as bytes, because only ASCII text can be compared in constant time.
        if not compare_digest(sha256(request.body).hexdigest().encode(), claimed.lower().encode("utf-8", "replace")):
            raise NotVerified("signature_wrong", "The body does not fit `bodySHA256` in the URL, which is signed.")
        return request.url.encode("latin-1")
    fields = "".join(f"{name}{value}" for name, value in sorted(set(pairs)))
    return request.url.encode("latin-1") + fields.encode()


Twilio: Sender = partial(_in_base64, twilio_text, at=Header("X-Twilio-Signature"), by="hmac_sha1", needs_url=True)

_HYGRAPH = Header("gcms-signature", items=",", field="sign")


def hygraph_text(request: WebhookRequest) -> bytes:
    """Make compact JSON of the body as text, the environment and the time. Raises `NotVerified`."""
    fields = _HYGRAPH.fields(request)
    try:
        body, environment, time = request.body.decode(), fields[b"env"].decode(), int(fields[b"t"][:18])
    except (KeyError, ValueError):
        raise NotVerified(
            "signature_malformed", "gcms-signature has no `env` or no `t`, or the body is not UTF-8."
        ) from None
    text = {"Body": body, "EnvironmentName": environment, "TimeStamp": time}
    return json.dumps(text, ensure_ascii=False, separators=(",", ":")).encode()


Hygraph: Sender = partial(_in_base64, hygraph_text, at=_HYGRAPH, examples={"env": "master", "t": "1780308000000"})

_CONTENTFUL_NAMES = "X-Contentful-Signed-Headers"

_ALWAYS_SIGNED = {"x-contentful-signed-headers", "x-contentful-timestamp"}

#: The bytes of a query that the vendor's library does not escape. The library escapes `%` twice.
_SAFE_IN_QUERIES = "!'()*-._~"

#: The most headers that a request may name as signed, since each name, even a repeated one, lengthens the text.
MOST_SIGNED_NAMES = 64

#: The most characters of the list of signed headers, which is not verified yet.
LONGEST_LIST_OF_NAMES = 2_048


def contentful_text(request: WebhookRequest) -> bytes:
    """Join the lines with the method, the path, the signed headers (`name:value` separated by `;`) and the body.

    Raises `NotVerified`.
    """
    path, mark, query = request.path.partition("?")
    # The vendor's library encodes the query as a whole, and then encodes the result again.
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


#: The signature covers the topic if the vendor's list of signed headers names it.
Contentful: Sender = partial(
    Signature,
    contentful_text,
    at=Header("X-Contentful-Signature"),
    covers=("X-Contentful-Topic", _CONTENTFUL_NAMES, "X-Contentful-Timestamp"),
    listed_in=_CONTENTFUL_NAMES,
    examples={_CONTENTFUL_NAMES: "x-contentful-signed-headers,x-contentful-timestamp,x-contentful-topic"},
    looks_like=".{64}",
    fresh=Fresh("{X-Contentful-Timestamp}", unit="milliseconds", within=timedelta(seconds=30), past_only=True),
)

_ADYEN = ("pspReference", "originalReference", "merchantAccountCode", "merchantReference")


def adyen_text(request: WebhookRequest) -> bytes:
    """Join eight fields of the item by colons. Raises `NotVerified` for a body that is not one item."""
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


#: The body has one item, which contains the signature.
AdyenItem: Sender = partial(_in_base64, adyen_text, at=BodyMember("additionalData.hmacSignature"), key="hex")


def sns_text(request: WebhookRequest) -> bytes:
    """Join the names and values of the signed members of an AWS SNS message, a line each. Raises `NotVerified`."""
    try:
        message = codec.decode(request.body)
    except Unreadable:
        message = None
    if not isinstance(message, dict):
        raise NotVerified("signature_malformed", "The body is not a message of SNS.")
    confirms = message.get("Type") in ("SubscriptionConfirmation", "UnsubscribeConfirmation")
    subject = () if message.get("Subject") is None else ("Subject",)
    middle = ("SubscribeURL", "Timestamp", "Token") if confirms else (*subject, "Timestamp")
    lines = []
    for name in ("Message", "MessageId", *middle, "TopicArn", "Type"):
        value = message.get(name)
        # SNS signs all topics with one key, and with other line ends a stranger's message could have this topic's text.
        if not isinstance(value, str) or ("\n" in value and name != "Message"):
            raise NotVerified("signature_malformed", f"The body has no `{name}` of one line, which SNS signs.")
        lines.append(f"{name}\n{value}\n")
    return "".join(lines).encode("utf-8", "replace")


def paypal_text(webhook_id: str) -> Callable[[WebhookRequest], bytes]:
    """Make the function for one PayPal webhook: it joins transmission id and time, webhook id and checksum."""

    def text(request: WebhookRequest) -> bytes:
        sent = (request.header("PayPal-Transmission-Id"), request.header("PayPal-Transmission-Time"))
        if None in sent or any(b"|" in (value or b"") for value in sent):
            raise NotVerified("signature_missing", "There is no PayPal-Transmission-Id or PayPal-Transmission-Time.")
        return b"|".join([*(value or b"" for value in sent), webhook_id.encode(), b"%d" % crc32(request.body)])

    return text
