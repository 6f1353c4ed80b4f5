"""The draft of a dialect: its module, a fixture and a passing test, with remarks about the guesses."""

from __future__ import annotations

import ast
import keyword
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec
from jinja2 import Environment, PackageLoader, StrictUndefined

from receiver import codec, senders
from receiver.drafting.captures import Capture
from receiver.drafting.code import BodyModel, field_name, fits_a_model, inverse, written
from receiver.drafting.columns import Column, moment_in
from receiver.drafting.guess import Guess
from receiver.drafting.naming import ROOM, camel_case, literal, words_in
from receiver.drafting.proofs import CodeCall, unsigned
from receiver.drafting.remarks import guessed, unknown
from receiver.drafting.search import Member
from receiver.fixtures import EXPECTED, HEADERS_BESIDE

#: Names of `receiver` that a drafted module may import.
_PUBLIC = frozenset(
    {
        *("ARRIVAL", "Dialect", "Discard", "Envelope", "Event", "Fresh", "Header", "HmacSha256", "Mirror", "MirrorRow"),
        *("Signature", "TrustedValue", "Unreadable", "Unsigned", "document_field", "each", "price_field", "time_field"),
    }
)

#: Names that a drafted module uses itself.
_OWN_NAMES = frozenset(
    {"Body", "Change", "Data", "Event", "Mirror", "Dialect", "Envelope", "Field", "Decimal", "Any", "Iterator"}
)

_templates = Environment(
    loader=PackageLoader("receiver.drafting"),
    undefined=StrictUndefined,
    keep_trailing_newline=True,
    autoescape=False,  # noqa: S701 (the templates are Python)
)


@dataclass(frozen=True, slots=True)
class Draft:
    """The files of a drafted dialect by their paths, and remarks for the person who checks them."""

    files: Mapping[str, bytes]
    #: A line for each guessed part.
    guessed: Sequence[str]
    #: A line for each part that could not be guessed.
    unknown: Sequence[str]


def draft(
    name: str,
    capture: Capture,
    *,
    origin: str,
    secrets: Sequence[bytes] = (),
    secrets_file: str = "--secrets-file",
) -> Draft:
    """Draft the dialect `name` from a captured request. Raises `ConfigurationError` if the body holds no event.

    `origin` describes the capture in the module's docstring. `secrets`, from the file `secrets_file`, confirm the
    guessed signature.
    """
    guess = Guess(name, capture, secrets, secrets_file)
    context = _Module(guess, origin).context()
    stem = re.sub(r"[^\w.-]+", "-", guess.types.example)[:100]
    fixture = f"fixtures/{name}/{stem}"
    files = {
        f"{name}.py": _rendered("module", context),
        f"{fixture}.json": _fixture(guess),
        f"{fixture}{EXPECTED}": _expected(guess),
        f"test_{name}.py": _rendered("test", context),
    }
    if guess.topic is not None:
        files[f"{fixture}{HEADERS_BESIDE}"] = _json({guess.topic.title(): guess.types.example})
    return Draft(files, [*guessed(guess)], [*unknown(guess)])


