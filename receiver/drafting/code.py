"""Code: the Python expressions by which a drafted dialect reads the parts of an envelope from a body or writes them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from pydantic import BaseModel

from receiver.drafting.members import GuessedEnvelope
from receiver.drafting.naming import ROOM, TYPES, literal, model_field, snake_case
from receiver.drafting.search import Member
from receiver.drafting.times import MODEL_FORMS, WRITTEN_TIMES, TimeForm, read_time

#: The key of a value that is spread in a dict: `**(data or {})`.
SPREAD = "**"


@dataclass(slots=True)
class BodyModel:
    """The drafted pydantic model of a body. It has no fields if the body itself is the sender's object."""

    argument: str
    is_model: bool
    #: The paths of the later and the earlier state of a row, if the body has both.
    states: tuple[tuple[str, ...], ...] = ()
    #: The lines of code of the fields, by the sender's name of the member.
    fields: dict[str, str] = field(default_factory=dict)

    def text(self, member: Member) -> str:
        """Make the code that reads a member as text."""
        is_number = not isinstance(member.value, str)
        found = self._code(member, "int | str" if is_number else "str")
        return f"str({found})" if is_number else found

    def object(self, member: Member) -> str:
        """Make the code that reads an object."""
        if not member.path:
            return self.argument
        return self._code(member, "dict[str, Any] | None", default="None")

    def time(self, member: Member, form: TimeForm) -> str:
        """Make the code that reads a time."""
        if form in MODEL_FORMS and self.is_model and len(member.path) == 1:
            found = self._code(member, "datetime" if form == "naive" else "AwareDatetime")
            return f"{found}.replace(tzinfo=UTC)" if form == "naive" else found
        return read_time(self._code(member, "str" if isinstance(member.value, str) else "int"), member.value, form)

    def lines(self, example: Mapping[str, Any]) -> list[str]:
        """List the fields of the model, in the order of an example body."""
        return [self.fields[name] for name in example if name in self.fields]

    def _code(self, member: Member, kind: str, default: str = "") -> str:
        for path in self.states[:1]:
            if len(member.path) > len(path) and member.path[: len(path)] == path:
                both = " or ".join(self.object(Member(each, {})) for each in self.states)
                return f"({both})" + "".join(f"[{literal(name)}]" for name in member.path[len(path) :])
        first, *rest = member.path
        behind = "".join(f"[{literal(name)}]" for name in rest)
        if not self.is_model:
            return f"{self.argument}[{literal(first)}]{behind}"
        name = field_name(first)
        if rest:
            self.fields.setdefault(first, _field(name, first, "dict[str, Any]", ""))
        else:
            self.fields[first] = _field(name, first, kind, default)
        return f"{self.argument}.{name}{behind}"


def field_name(member: str) -> str:
    """Make the name of a model's field for a member of the sender's body."""
    name = snake_case(member) or "member"
    return f"its_{name}" if name in TYPES or hasattr(BaseModel, name) or name.startswith("model_") else name


def fits_a_model(envelope: GuessedEnvelope) -> bool:
    """Whether one model can have all these members as fields, because the body itself is not the sender's object."""
    members = (envelope.event_type, envelope.resource, envelope.key, envelope.time, envelope.before)
    first = [each.path[0] for each in members if each is not None]
    names = [field_name(name) for name in {*first, *envelope.data.path[:1]}]
    return bool(envelope.data.path) and len(set(names)) == len(names) and all(snake_case(name) for name in first)


def is_readable(member: Member, form: TimeForm) -> bool:
    """Whether the code of `BodyModel.time` can read this time."""
    if form not in ("aware", "naive"):
        return True
    try:
        return (datetime.fromisoformat(member.value).tzinfo is None) == (form == "naive")
    except ValueError:
        return False


