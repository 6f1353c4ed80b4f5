"""Members: guesses by names and values which members of a captured body hold the parts of the envelope."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any, Literal

from pydantic import TypeAdapter, ValidationError

from receiver.drafting.columns import moment_in
from receiver.drafting.naming import snake_case, words_in

#: The levels of a body that are searched for the parts of its envelope.
DEEPEST_MEMBER = 2

#: The form of a time in a body.
TimeForm = Literal["aware", "naive", "seconds", "milliseconds"]

#: Names of the members that hold an event type, the likeliest first; likewise for the other parts below.
_EVENT_TYPES = (
    *("event_type", "event_name", "type", "event", "topic", "trigger", "action", "what", "event_kind", "operation"),
    *("message_type", "notification_type", "webhook_type", "change_type", "trigger_type", "hook", "verb", "subject"),
    *("kind", "name"),
)

_KINDS = ("resource_type", "entity_type", "object_type", "model", "resource", "entity", "object", "kind", "subject")

_KEYS = (
    *("event_id", "message_id", "delivery_id", "notification_id", "correlation_id", "request_id"),
    *("idempotency_key", "event_uuid", "message", "uuid", "guid"),
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

#: Words in the names of times that are not those of a change.
_LATER = frozenset({"expiration", "expires", "expiry", "expire", "until", "due"})

#: Words in the names of ids that are not those of the changed entity, but of the account or the webhook.
_ACCOUNTS = frozenset(
    {
        *("account", "tenant", "subscription", "webhook", "app", "client", "organization", "company", "team", "realm"),
        *("portal", "merchant"),
    }
)

_CERTAIN_IDS = ("id", "entity_id", "object_id", "resource_id", "uuid", "guid", "gid", "sku")
_IDS = (*_CERTAIN_IDS, "code", "key", "number", "slug")

#: Names of members whose object is the changed object, the likeliest first.
_DATA = (
    *("data", "payload", "object", "resource", "entity", "record", "content", "body", "item", "attributes", "details"),
    "model",
)

#: Words in the names of objects that describe the event, its cause or the past, and not the changed object.
_ABOUT_EVENT = frozenset(
    {
        *("meta", "metadata", "context", "header", "headers", "user", "actor", "author", "source", "sender", "request"),
        *("previous", "old", "before", "links", "scope", "shop", "store"),
    }
)

#: The most members of an object that only refers to the changed object: `{"id": "…", "typeId": "product"}`.
LARGEST_REFERENCE = 3

#: Verbs of event types, with any ending.
VERB = re.compile(r"(?:creat|updat|delet|remov|add|chang|modif|insert|archiv|publish|upsert|destroy|restor)\w*", re.I)

_NAME = re.compile(r"[A-Za-z][\w./:-]{1,80}")

_NAIVE: TypeAdapter[datetime] = TypeAdapter(datetime)


@dataclass(frozen=True, slots=True)
class Member:
    """A member of a body: its path, and its value in the example."""

    path: tuple[str, ...]
    value: Any

    @property
    def shown(self) -> str:
        """The path as messages show it."""
        return ".".join(self.path)

    def below(self, path: tuple[str, ...]) -> Member:
        """This member of an object, as a member of the body in which the object has this path."""
        return Member((*path, *self.path), self.value)

    def of(self, document: Any) -> Any:
        """The value at this path of another body; None if that body has none."""
        for name in self.path:
            document = document.get(name) if isinstance(document, dict) else None
        return document


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
    entity_id = _referred(about, data, outer) or _entity_id(about, data, event_type)
    resource = None
    if event_type is not None and VERB.fullmatch(event_type.value):
        known = [each.path for each in (event_type, entity_id) if each is not None]
        others = {name: value for name, value in about.items() if (name,) not in known}
        resource = _first(others, _KINDS, depth=1, fits=_is_name)
    used = {each.path for each in (event_type, resource, entity_id, time) if each is not None}
    return GuessedEnvelope(event_type, resource, _key(about, used, entity_id), entity_id, time, data, form)


def is_event_type(text: str) -> bool:
    """Whether a text looks like an event type: `product.updated`, `products/update`, `PRODUCT_UPDATED`."""
    head = re.split(r"[./:_-]|(?<=[a-z])(?=[A-Z])", text)
    return len(head) > 1 and VERB.fullmatch(head[-1]) is not None


# ── the parts ─────────────────────────────────────────────────────────────────────────────────────────────────


def id_in(document: Mapping[str, Any]) -> Member | None:
    """Find the likeliest id among the members of an object itself."""
    return _first(document, _IDS, depth=1)


def event_type_in(document: Mapping[str, Any]) -> Member | None:
    """Find the member with the event type, which looks like one, or else has a usual name."""

    def looks_so(value: Any) -> bool:
        return _is_name(value) and (VERB.search(value) is not None or any(each in value for each in "./:"))

    found = _first(document, _EVENT_TYPES, fits=looks_so)
    if found is None:
        told = [Member((name,), value) for name, value in document.items() if _is_name(value) and is_event_type(value)]
        found = told[0] if told else None
    return found or _first(document, _EVENT_TYPES[:8], depth=1, fits=_is_name)


def _data_of(document: Mapping[str, Any]) -> Member:
    """Find the changed object."""
    objects = {name: value for name, value in document.items() if isinstance(value, dict) and value}
    named = [name for name in objects if snake_case(name) in _DATA]
    if named:
        outer = _largest(objects) if _is_reference(objects[named[0]]) else named[0]
        inner = objects[outer]
        nested = {name: value for name, value in inner.items() if isinstance(value, dict) and value}
        wanted = [name for name in nested if snake_case(name) in _DATA] or (list(nested) if len(inner) == 1 else [])
        if outer == named[0] and wanted and id_in(inner) is None:
            name = _largest(nested) if _is_reference(nested[wanted[0]]) else wanted[0]
            return Member((outer, name), nested[name])
        return Member((outer,), inner)
    event_type = event_type_in(document)
    told = words_in(event_type.value) if event_type is not None else []
    about = [name for name in objects if snake_case(name) in told]
    if about:
        return Member((about[0],), objects[about[0]])
    # The name may be a kind, such as `product`, if other members describe the event.
    having_ids = [name for name in objects if _first(objects[name], _IDS, depth=1) is not None]
    if len(having_ids) == 1 and _first(document, ("id", "sku"), depth=1) is None:
        return Member((having_ids[0],), objects[having_ids[0]])
    return Member((), document)


def _largest(objects: Mapping[str, Mapping[str, Any]]) -> str:
    """The name of the object with the most members, apart from objects about the event itself."""

    def size(name: str) -> int:
        words = words_in(name)
        return len(objects[name]) if _ABOUT_EVENT.isdisjoint(words) and _ACCOUNTS.isdisjoint(words) else 0

    return max(objects, key=size)


def _is_reference(value: Any) -> bool:
    """Whether an object only names another one: a few members, one of them an id, and no object or list."""
    if not isinstance(value, dict) or len(value) > LARGEST_REFERENCE or id_in(value) is None:
        return False
    return not any(isinstance(each, (dict, list)) for each in value.values())


def _referred(about: Mapping[str, Any], data: Member, outer: Any) -> Member | None:
    """Find the id in a reference to the changed object beside it, for an object that has no id itself.

    `outer` is the object around the changed one.
    """
    if not data.path or "id" in data.value:
        return None
    for path, beside in (((), about), (data.path[:-1], outer)):
        for name, value in beside.items():
            is_reference = snake_case(name) in _DATA and value is not data.value and _is_reference(value)
            if is_reference and _is_id(value.get("id")):
                return Member((*path, name, "id"), value["id"])
    return None


def _entity_id(about: Mapping[str, Any], data: Member, event_type: Member | None) -> Member | None:
    """Find the id of the entity, in the changed object or beside it."""
    kinds = ["item", "product", "entity", "object", "resource"]
    if event_type is not None:
        # In `{"event": "stove.updated", "stove": "S1"}`, the id has the name of the kind.
        kinds += [word for word in words_in(event_type.value) if not VERB.fullmatch(word)]
        about = {name: value for name, value in about.items() if (name,) != event_type.path}
    inside = _first(data.value, _CERTAIN_IDS, depth=1) or _named_after(data) or _ending_in_id(data.value)
    if inside is not None:
        return inside.below(data.path)
    # `id` itself may be that of the webhook, so it is searched for last.
    beside = _first(about, _IDS[1:], depth=1) or _ending_in_id(about) or _first(about, kinds, depth=1)
    beside = beside or _first(about, _IDS)
    if beside is not None:
        return beside
    # The object's `key` or `number` may be its id if there is nothing better.
    last = _first(data.value, _IDS, depth=1)
    return None if last is None else last.below(data.path)


def _named_after(data: Member) -> Member | None:
    """Find a member named after the object's kind and an id: `articleNumber` of `article`."""
    owner = words_in(data.path[-1]) if data.path else []
    for name, value in data.value.items():
        words = words_in(name)
        if owner and words[:-1] == owner and words[-1] in _IDS and _is_id(value):
            return Member((name,), value)
    return None