class _Module:
    """The values that the templates of a module and its test are rendered with."""

    def __init__(self, guess: Guess, origin: str) -> None:
        self.guess, self.origin = guess, origin
        self.name, self.event, self.items, self.columns = guess.name, guess.event, guess.items, guess.columns
        self.envelope, self.types = guess.envelope, guess.types

    def context(self) -> dict[str, Any]:
        envelope, types, name = self.envelope, self.types, self.name
        one = "change" if self.items is not None else "body"
        states = () if envelope.before is None else (envelope.data.path, envelope.before.path)
        model = BodyModel(one, fits_a_model(envelope), states)
        table = class_name(types.kind)
        parts = self._parts(model) | self._event_types()
        call = self.guess.proof.call if self.guess.proof is not None else unsigned()
        given = [literal(name), f"verify={_within(call, len('    verify=,'))}"]
        if self.guess.topic is not None:
            given.append(f"trusts_header={literal(self.guess.topic.title())}")
        if self.guess.capture.form:
            given.append(f"form={written_form(self.guess.capture.form)}")
        context = parts | {
            "name": name,
            "title": " ".join(words_in(name)).title() or name,
            "origin": self.origin,
            "dialect": _called(f"{name} = Dialect", given),
            "entity": envelope.entity_id is not None,
            "kind": types.kind,
            "table": table,
            "table_name": self.guess.table,
            "columns": self.columns,
            "numbers_as_text": any(_is_number_as_text(column, envelope.data.value) for column in self.columns),
            "fields": model.lines(self.event),
            "body_class": "Change" if self.items is not None else "Body",
            "argument": one,
            "argument_type": ("Change" if self.items is not None else "Body") if model.is_model else "dict[str, Any]",
            "reader": "read_change" if self.items is not None else "read",
            "items": self._items(),
            "compose": self._compose(),
            "signed": self.guess.proof is not None and not self.guess.proof.is_public,
            "taken": "" if self.guess.topic is None else ", trusted: TrustedValue | None",
        }
        says_type = envelope.event_type is not None or envelope.is_told_by_states or self.guess.topic is not None
        has_both = bool(context["update"] and context["delete"] and envelope.entity_id)
        context["late"] = has_both and envelope.time is not None and says_type
        return context | {"imports": _imports(self.guess, context)}

    def _event_types(self) -> dict[str, str | None]:
        """Make the literals of the event types with a handler; None for one that the capture does not have."""
        types, seen = self.types, self.guess.seen
        return {
            "example": literal(types.example),
            "update": literal(types.update) if types.update in seen else None,
            "delete": literal(types.delete) if types.delete is not None and types.delete in seen else None,
        }

    def _parts(self, model: BodyModel) -> dict[str, Any]:
        """Make the code of each part of the envelope, and add the fields that the code uses to `model`."""
        envelope, types = self.envelope, self.types
        key = None if envelope.key is None else model.text(envelope.key)
        event_type = literal(types.example) if self.guess.topic is None else 'trusted or "unknown"'
        if envelope.is_told_by_states:
            thing = types.kind if envelope.resource is None else f"{{{model.text(envelope.resource)}}}"
            event_type = _told_by_states(thing, model.object(envelope.data))
        if envelope.event_type is not None:
            event_type = model.text(envelope.event_type)
            if envelope.resource is not None:
                both = f"{{{model.text(envelope.resource)}}}.{{{event_type}}}"
                # Python 3.11 allows no double quotes inside an f-string in double quotes.
                single = both if {"'", "\\"}.intersection(both) else both.replace('"', "'")
                event_type = f'f"{single}"' if '"' not in single else f"f'{single}'"
        data = model.object(envelope.data)
        entity = "None"
        if envelope.entity_id is not None:
            entity = f"({literal(types.kind)}, {self._entity_id(model, envelope.entity_id)})"
        occurred_at = "ARRIVAL" if envelope.time is None else model.time(envelope.time, envelope.time_form)
        return {
            "dedup_key": key,
            "event_type": event_type,
            "entity_code": entity,
            "occurred_at": occurred_at,
            "data_code": data,
        }

    def _entity_id(self, model: BodyModel, member: Member) -> str:
        path = self.envelope.data.path
        if model.states or not path or len(path) > 1 or member.path[:-1] != path or not model.is_model:
            return model.text(member)
        # The data is optional, because other events lack it, but this event has its id there.
        found = f"{model.argument}.{field_name(path[0])}[{literal(member.path[-1])}]"
        model.fields[path[0]] = f"{field_name(path[0])}: dict[str, Any]" + (
            "" if field_name(path[0]) == path[0] else f" = Field(alias={literal(path[0])})"
        )
        return found if isinstance(member.value, str) else f"str({found})"

    def _items(self) -> dict[str, str] | None:
        if self.items is None:
            return None
        code = "body" + "".join(f"[{literal(name)}]" for name in self.items)
        return {"type": "dict[str, Any]" if self.items else "list[Any]", "code": code}

    def _compose(self) -> list[str]:
        lines, body = inverse(self.envelope, self.event)
        whole: Any = body
        if self.items is not None:
            whole = [body]
            for name in reversed(self.items):
                whole = {name: whole}
        return [*lines, f"return {written(whole, 4)}"]


def class_name(kind: str) -> str:
    """Make the name of the table of a kind."""
    name = camel_case(kind)
    is_used = name in _OWN_NAMES or name in _PUBLIC or hasattr(senders, name) or keyword.iskeyword(name)
    return f"{name}Row" if is_used else name


# ── the parts ─────────────────────────────────────────────────────────────────────────────────────────────────


