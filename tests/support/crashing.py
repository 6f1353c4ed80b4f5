"""A worker in a process of its own, with a dialect in a folder, for handlers that end their process."""

from __future__ import annotations

import os
from pathlib import Path

from forked import Forked

#: A dialect whose handler ends the whole process for one entity, like an extension module that crashes.
DIALECT = """
import os
from pydantic import AwareDatetime, BaseModel
from handlers.catalog import Product
from receiver import Dialect, Envelope, Event, HmacSha256, Mirror

shop = Dialect("shop", verify=HmacSha256(header="X-Webhook-Signature"))

class Body(BaseModel):
    type: str
    id: str
    timestamp: AwareDatetime
    data: dict | None = None

@shop.envelope
def read(body: Body) -> Envelope:
    return Envelope(event_type=body.type, entity=("product", body.id), occurred_at=body.timestamp, data=body.data)

@shop.on("product.updated")
def upsert(event: Event[dict], mirror: Mirror) -> None:
    if event.entity_id == "POISON":
        os._exit(66)
    mirror.upsert(Product, event.entity_id, name=event.data["name"])
"""

SETTINGS = """
secret_key = "secret-key-of-these-tests-only"
database_url = "{database_url}"
dialects = ["poisonous:shop"]
max_attempts = {max_attempts}
lease_seconds = 600

[sources.shop]
secrets = ["TestSecretOf32CharactersForTests"]
"""


def start_worker(folder: Path, database_url: str, *, max_attempts: int) -> Forked:
    """Start `hookmirror worker` on the database, set up in the folder. It ends at POISON, or when it is terminated."""
    (folder / "poisonous.py").write_text(DIALECT)
    settings = folder / "hookmirror.toml"
    settings.write_text(SETTINGS.format(database_url=database_url, max_attempts=max_attempts))
    return Forked(["worker"], folder, {**os.environ, "HOOKMIRROR_CONFIG": str(settings)})
