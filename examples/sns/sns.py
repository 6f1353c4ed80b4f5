"""The dialect of a topic of AWS SNS: a verifier of its own, which checks the certificate that a message names."""

from base64 import b64decode
from dataclasses import dataclass, field
from typing import Any, NoReturn

from certificates import Certificates
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding
from pydantic import AwareDatetime, BaseModel

from handlers.catalog import Product
from receiver import Credentials, Dialect, Envelope, Event, Mirror, NotVerified, Verified, Verifier, WebhookRequest
from receiver.codec import decode
from receiver.errors import ConfigurationError
from receiver.senders import sns_text


class SnsSettings(BaseModel):
    #: The ARNs of the topics of this source. SNS signs the messages of all customers' topics with the same certificate.
    topics: list[str]


@dataclass(frozen=True)
class SnsSignature(Verifier):
    certificates: Certificates = field(default_factory=Certificates)

    def check(self, credentials: Credentials) -> str | None:
        if credentials.secrets or credentials.allow_unsigned:
            return "SNS signs with its own key, so secrets and `allow_unsigned` have no effect: remove them"
        return None if credentials.own.topics else "it accepts no topic: set `topics` in its table `settings`"

    def verify(self, request: WebhookRequest, credentials: Credentials) -> Verified:
        text = sns_text(request)
        message = decode(request.body)
        if message["TopicArn"] not in credentials.own.topics:
            raise NotVerified("signature_wrong", "The message is of another topic than those of this source.")
        if message.get("SignatureVersion") != "2":
            raise NotVerified("signature_malformed", "Set SignatureVersion to 2 in the attributes of the topic.")
        key = self.certificates.key(str(message.get("SigningCertURL")))
        try:
            signature = b64decode(str(message.get("Signature")), validate=True)
            key.verify(signature, text, padding.PKCS1v15(), hashes.SHA256())
        except (ValueError, InvalidSignature):
            raise NotVerified("signature_wrong", "The signature does not fit the signed members.") from None
        return Verified(request.body, None)

    def sign(self, request: WebhookRequest, credentials: Credentials) -> NoReturn:
        raise ConfigurationError("This cannot be signed: only SNS has the key.")


sns = Dialect("sns", verify=SnsSignature(), settings=SnsSettings)


class Notification(BaseModel):
    Type: str
    MessageId: str
    Timestamp: AwareDatetime
    Message: str


class Change(BaseModel):
    """The content that our own publisher writes into `Message`."""

    type: str
    id: str
    data: dict[str, Any] | None = None


@sns.envelope
def read(body: Notification) -> Envelope:
    if body.Type != "Notification":
        # Kept and ignored: a person confirms the subscription.
        return Envelope(
            event_type=body.Type, entity=None, occurred_at=body.Timestamp, data=None, dedup_key=body.MessageId
        )
    change = Change.model_validate(decode(body.Message))
    return Envelope(
        event_type=change.type,
        entity=("product", change.id),
        occurred_at=body.Timestamp,
        data=change.data,
        dedup_key=body.MessageId,
    )


class ProductData(BaseModel):
    name: str


@sns.on("product.updated")
def upsert_product(event: Event[ProductData], mirror: Mirror) -> None:
    mirror.upsert(Product, event.entity_id, name=event.data.name)


@sns.on("product.deleted")
def deactivate_product(event: Event[None], mirror: Mirror) -> None:
    mirror.deactivate(Product, event.entity_id)