def _told_by_states(thing: str, after: str) -> str:
    """Write the event type of an event with both states of a row, `after` the code of the later one."""
    verb = f"{{'deleted' if {after} is None else 'updated'}}".replace('"', "'")
    return f'f"{thing.replace(chr(34), chr(39))}.{verb}"'


def _fixture(guess: Guess) -> bytes:
    """Make the body of the fixture. A form is easier to read as JSON, but some signatures cover its fields."""
    capture = guess.capture
    return codec.encode(capture.document) if capture.form and guess.proof is None else capture.body


def _is_number_as_text(column: Column, data: Mapping[str, Any]) -> bool:
    return column.kind == "text" and not isinstance(data[column.member], str)


def _expected(guess: Guess) -> bytes:
    """Make the file that describes the state and the row that the captured body must leave."""
    envelope, types = guess.envelope, guess.types
    if envelope.entity_id is None:
        return _json({"state": "ignored", "rows": []})
    row: dict[str, Any] = {
        "table": guess.table,
        "external_id": codec.storable(str(envelope.entity_id.value)),
        "active": not types.is_delete,
    }
    if not guess.is_only_news:
        # A later event of the body decides, which the fixture of one event does not foresee.
        return _json({"state": "processed", "rows": [{name: row[name] for name in ("table", "external_id")}]})
    if envelope.time is not None and envelope.time_form == "aware":
        moment = moment_in(envelope.time.value)
        row["changed_at"] = None if moment is None else moment.isoformat().replace("+00:00", "Z")
    if not types.is_delete:
        row |= {column.name: column.shown for column in guess.columns}
    return _json({"state": "processed", "rows": [row]})


def _json(value: Any) -> bytes:
    return msgspec.json.format(codec.encode(value), indent=2) + b"\n"


def _imports(guess: Guess, context: Mapping[str, Any]) -> list[str]:
    """Make the import lines of the module for the names that its text uses."""
    tree = ast.parse(_rendered("module", {**context, "imports": []}))
    used = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)}
    proof = guess.proof
    short = proof.call.name if proof is not None and proof.is_short_form else None
    standard = {
        "collections.abc": ["Iterator"],
        "datetime": ["UTC", "datetime"],
        "decimal": ["Decimal"],
        "email.utils": ["format_datetime", "parsedate_to_datetime"],
        "typing": ["Any"],
    }
    needed = {module: [name for name in names if name in used] for module, names in standard.items()}
    lines = [f"from {module} import {', '.join(names)}" for module, names in needed.items() if names]
    models = sorted(used & {"AwareDatetime", "BaseModel", "ConfigDict", "Field"})
    lines += ["", *([f"from pydantic import {', '.join(models)}"] if models else [])]
    lines += [_wrapped(f"from receiver import {', '.join(sorted(used & _PUBLIC, key=_by_case))}")]
    return lines + ([f"from receiver.senders import {short}"] if short is not None else [])


def _by_case(name: str) -> tuple[int, str]:
    """The sort key of names in an import: constants, classes, functions."""
    return 0 if name.isupper() else 1 if name[0].isupper() else 2, name


def written_form(form: bool | str) -> str:
    """Write the `form` argument of the dialect."""
    return literal(form) if isinstance(form, str) else str(form)


def _called(name: str, given: Sequence[str]) -> str:
    """Write a call on one line, or with each argument on a separate line if one line would be too long."""
    line = f"{name}({', '.join(given)})"
    if len(line) <= ROOM and "\n" not in line:
        return line
    return "\n".join([f"{name}(", *(f"    {each}," for each in given), ")"])


def _within(call: CodeCall, around: int) -> str:
    """Write a call on a line with `around` other characters, or with its arguments on separate lines."""
    if len(call.code) + around <= ROOM:
        return call.code
    line = f"        {', '.join(call.parts)}"
    lines = [line] if len(line) <= ROOM else [f"        {part}," for part in call.parts]
    return "\n".join([f"{call.name}(", *lines, "    )"])


def _wrapped(line: str) -> str:
    if len(line) <= ROOM:
        return line
    head, _, names = line.partition(" import ")
    return "\n".join([f"{head} import (", *(f"    {name}," for name in names.split(", ")), ")"])


def _rendered(template: str, context: Mapping[str, Any]) -> bytes:
    return _templates.get_template(f"{template}.py.jinja").render(context).rstrip().encode() + b"\n"