def inverse(envelope: GuessedEnvelope, example: Mapping[str, Any]) -> tuple[list[str], dict[str, Any]]:
    """Make the inverse of an envelope function: the first lines of a compose function, and the code of each member."""
    if envelope.before is not None:
        return _inverse_of_states(envelope, envelope.before, example)
    lines: list[str] = []
    parts: dict[str, Any] = {}
    if envelope.data.path:
        _put(parts, envelope.data.path, "data")
    else:
        parts[SPREAD] = "(data or {})"
    if envelope.event_type is not None and envelope.resource is not None:
        cut = "partition" if "." in envelope.event_type.value else "rpartition"
        lines.append(f'thing, _, verb = event_type.{cut}(".")')
        _put(parts, envelope.resource.path, "thing")
        _put(parts, envelope.event_type.path, "verb")
    elif envelope.event_type is not None:
        _put(parts, envelope.event_type.path, "event_type")
    if envelope.key is not None:
        _put(parts, envelope.key.path, 'f"{event_type} {entity_id} {at.isoformat()}"')
    if envelope.entity_id is not None:
        _put(parts, envelope.entity_id.path, "entity_id")
    if envelope.time is not None:
        _put(parts, envelope.time.path, WRITTEN_TIMES[envelope.time_form])
    return lines, _ordered(parts, example)


def _inverse_of_states(
    envelope: GuessedEnvelope, before: Member, example: Mapping[str, Any]
) -> tuple[list[str], dict[str, Any]]:
    """Make the inverse of an envelope function for events with both states of a row."""
    path, row, parts = envelope.data.path, dict[str, Any]({SPREAD: "(data or {})"}), dict[str, Any]()
    is_delete = 'event_type.endswith(".deleted")'
    lines = []
    if envelope.resource is not None:
        lines.append('thing, _, verb = event_type.rpartition(".")')
        is_delete = 'verb == "deleted"'
        _put(parts, envelope.resource.path, "thing")
    if envelope.event_type is not None:
        is_delete = "data is None"
        _put(parts, envelope.event_type.path, "event_type")
    if envelope.key is not None:
        _put(parts, envelope.key.path, 'f"{event_type} {entity_id} {at.isoformat()}"')
    for member, code in ((envelope.time, WRITTEN_TIMES[envelope.time_form]), (envelope.entity_id, "entity_id")):
        if member is not None and member.path[: len(path)] == path:
            _put(row, member.path[len(path) :], code)
        elif member is not None:
            _put(parts, member.path, code)
    lines.append(f"row = {written(row, 4, around=len('row = '))}")
    _put(parts, before.path, "row")
    _put(parts, path, f"None if {is_delete} else row")
    return lines, _ordered(parts, example)


def _put(parts: dict[str, Any], path: tuple[str, ...], code: str) -> None:
    """Put code at a path. If the path leads into the data, the data is spread beside the new member."""
    for name in path[:-1]:
        inner = parts.get(name)
        if not isinstance(inner, dict):
            inner = parts[name] = {} if inner is None else {SPREAD: f"({inner} or {{}})"}
        parts = inner
    parts[path[-1]] = code


def _ordered(parts: dict[str, Any], example: Any) -> dict[str, Any]:
    names = list(example) if isinstance(example, Mapping) else []
    found = sorted(parts, key=lambda name: -1 if name == SPREAD else names.index(name))
    return {
        name: _ordered(parts[name], example[name]) if isinstance(parts[name], dict) else parts[name] for name in found
    }


def written(value: Any, indent: int, *, around: int = len("return ")) -> str:
    """Write the code of a value, broken into several lines if one line would be too long.

    `around` is the number of other characters on its line, beside those of the indentation.
    """
    if isinstance(value, dict):
        opening, closing = "{", "}"
        items = [
            f"**{inner}"
            if name == SPREAD
            else f"{literal(name)}: {written(inner, indent + 4, around=len(literal(name)) + len(': ,'))}"
            for name, inner in value.items()
        ]
    elif isinstance(value, list):
        opening, closing = "[", "]"
        items = [written(inner, indent + 4) for inner in value]
    else:
        return str(value)
    line = opening + ", ".join(items) + closing
    if "\n" not in line and len(line) + indent + around <= ROOM:
        return line
    inside = "".join(f"\n{' ' * (indent + 4)}{item}," for item in items)
    return f"{opening}{inside}\n{' ' * indent}{closing}"


def _field(name: str, member: str, kind: str, default: str) -> str:
    if name == member:
        return f"{name}: {kind}" + (f" = {default}" if default else "")
    given = [f"default={default}"] if default else []
    return model_field(f"{name}: {kind}", [*given, f"alias={literal(member)}"])