def _ending_in_id(document: Mapping[str, Any]) -> Member | None:
    for name, value in document.items():
        words = words_in(name)
        is_id = words[-1:] == ["id"] and len(words) > 1 and _ACCOUNTS.isdisjoint(words)
        if is_id and snake_case(name) not in _KEYS and _is_id(value):
            return Member((name,), value)
    return None


def _key(about: Mapping[str, Any], used: set[tuple[str, ...]], entity_id: Member | None) -> Member | None:
    """Find the sender's id of the change, which is neither the id of the entity nor that of the webhook's settings."""
    found = _first(about, _KEYS, fits=_is_id) or _first(about, ("id",), depth=1, fits=_is_id)
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
        for member in _named(document, name, DEEPEST_MEMBER):
            form = _time_form(member.value)
            if form is not None:
                yield member, form
    for name, value in document.items():
        if not _LATER.isdisjoint(words_in(name)):
            continue
        form = _time_form(value) if _TIME_WORDS.intersection(words_in(name)) or isinstance(value, str) else None
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


# ── the search ────────────────────────────────────────────────────────────────────────────────────────────────


def _first(document: Any, names: Sequence[str], *, depth: int = DEEPEST_MEMBER, fits: Any = None) -> Member | None:
    """Find the first member with one of these names, in the order of the names, and the outermost first."""
    fits = fits or _is_id
    for level in range(1, depth + 1):
        for name in names:
            for member in _named(document, name, level):
                if len(member.path) == level and fits(member.value):
                    return member
    return None


def _named(document: Any, name: str, depth: int) -> Iterator[Member]:
    """Yield the members with this name in any spelling, down to `depth` levels."""
    if not isinstance(document, dict):
        return
    for key, value in document.items():
        if snake_case(key) == name or key == name:
            yield Member((key,), value)
    if depth > 1:
        for key, value in document.items():
            yield from (Member((key, *each.path), each.value) for each in _named(value, name, depth - 1))


def _is_name(value: Any) -> bool:
    return isinstance(value, str) and _NAME.fullmatch(value) is not None


def _is_id(value: Any) -> bool:
    if isinstance(value, str):
        return 0 < len(value) <= 200
    return isinstance(value, int) and not isinstance(value, bool)
