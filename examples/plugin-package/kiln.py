"""Kiln: an invented system that signs its bodies with HMAC-SHA256."""

from datetime import datetime
from decimal import Decimal
from typing import Any

from pydantic import AwareDatetime, BaseModel

from receiver import Dialect, Envelope, Event, HmacSha256, Mirror, MirrorRow, price_field

kiln = Dialect("kiln", verify=HmacSha256(header="X-Kiln-Signature"))


class Item(MirrorRow, table=True):
    __tablename__ = "kiln_items"

    name: str | None = None
    price: Decimal | None = price_field()


class ItemData(BaseModel):
    name: str | None = None
    price: Decimal | None = None


class Body(BaseModel):
    message: str
    what: str
    item: str
    when: AwareDatetime
    content: dict[str, Any] | None = None


@kiln.envelope
def read(body: Body) -> Envelope:
    return Envelope(
        event_type=body.what,
        entity=("item", body.item),
        occurred_at=body.when,
        data=body.content,
        dedup_key=body.message,
    )


@kiln.compose
def write(event_type: str, entity_id: str, at: datetime, data: Any) -> Any:
    return {
        "message": f"{event_type} {entity_id} {at.isoformat()}",
        "what": event_type,
        "item": entity_id,
        "when": at.isoformat(),
        "content": data,
    }


@kiln.on("item.*")
def upsert_item(event: Event[ItemData], mirror: Mirror) -> None:
    mirror.upsert(Item, event.entity_id, **event.data.model_dump(exclude_unset=True))


@kiln.on("item.deleted")
def deactivate_item(event: Event[Any], mirror: Mirror) -> None:
    mirror.deactivate(Item, event.entity_id)
