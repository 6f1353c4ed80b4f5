"""Makes the text of a user's module with a small dialect, whose handlers a test edits."""

from __future__ import annotations

from string import Template

_MODULE = Template("""
import os
from datetime import datetime
from typing import Any
from pydantic import AwareDatetime, BaseModel
from handlers.catalog import Product
from receiver import Dialect, Envelope, Event, HmacSha256, Mirror

$variable = Dialect("$name", verify=HmacSha256(header="X-Webhook-Signature"))

class Body(BaseModel):
    type: str
    id: str
    timestamp: AwareDatetime
    data: Any = None

@$variable.envelope
def read(body: Body) -> Envelope:
    return Envelope(event_type=body.type, entity=("product", body.id), occurred_at=body.timestamp, data=body.data)

@$variable.on("product.updated")
def upsert(event: Event[Any], mirror: Mirror) -> None:
    $handler
""")


def dialect_module(name: str, *, handler: str, variable: str = "dialect") -> str:
    """Write a module whose `variable` is a dialect of this name; the statements are its handler of updates."""
    return _MODULE.substitute(name=name, handler=handler, variable=variable)
