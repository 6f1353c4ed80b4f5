"""The guess: everything that a capture shows about a sender's dialect."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace

from receiver.drafting.bundles import items_in
from receiver.drafting.captures import Capture
from receiver.drafting.code import fits_a_model, is_readable
from receiver.drafting.columns import columns_of
from receiver.drafting.event_types import EventTypes, guess_event_types, singular
from receiver.drafting.ids import CERTAIN_IDS, DATA_MEMBERS, THINGS
from receiver.drafting.members import GuessedEnvelope, guess_envelope, is_event_type, is_time_of_sending
from receiver.drafting.naming import plural, snake_case, words_in
from receiver.drafting.proofs import proof_of, token_in
from receiver.drafting.search import VERB, Member, first_member
from receiver.errors import ConfigurationError

#: Words in the names of headers that hold the event type.
_TOPICS = frozenset({"topic", "event", "action", "operation"})

#: Names of members that hold a signature, and the levels that are searched for one.
_SIGNATURES = ("signature", "hmac_signature", "hmac", "sig")
DEEPEST_SIGNATURE = 4

#: The last words of the names of headers about the event that hold something else.
_NO_TOPICS = frozenset({"id", "key", "time", "timestamp", "at", "version", "signature", "token"})

#: Names of the flags with which an event, or its changed object, says that the entity was deleted.
_DELETE_MARKS = frozenset({"deleted", "is_deleted", "removed", "is_removed"})

#: Words in the names of members that do not name the kind of an entity.
_NO_KIND = frozenset(
    {
        *("id", "uuid", "guid", "gid", "sku", "code", "key", "number", "slug"),
        *("data", "payload", "object", "content", "entity", "entry", "body", "attributes", "details"),
    }
)


class Guess:
    """All guesses about a sender from one captured request.

    `name` is the name of the dialect, and `secrets`, from `secrets_file`, confirm the guessed signature. Raises
    `ConfigurationError` if the capture holds no event.
    """

    def __init__(
        self, name: str, capture: Capture, secrets: Sequence[bytes] = (), secrets_file: str = "--secrets-file"
    ) -> None:
        self.name, self.capture, self.secrets_file = name, capture, secrets_file
        found = items_in(capture.document)
        #: The path of the list of events, which is empty if the body itself is the list; None for a single event.
        self.items = None if found is None else found[0]
        self.count = 1 if found is None else len(found[1])
        event = capture.document if found is None else next(iter(found[1]), None)
        if not isinstance(event, dict) or not event:
            raise ConfigurationError("The capture is a list without objects: capture a webhook with an event.")
        self.event = event
        self.proof = proof_of(capture.headers, capture.body, secrets)
        #: The member that holds the secret itself, if no header has a proof.
        self.token = token_in(capture.document, capture.body, secrets) if self.proof is None else None
        self.envelope = _usable(self._envelope())
        self._others = [] if found is None else list(found[1])[1:]
        self.topic = self._topic()
        self.types = self._event_types()
        used = {each.path for each in _members(self.envelope)}
        inside = {path[-1] for path in used if path[:-1] == self.envelope.data.path}
        self.columns, self.left_out = columns_of(self.envelope.data.value, but=inside, kind=self.types.kind)

    def _envelope(self) -> GuessedEnvelope:
        """Guess the envelope. A header that names an event is preferred to a member that only names a kind."""
        said = self._header_with_topic()
        told = "" if said is None else self.capture.headers[said]
        envelope = guess_envelope(self.event, told)
        if self.items is None and _only_names_a_kind(envelope.event_type) and VERB.search(told):
            return replace(envelope, event_type=None, resource=None)
        return envelope

    @property
    def unread_topic(self) -> str | None:
        """The header that names the event of a list of items, each of which only names a kind; None without one."""
        said = self._header_with_topic()
        if said is None or self.items is None or not _only_names_a_kind(self.envelope.event_type):
            return None
        return said if VERB.search(self.capture.headers[said]) else None

    @property
    def signature_in_body(self) -> Member | None:
        """The member of the body that is named like a signature; None without one."""
        return first_member(self.event, _SIGNATURES, depth=DEEPEST_SIGNATURE, fits=lambda value: isinstance(value, str))

    @property
    def table(self) -> str:
        """The name of the table in the database."""
        return f"{self.name}_{plural(self.types.kind)}"[:60]

    @property
    def is_only_news(self) -> bool:
        """Whether no later event of the body is about the same entity."""
        entity_id, before = self.envelope.entity_id, self.envelope.before
        if entity_id is None:
            return True
        places = [entity_id] if before is None else [entity_id, Member((*before.path, entity_id.path[-1]), None)]
        return all(place.of(other) != entity_id.value for other in self._others for place in places)

    @property
    def times_of_sending(self) -> list[Member]:
        """The members beside the parts of the body and of its event that hold a time of sending, which is not used."""
        outside = self.capture.document if isinstance(self.capture.document, dict) and self.items is not None else {}
        found = [Member((name,), value) for name, value in [*outside.items(), *self.event.items()]]
        return [each for each in found if each != self.envelope.time and is_time_of_sending(each)]

    @property
    def unused(self) -> list[str]:
        """The members of the event beside the changed object that no part of the envelope comes from."""
        path = self.envelope.data.path
        used = {each.path[:2] for each in [*_members(self.envelope), *self.times_of_sending]} | {path}
        used |= {each[:1] for each in used}
        beside: list[tuple[str, ...]] = [(name,) for name in self.event] if path else []
        beside += [(path[0], name) for name in self.event[path[0]]] if len(path) > 1 else []
        return [".".join(each) for each in beside if each not in used]

    @property
    def entity_lists(self) -> list[str]:
        """The lists of objects, in place of the changed object or named like things, that may be entities."""
        entity_id, found = self.envelope.entity_id, list[str]()
        # A product with an id of its own may have a list of variants.
        is_doubtful = entity_id is None or snake_case(entity_id.path[-1]) not in CERTAIN_IDS
        for path in dict.fromkeys([(), self.envelope.data.path, self.envelope.data.path[:1], *self._outer_objects()]):
            inside = Member(path, None).of(self.event) if path else self.event
            for name, value in inside.items() if isinstance(inside, dict) else ():
                is_named = snake_case(name) in DATA_MEMBERS or (is_doubtful and not path and singular(name) in THINGS)
                if is_named and isinstance(value, list) and value and isinstance(value[0], dict):
                    found.append(".".join([*path, name]))
        return found

    def _outer_objects(self) -> list[tuple[str, ...]]:
        """The paths of the objects with a usual name for the changed object."""
        return [(name,) for name, value in self.event.items() if snake_case(name) in DATA_MEMBERS]

    @property
    def delete_mark(self) -> str | None:
        """The flag of an event, or of its changed object, that says whether it was deleted; None without one."""
        for event in (self.event, *self._others):
            for path in dict.fromkeys([(), self.envelope.data.path]):
                inside = Member(path, None).of(event) if path else event
                for name, value in inside.items() if isinstance(inside, dict) else ():
                    if "_".join(words_in(name)) in _DELETE_MARKS and isinstance(value, bool):
                        return ".".join([*path, name])
        return None

    @property
    def seen(self) -> list[str]:
        """The event types in the captured body, each once, in its order. Those of states are known without one."""
        if self.envelope.is_told_by_states:
            return [self.types.update, self.types.delete or ""]
        return list(dict.fromkeys([self.types.example, *self._other_types()]))

    def _other_types(self) -> list[str]:
        """The event types of the items after the first one."""
        envelope = self.envelope
        if envelope.event_type is None:
            return []
        before = "" if envelope.resource is None else f"{envelope.resource.value}."
        named = [envelope.event_type.of(other) for other in self._others]
        return [f"{before}{each}" for each in named if isinstance(each, str)]

    def _topic(self) -> str | None:
        """The header with the event type, if the body does not name it; None if no header does."""
        if self.envelope.event_type is not None or self.envelope.before is not None or self.items is not None:
            return None
        return self._header_with_topic()

    def _header_with_topic(self) -> str | None:
        """The header that most likely holds the event type; None without one."""
        headers = self.capture.headers
        words = {name: words_in(name) for name in headers}
        named = [name for name in headers if not _TOPICS.isdisjoint(words[name]) and words[name][-1] not in _NO_TOPICS]
        # Files beside a fixture hold headers in ASCII.
        usable = [name for name in named if re.fullmatch(r"(?a:[\w./:-]{1,80})", headers[name])]
        return next(iter(sorted(usable, key=lambda name: _rank(headers[name]))), None)

    def _event_types(self) -> EventTypes:
        envelope = self.envelope
        if envelope.is_told_by_states:
            thing = "record" if envelope.resource is None else envelope.resource.value
            update, delete = f"{thing}.updated", f"{thing}.deleted"
            is_delete = envelope.data.of(self.event) is None
            return EventTypes(delete if is_delete else update, singular(thing), update, delete, is_delete)
        about = envelope.data.path[-1:] or (envelope.entity_id.path[-1:] if envelope.entity_id is not None else ())
        words = [word for word in words_in(" ".join(about)) if word not in _NO_KIND]
        kind = singular(words[-1] if words else "record")
        if self.topic is not None:
            return guess_event_types(self.capture.headers[self.topic], kind=kind)
        if envelope.event_type is None:
            return guess_event_types(f"{kind}.updated", kind=kind)
        if envelope.resource is not None:
            example = f"{envelope.resource.value}.{envelope.event_type.value}"
            types = guess_event_types(example, kind=kind, others=self._other_types())
            is_verb = VERB.fullmatch(envelope.event_type.value)
            return types if is_verb else replace(types, kind=singular(envelope.resource.value))
        return guess_event_types(envelope.event_type.value, kind=kind, others=self._other_types())


def _rank(text: str) -> int:
    """How unlikely a text is an event type: it has a thing and a verb, or a verb, or none."""
    return 0 if is_event_type(text) else 1 if VERB.search(text) else 2


def _only_names_a_kind(event_type: Member | None) -> bool:
    """Whether the member for the event type has no verb, such as `type` with the kind of a product."""
    return event_type is not None and VERB.search(event_type.value) is None


def _members(envelope: GuessedEnvelope) -> list[Member]:
    found = (envelope.event_type, envelope.resource, envelope.key, envelope.entity_id, envelope.time, envelope.before)
    return [each for each in found if each is not None]


def _usable(envelope: GuessedEnvelope) -> GuessedEnvelope:
    """Remove the time from the guess if the drafted code could not read it, or reads the same member as an id."""
    time = envelope.time
    ids = [each.path for each in (envelope.entity_id, envelope.key) if each is not None]
    typed = time is not None and fits_a_model(envelope) and len(time.path) == 1
    if time is None or (time.path not in ids and (typed or is_readable(time, envelope.time_form))):
        return envelope
    return replace(envelope, time=None, time_form="aware")
