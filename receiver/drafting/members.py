"""Members: guesses by names and values which members of a captured body hold the parts of the envelope."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any, Literal

from pydantic import TypeAdapter, ValidationError

from receiver.drafting.columns import moment_in
from receiver.drafting.ids import ACCOUNT_WORDS, CHANGE_IDS, DATA_MEMBERS, entity_id_in, id_in, is_reference
from receiver.drafting.naming import snake_case, words_in
from receiver.drafting.search import DEEPEST_MEMBER, VERB, Member, first_member, is_id, is_name, named_members

#: The form of a time in a body.
TimeForm = Literal["aware", "naive", "seconds", "milliseconds"]

#: Names of the members that hold an event type, the likeliest first; likewise for the other parts below.
_EVENT_TYPES = (
    *("event_type", "event_name", "type", "event", "topic", "trigger", "action", "what", "event_kind", "operation"),
    *("message_type", "notification_type", "webhook_type", "change_type", "trigger_type", "hook", "verb", "subject"),
    *("kind", "name"),
)

_KINDS = (
    *("resource_type", "entity_type", "object_type", "model", "resource", "entity", "object", "kind", "table"),
    *("collection", "subject"),
)

_TIMES = (
    *("occurred_at", "changed_at", "event_time", "event_timestamp", "timestamp", "event_date", "occurred", "when"),
    *("updated_at", "modified_at", "updated", "modified", "date_modified", "last_modified", "time", "at", "date", "ts"),
    *("last_modified_date_time", "modified_date_time", "changed_date_time"),
    *("created_at", "created", "date_created"),
)

#: Words in the names of times at which a sender posted a webhook, which may be long after the change.
_SENDING = frozenset({"sent", "send", "dispatched", "dispatch", "delivered", "delivery", "posted"})

_TIME_WORDS = frozenset({"at", "on", "time", "date", "datetime", "timestamp", "ts"})

#: The last words of the names of times that senders write as numbers, such as `eventCreated`.
_CHANGE_WORDS = frozenset({"created", "updated", "modified", "changed", "occurred"})

#: Words in the names of times that are not those of a change.
_LATER = frozenset({"expiration", "expires", "expiry", "expire", "until", "due"})

#: Words in the names of objects that describe the event, its cause or the past, and not the changed object.
_ABOUT_EVENT = frozenset(
    {
        *("meta", "metadata", "context", "header", "headers", "user", "actor", "author", "source", "sender", "request"),
        *("previous", "old", "before", "links", "scope", "shop", "store", "sys"),
    }
)

_NAIVE: TypeAdapter[datetime] = TypeAdapter(datetime)


@dataclass(frozen=True, slots=True)
class GuessedEnvelope:
    """The members that hold the parts of an envelope; None for a part that was not found."""

    event_type: Member | None
    #: The member with the kind of the entity, for an event type that is only a verb.
    resource: Member | None
    key: Member | None
    entity_id: Member | None
    time: Member | None
    #: The changed object; its path is empty if it is the whole body.
    data: Member
    time_form: TimeForm = "aware"


def guess_envelope(document: Mapping[str, Any]) -> GuessedEnvelope:
    """Guess the members that hold the parts of the envelope, in the object of one event."""
    event_type = event_type_in(document)
    data = _data_of(document)
    about = {name: value for name, value in document.items() if (name,) != data.path[:1]}
    time, form = _time_of(about, data)
    outer = document[data.path[0]] if len(data.path) > 1 else {}
    entity_id = entity_id_in(about, data, event_type, outer)
    resource = None
    if event_type is not None and VERB.fullmatch(event_type.value):
        known = [each.path for each in (event_type, entity_id) if each is not None]
        others = {name: value for name, value in about.items() if (name,) not in known}
        resource = first_member(others, _KINDS, depth=1, fits=is_name)
    used = {each.path for each in (event_type, resource, entity_id, time) if each is not None}
    return GuessedEnvelope(event_type, resource, _key(about, used, entity_id), entity_id, time, data, form)


def is_event_type(text: str) -> bool:
    """Whether a text looks like an event type: `product.updated`, `products/update`, `PRODUCT_UPDATED`."""
    head = re.split(r"[./:_-]|(?<=[a-z])(?=[A-Z])", text)
    return len(head) > 1 and VERB.fullmatch(head[-1]) is not None


# ── the parts ─────────────────────────────────────────────────────────────────────────────────────────────────


def event_type_in(document: Mapping[str, Any]) -> Member | None:
    """Find the member with the event type, which looks like one, or else has a usual name."""

    def looks_so(value: Any) -> bool:
        return is_name(value) and (VERB.search(value) is not None or any(each in value for each in "./:"))

    found = first_member(document, _EVENT_TYPES, fits=looks_so)
    if found is None:
        told = [Member((name,), value) for name, value in document.items() if is_name(value) and is_event_type(value)]
        found = told[0] if told else None
    return found or first_member(document, _EVENT_TYPES[:8], depth=1, fits=is_name)


def _data_of(document: Mapping[str, Any]) -> Member:
    """Find the changed object."""
    objects = {name: value for name, value in document.items() if isinstance(value, dict) and value}
    named = [name for name in objects if snake_case(name) in DATA_MEMBERS]
    if named:
        outer = _largest(objects) if is_reference(objects[named[0]]) else named[0]
        inner = objects[outer]
        nested = {name: value for name, value in inner.items() if isinstance(value, dict) and value}
        wanted = [name for name in nested if snake_case(name) in DATA_MEMBERS] or (
            list(nested) if len(inner) == 1 else []
        )
        if outer == named[0] and wanted and id_in(inner) is None:
            name = _largest(nested) if is_reference(nested[wanted[0]]) else wanted[0]
            return Member((outer, name), nested[name])
        return Member((outer,), inner)
    event_type = event_type_in(document)
    told = words_in(event_type.value) if event_type is not None else []
    about = [name for name in objects if snake_case(name) in told]
    if about:
        return Member((about[0],), objects[about[0]])
    # The name may be a kind, such as `product`, if other members describe the event.
    about = [name for name in objects if _ABOUT_EVENT.union(ACCOUNT_WORDS).isdisjoint(words_in(name))]
    having_ids = [name for name in about if id_in(objects[name]) is not None]
    if len(having_ids) == 1 and first_member(document, ("id", "sku"), depth=1) is None:
        return Member((having_ids[0],), objects[having_ids[0]])
    return Member((), document)


def _largest(objects: Mapping[str, Mapping[str, Any]]) -> str:
    """The name of the object with the most members, apart from objects about the event itself."""

    def size(name: str) -> int:
        words = words_in(name)
        return len(objects[name]) if _ABOUT_EVENT.isdisjoint(words) and ACCOUNT_WORDS.isdisjoint(words) else 0

    return max(objects, key=size)


def _key(about: Mapping[str, Any], used: set[tuple[str, ...]], entity_id: Member | None) -> Member | None:
    """Find the sender's id of the change, which is neither the id of the entity nor that of the webhook's settings."""
    found = first_member(about, CHANGE_IDS, fits=is_id) or first_member(about, ("id",), depth=1, fits=is_id)
    return None if found is None or found.path in used or entity_id is None else found


def is_time_of_sending(member: Member) -> bool:
    """Whether a member holds a time that its name makes that of the sending, not that of the change."""
    return not _SENDING.isdisjoint(words_in(member.path[-1])) and _time_form(member.value) is not None


def _time_of(about: Mapping[str, Any], data: Member) -> tuple[Member | None, TimeForm]:
    """Find the time of the change, beside the changed object or in it; a time of sending only if there is no other."""
    beside = list(_times(about))
    inside = [(each.below(data.path), form) for each, form in _times(data.value)]
    found = [*beside, *inside] if data.path else beside
    changes = [each for each in found if not is_time_of_sending(each[0])]
    return next(iter([*changes, *found]), (None, "aware"))


def _times(document: Mapping[str, Any]) -> Iterator[tuple[Member, TimeForm]]:
    """Yield the times in a document, the likeliest first."""
    for name in _TIMES:
        for member in named_members(document, name, DEEPEST_MEMBER):
            form = _time_form(member.value)
            if form is not None:
                yield member, form
    for name, value in document.items():
        words = words_in(name)
        if not _LATER.isdisjoint(words):
            continue
        is_named_so = not _TIME_WORDS.isdisjoint(words) or not _CHANGE_WORDS.isdisjoint(words[-1:])
        form = _time_form(value) if is_named_so or isinstance(value, str) else None
        if form is not None:
            yield Member((name,), value), form


def _time_form(value: Any) -> TimeForm | None:
    if isinstance(value, str):
        if moment_in(value) is not None:
            return "aware"
        try:
            moment = _NAIVE.validate_python(value, strict=False) if len(value) > 15 and not value.isdigit() else None
        except ValidationError:
            return None
        return "naive" if moment is not None and moment.tzinfo is None and moment.year > 1970 else None
    if type(value) in (int, Decimal):
        if 10**9 <= value < 10**10:
            return "seconds"
        return "milliseconds" if 10**12 <= value < 10**13 else None
    return None
