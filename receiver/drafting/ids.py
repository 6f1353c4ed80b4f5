"""Entity ids: guesses by names which member of a captured body holds the id of the changed entity."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from receiver.drafting.naming import snake_case, words_in
from receiver.drafting.search import VERB, Member, first_member, is_id

#: Names of the members that hold the sender's id of the change, the likeliest first.
CHANGE_IDS = (
    *("event_id", "message_id", "delivery_id", "notification_id", "correlation_id", "request_id"),
    *("idempotency_key", "event_uuid", "message", "uuid", "guid"),
)

#: Names of members whose object is the changed object, the likeliest first.
DATA_MEMBERS = (
    *("data", "payload", "object", "resource", "entity", "record", "content", "body", "item", "attributes", "details"),
    *("detail", "model"),
)

#: Names of members whose object is the changed object even if there is an id beside it, which is that of the event.
INNER_MEMBERS = frozenset({"object", "resource", "entity", "record"})

#: Words in the names of ids that are not those of the changed entity, but of the account, the webhook or the author.
ACCOUNT_WORDS = frozenset(
    {
        *("account", "tenant", "subscription", "webhook", "app", "client", "organization", "company", "team", "realm"),
        *("portal", "merchant", "space", "workspace", "site", "shop", "store", "project", "environment", "user"),
        *("author", "actor", "seller"),
    }
)

#: Names of ids of an object itself.
CERTAIN_IDS = ("id", "entity_id", "object_id", "resource_id", "uuid", "guid", "gid", "sku", "pk")
ID_NAMES = (*CERTAIN_IDS, "code", "key", "number", "slug")

#: Names of members that hold an id in some bodies, and in others a word for the kind of the entity.
_IDS_OR_KINDS = ("entity", "object", "resource")

#: Words of event types and of names of ids for the things in a catalog.
THINGS = frozenset({"item", "product", "variant", "article", "sku", "offer"})

#: The last words of the names of ids that are no numbers, such as `item_code`.
_CODES = frozenset({"code", "number", "no", "key", "sku"})

#: The most members of an object that only refers to the changed object: `{"id": "…", "typeId": "product"}`.
LARGEST_REFERENCE = 3

#: The member by which CloudEvents are recognised. Their `id` is always that of the event, and their `subject` may be
#: the entity.
_CLOUD_EVENT = "specversion"


def id_in(document: Mapping[str, Any]) -> Member | None:
    """Find the likeliest id among the members of an object itself."""
    return first_member(document, ID_NAMES, depth=1)


def is_reference(value: Any) -> bool:
    """Whether an object only names another one: a few members, one of them an id, and no object or list."""
    if not isinstance(value, dict) or len(value) > LARGEST_REFERENCE or id_in(value) is None:
        return False
    return not any(isinstance(each, (dict, list)) for each in value.values())


def entity_id_in(about: Mapping[str, Any], data: Member, event_type: Member | None, outer: Any) -> Member | None:
    """Find the id of the entity, in the changed object `data` or beside it, in `about`.

    `outer` is the object around the changed one.
    """
    inside = Member(data.path, _without_event_id(data.value))
    found = _referred(about, data, outer) or _entity_id(_without_event_id(about), inside, event_type)
    if found is None and _CLOUD_EVENT in about:
        return first_member(about, ("subject",), depth=1, fits=_is_id_with_digit)
    return found


def _without_event_id(document: Mapping[str, Any]) -> Mapping[str, Any]:
    if _CLOUD_EVENT not in document:
        return document
    return {name: value for name, value in document.items() if name != "id"}


def _referred(about: Mapping[str, Any], data: Member, outer: Any) -> Member | None:
    """Find the id in a reference to the changed object beside it, for an object that has no id itself."""
    if not data.path or "id" in data.value:
        return None
    for path, beside in (((), about), (data.path[:-1], outer)):
        for name, value in beside.items():
            refers = snake_case(name) in DATA_MEMBERS and value is not data.value and is_reference(value)
            if refers and is_id(value.get("id")):
                return Member((*path, name, "id"), value["id"])
    return None


def _entity_id(about: Mapping[str, Any], data: Member, event_type: Member | None) -> Member | None:
    """Find the id of the entity by its name."""
    kinds: list[str] = []
    if event_type is not None:
        # In `{"event": "stove.updated", "stove": "S1"}`, the id has the name of the kind.
        kinds = [word for word in words_in(event_type.value) if not VERB.fullmatch(word)]
        about = {name: value for name, value in about.items() if (name,) != event_type.path}
    inside = first_member(data.value, CERTAIN_IDS, depth=1) or _named_after(data) or _ending_in_id(data.value, kinds)
    if inside is not None:
        return inside.below(data.path)
    # `id` itself may be that of the webhook, so it is searched for last.
    beside = first_member(about, ID_NAMES[1:], depth=1) or _ending_in_id(about, kinds)
    beside = beside or first_member(about, ["item", "product", *kinds], depth=1)
    beside = beside or first_member(about, _IDS_OR_KINDS, depth=1, fits=_is_id_with_digit)
    beside = beside or first_member(_without_accounts(about), ID_NAMES)
    if beside is not None:
        return beside
    # The object's `key` or `number` may be its id if there is nothing better.
    last = first_member(data.value, ID_NAMES, depth=1) or _code_of(data.value, kinds)
    return None if last is None else last.below(data.path)


def _without_accounts(about: Mapping[str, Any]) -> Mapping[str, Any]:
    """Leave out the objects about the account, the shop or the author, whose ids are not those of the entity."""
    return {
        name: value
        for name, value in about.items()
        if not isinstance(value, dict) or ACCOUNT_WORDS.isdisjoint(words_in(name))
    }


def _is_id_with_digit(value: Any) -> bool:
    """Whether a value is an id such as `beds/1`. A word without a digit, such as `catalog`, is a kind."""
    return is_id(value) and any(each.isdigit() for each in str(value))


def _named_after(data: Member) -> Member | None:
    """Find a member named after the object's kind and an id: `articleNumber` of `article`."""
    owner = words_in(data.path[-1]) if data.path else []
    for name, value in data.value.items():
        words = words_in(name)
        if owner and words[:-1] == owner and words[-1] in ID_NAMES and is_id(value):
            return Member((name,), value)
    return None


def _ending_in_id(document: Mapping[str, Any], kinds: list[str]) -> Member | None:
    """Find a member such as `product_id` or `id_product`: one of a kind in the event type before any other."""
    found = list(_ids_with_a_kind(document))
    about = {form for kind in kinds for form in (kind, kind.removesuffix("s"))}
    for wanted in (about, THINGS):
        for words, member in found:
            if not wanted.isdisjoint(words):
                return member
    return next((member for words, member in found if ACCOUNT_WORDS.isdisjoint(words)), None)


def _code_of(document: Mapping[str, Any], kinds: list[str]) -> Member | None:
    """Find the code of a thing in a catalog, or of a kind in the event type: `item_code`."""
    about = THINGS.union(kinds, (kind.removesuffix("s") for kind in kinds))
    for name, value in document.items():
        words = words_in(name)
        if len(words) == 2 and words[0] in about and words[1] in _CODES and is_id(value):
            return Member((name,), value)
    return None


def _ids_with_a_kind(document: Mapping[str, Any]) -> Iterator[tuple[list[str], Member]]:
    for name, value in document.items():
        words = words_in(name)
        if len(words) > 1 and "id" in (words[0], words[-1]) and snake_case(name) not in CHANGE_IDS and is_id(value):
            yield [word for word in words if word != "id"], Member((name,), value)
