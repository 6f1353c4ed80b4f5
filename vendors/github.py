"""GitHub: repositories as products, and their releases as the variants on offer (docs/senders/github.md has the facts).

The event's name is in a header that the signature does not cover, so the dialect reads the event type from the body's
members.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any

from handlers.catalog import Product, Variant
from handlers.entities import entity_of
from handlers.values import Id, Sent, Text, as_short_text
from receiver import ARRIVAL, Dialect, Envelope, Event, Mirror, Unreadable
from receiver.senders import GitHub
from vendors.values import TEST_EVENT, number_or_text, read_test_event, text_at, write_test_event

github = Dialect("github", verify=GitHub(), form="payload", keep_headers=("X-GitHub-Event", "X-GitHub-Delivery"))

#: The members that events of any kind may have.
AROUND = {"action", "repository", "sender", "organization", "installation", "enterprise", "changes"}


@github.envelope
def read(body: dict[str, Any]) -> Envelope:
    """Read a body. GitHub's events have no time of change, so each has the time of its arrival."""
    if (test := read_test_event(body)) is not None:
        return test
    kind = _kind(body)
    if kind == "ping":
        return Envelope(event_type="ping", entity=None, occurred_at=ARRIVAL, data=None)
    event_type = f"{kind}.{text_at(body, 'action') if 'action' in body else 'none'}"
    entity = None
    if kind in ("repository", "release"):
        entity = entity_of(github, event_type, kind, body.get(kind), ("id",), what=kind)
    return Envelope(event_type=event_type, entity=entity, occurred_at=ARRIVAL, data=body)


def _kind(body: dict[str, Any]) -> str:
    if "zen" in body and "hook_id" in body:
        return "ping"
    if "release" in body:
        return "release"
    if "repository" in body and body.keys() <= AROUND:
        return "repository"
    if not body:
        raise Unreadable("The body is empty, so it does not name a repository or release.")
    return "other"


@github.compose
def write(event_type: str, entity_id: str, at: datetime, data: Any) -> dict[str, Any]:
    if event_type == TEST_EVENT:
        return write_test_event(at)
    kind, _, action = event_type.partition(".")
    own = {"id": number_or_text(entity_id), **(data or {})}
    if kind == "release":
        return {"action": action, "release": own, "repository": own.pop("repository", {"id": 1, "full_name": "a/b"})}
    return {"action": action, kind: own}


class Repository(Sent):
    id: Id
    full_name: Text = None
    archived: bool | None = None
    visibility: Text = None

    def upsert(self, mirror: Mirror) -> None:
        state = "archived" if self.archived else self.visibility
        mirror.upsert(Product, self.id, **self.news(name="full_name"), lifecycle_state=state, data=self.whole)


class Release(Sent):
    id: Id
    tag_name: Text = None
    name: Text = None
    draft: bool = False
    prerelease: bool = False

    def columns(self) -> dict[str, Any]:
        state = "draft" if self.draft else "prerelease" if self.prerelease else "released"
        return {"sku": as_short_text(self.tag_name), "name": self.name or self.tag_name, "lifecycle_state": state}


class RepositoryEvent(Sent):
    repository: Repository


class ReleaseEvent(RepositoryEvent):
    release: Release


CHANGES = ("created", "edited", "renamed", "archived", "unarchived", "publicized", "privatized", "transferred")


@github.on(*(f"repository.{action}" for action in CHANGES))
def upsert_repository(event: Event[RepositoryEvent], mirror: Mirror) -> None:
    event.data.repository.upsert(mirror)


@github.on("repository.deleted")
def deactivate_repository(event: Event[Any], mirror: Mirror) -> None:
    mirror.deactivate(Product, event.entity_id)


@github.on(*(f"release.{action}" for action in ("created", "edited", "published", "released", "prereleased")))
@github.on("release.unpublished")
def upsert_release(event: Event[ReleaseEvent], mirror: Mirror) -> None:
    event.data.repository.upsert(mirror)
    parent, release = event.data.repository.id, event.data.release
    mirror.upsert(Variant, event.entity_id, parent=parent, **release.columns(), data=release.whole)


@github.on("release.deleted")
def deactivate_release(event: Event[Any], mirror: Mirror) -> None:
    mirror.deactivate(Variant, event.entity_id)
