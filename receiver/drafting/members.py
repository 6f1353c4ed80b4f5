"""Members: guesses by names and values which members of a captured body hold the parts of the envelope."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from receiver.drafting.ids import (
    ACCOUNT_WORDS,
    CHANGE_IDS,
    DATA_MEMBERS,
    INNER_MEMBERS,
    entity_id_in,
    id_in,
    is_reference,
)
from receiver.drafting.naming import snake_case, words_in
from receiver.drafting.search import DEEPEST_MEMBER, VERB, Member, first_member, is_id, is_name, named_members
from receiver.drafting.states import States, states_in
from receiver.drafting.times import TimeForm, time_form

#: Names of the members that hold an event type, the likeliest first; likewise for the other parts below.
_EVENT_TYPES = (
    *("event_type", "event_name", "type", "event", "topic", "trigger", "action", "what", "event_kind", "operation"),
    *("message_type", "notification_type", "webhook_type", "change_type", "trigger_type", "hook", "verb", "subject"),
    *("kind", "name"),
)

_KINDS = (
    *("resource_type", "entity_type", "object_type", "model", "resource", "entity", "object", "kind", "table"),
    *("collection", "subject", "event_category"),
)

#: Names of the members of the changed object itself that hold its kind.
_OWN_KINDS = ("typename", "type_name", "doctype", "content_type", "class_name")

#: Words of event types that stand for a thing of any kind, as in `entry.update`.
_ANY_THING = frozenset({*DATA_MEMBERS, "entry", "entries", "items", "records", "document", "row", "collection"})

#: Words in the names of objects that describe the event, whose times may be that of the change.
_ABOUT_CHANGE = frozenset(
    {
        *("meta", "metadata", "context", "header", "headers", "sys", "event", "info", "envelope", "notification"),
        *("message", "change", "revision", "audit", "request", "system"),
    }
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

#: Words in the names of times that are in UTC.
_UTC_ZONES = frozenset({"gmt", "utc"})

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
    #: The earlier state of the row whose later state is the changed object. That one is null after a delete, and then
    #: the members of the row are those of the earlier state.
    before: Member | None = None

    @property
    def is_told_by_states(self) -> bool:
        """Whether only the states of a row tell the event type: without the later one, it is a delete."""
        return self.before is not None and self.event_type is None


def guess_envelope(document: Mapping[str, Any], told: str = "") -> GuessedEnvelope:
    """Guess the members that hold the parts of the envelope, in the object of one event.

    `told` is what a header says about the event.
    """
    states = states_in(document)
    if states is not None:
        return _of_states(document, states)
    event_type = event_type_in(document)
    data = _data_of(document, words_in(told))
    about = {name: value for name, value in document.items() if (name,) != data.path[:1]}
    time, form = _time_of(about, data)
    outer = document[data.path[0]] if len(data.path) > 1 else {}
    entity_id = entity_id_in(about, data, event_type, outer)
    resource = _resource(about, data, event_type, entity_id)
    used = {each.path for each in (event_type, resource, entity_id, time) if each is not None}
    key = _key_around(data, outer, used, entity_id) or _key(about, used, entity_id)
    return GuessedEnvelope(event_type, resource, key, entity_id, time, data, form)


def _of_states(document: Mapping[str, Any], states: States) -> GuessedEnvelope:
    """Guess the members that hold the parts of the envelope, in an event with both states of a row."""
    event_type = event_type_in(document)
    if event_type is not None and not is_event_type(event_type.value):
        event_type = None
    data = Member(states.after.path, states.known.value)
    entity_id = entity_id_in({}, data, event_type or states.table, {})
    beside = [found for path, holder in states.around for found in _times_beside(path, holder)]
    inside = [(each.below(data.path), form) for each, form in _times(data.value)]
    time, form = _likeliest([*beside, *inside])
    taken = {states.after.path[0], states.before.path[0]}
    about = {name: value for name, value in document.items() if name not in taken}
    used = {each.path for each in (event_type, states.table, time) if each is not None}
    key = _key(about, used, entity_id)
    table = states.table if event_type is None else None
    return GuessedEnvelope(event_type, table, key, entity_id, time, data, form, states.before)


def _times_beside(path: tuple[str, ...], holder: Mapping[str, Any]) -> Iterator[tuple[Member, TimeForm]]:
    """Yield the times in an object around the states, and before them those of its source, which made the change."""
    sources = [(name,) for name, value in holder.items() if snake_case(name) == "source" and isinstance(value, dict)]
    for names in (*sources, ()):
        inner = holder[names[0]] if names else holder
        plain = {name: value for name, value in inner.items() if not isinstance(value, dict)}
        yield from ((each.below((*path, *names)), form) for each, form in _times(plain))


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


def _resource(
    about: Mapping[str, Any], data: Member, event_type: Member | None, entity_id: Member | None
) -> Member | None:
    """Find the kind of the entity, for an event type that does not name it: `updated`, `entry.update`."""
    if event_type is None:
        return None
    nouns = [word for word in words_in(event_type.value) if not VERB.fullmatch(word)]
    is_verb = VERB.fullmatch(event_type.value) is not None
    if not is_verb and not (nouns and _ANY_THING.issuperset(nouns)):
        return None
    known = [each.path for each in (event_type, entity_id) if each is not None]
    fits = is_name if is_verb else _is_word
    others = {name: value for name, value in about.items() if (name,) not in known}
    found = first_member(others, _KINDS, depth=1, fits=fits)
    if found is None and len(event_type.path) > 1:
        # In `{"meta": {"action": "updated", "entity": "deal"}}`, both stand in one object.
        where = event_type.path[:-1]
        holder = Member(where, None).of(about) or {}
        inside = first_member(
            {name: value for name, value in holder.items() if (*where, name) not in known}, _KINDS, depth=1, fits=fits
        )
        found = None if inside is None else inside.below(where)
    if found is not None or not data.path:
        return found
    own = first_member(data.value, _OWN_KINDS, depth=1, fits=is_name)
    return None if own is None else own.below(data.path)


def _is_word(value: Any) -> bool:
    return is_name(value) and re.fullmatch(r"[\w-]+", value) is not None


def _data_of(document: Mapping[str, Any], hints: Sequence[str] = ()) -> Member:
    """Find the changed object. `hints` are words about it beside the body."""
    objects = {name: value for name, value in document.items() if isinstance(value, dict) and value}
    named = [name for name in objects if snake_case(name) in DATA_MEMBERS]
    if named:
        outer = _largest(objects) if is_reference(objects[named[0]]) else named[0]
        inner = objects[outer]
        nested = {name: value for name, value in inner.items() if isinstance(value, dict) and value}
        wanted = [name for name in nested if snake_case(name) in DATA_MEMBERS] or (
            list(nested) if len(inner) == 1 else []
        )
        is_inner = any(snake_case(name) in INNER_MEMBERS and id_in(nested[name]) is not None for name in wanted)
        if outer == named[0] and wanted and (id_in(inner) is None or is_inner):
            name = _largest(nested) if is_reference(nested[wanted[0]]) else wanted[0]
            return Member((outer, name), nested[name])
        return Member((outer,), inner)
    event_type = event_type_in(document)
    told = [*(words_in(event_type.value) if event_type is not None else []), *hints]
    told += [word.removesuffix("s") for word in told]
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


def _key_around(
    data: Member, outer: Mapping[str, Any], used: set[tuple[str, ...]], entity_id: Member | None
) -> Member | None:
    """Find the id of the change in the object around the changed one, which has an id of its own."""
    is_inner = len(data.path) > 1 and snake_case(data.path[-1]) in INNER_MEMBERS
    if not is_inner or entity_id is None or entity_id.path[:-1] != data.path:
        return None
    found = first_member(outer, ("id", *CHANGE_IDS), depth=1)
    key = None if found is None else found.below(data.path[:1])
    return None if key is None or key.path in used else key


def is_time_of_sending(member: Member) -> bool:
    """Whether a member holds a time that its name makes that of the sending, not that of the change."""
    return not _SENDING.isdisjoint(words_in(member.path[-1])) and time_form(member.value) is not None


def is_named_in_utc(member: Member) -> bool:
    """Whether the name of a time says that it is in UTC, as `date_modified_gmt` does."""
    return not _UTC_ZONES.isdisjoint(words_in(member.path[-1]))


def _time_of(about: Mapping[str, Any], data: Member) -> tuple[Member | None, TimeForm]:
    """Find the time of the change, beside the changed object or in it; a time of sending only if there is no other."""
    beside = list(_times(about))
    inside = [(each.below(data.path), form) for each, form in _times(data.value)]
    found = [*beside, *inside] if data.path else beside
    return _likeliest(found)


def _likeliest(found: list[tuple[Member, TimeForm]]) -> tuple[Member | None, TimeForm]:
    changes = [each for each in found if not is_time_of_sending(each[0])]
    return next(iter([*changes, *found]), (None, "aware"))


def _times(document: Mapping[str, Any]) -> Iterator[tuple[Member, TimeForm]]:
    """Yield the times in a document, the likeliest first."""
    # The time of another object, such as the category of a product, is not that of this change.
    near = {
        name: value for name, value in document.items() if not isinstance(value, dict) or _describes(name, document)
    }
    for name in _TIMES:
        for member in named_members(near, name, DEEPEST_MEMBER):
            form = time_form(member.value)
            if form is not None:
                yield _in_utc(member, document, form), form
    for name, value in document.items():
        words = words_in(name)
        if not _LATER.isdisjoint(words):
            continue
        is_named_so = not _TIME_WORDS.isdisjoint(words) or not _CHANGE_WORDS.isdisjoint(words[-1:])
        is_text = isinstance(value, str) and not value.isdecimal()
        form = time_form(value) if is_named_so or is_text else None
        if form is not None:
            yield Member((name,), value), form


def _describes(name: str, document: Mapping[str, Any]) -> bool:
    """Whether an object describes the event around it, or is all that the event has."""
    return not _ABOUT_CHANGE.isdisjoint(words_in(name)) or len(document) == 1


def _in_utc(member: Member, document: Mapping[str, Any], form: TimeForm) -> Member:
    """Return the member beside a time without offset that has the same time in UTC, if there is one."""
    if form == "naive" and len(member.path) == 1:
        for zone in sorted(_UTC_ZONES):
            for name, value in document.items():
                if words_in(name) == [*words_in(member.path[0]), zone] and time_form(value) == "naive":
                    return Member((name,), value)
    return member
