"""The draft of a dialect: its module, a fixture and a test, which are green at once, and what was guessed."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec
from jinja2 import Environment, PackageLoader, StrictUndefined

from receiver import codec
from receiver.drafting.captures import Capture
from receiver.drafting.code import ROOM, BodyModel, field_name, fits_a_model, inverse, is_readable, written
from receiver.drafting.columns import Column, columns_of, moment_in
from receiver.drafting.event_types import EventTypes, guess_event_types, singular
from receiver.drafting.members import GuessedEnvelope, Member, guess_envelope, items_in
from receiver.drafting.naming import camel_case, literal, plural, words_in
from receiver.drafting.proofs import proof_of, secret_header, unsigned
from receiver.errors import ConfigurationError

#: Words in the names of headers that say what happened.
_TOPICS = frozenset({"topic", "event", "action"})

#: Words in the names of members that say nothing about what they hold.
_NO_KIND = frozenset(
    {
        *("id", "uuid", "guid", "gid", "sku", "code", "key", "number", "slug"),
        *("data", "object", "content", "entity", "entry", "body", "attributes", "details"),
    }
)

#: Names of `receiver` that a module may use.
_PUBLIC = frozenset(
    {
        *("ARRIVAL", "Dialect", "Discard", "Envelope", "Event", "Fresh", "Header", "HmacSha256", "Mirror", "MirrorRow"),
        *("Signature", "Unreadable", "Unsigned", "document_field", "each", "price_field", "time_field"),
    }
)

#: Names that the module uses itself.
_OWN_NAMES = frozenset({"Body", "Change", "Data", "Event", "Mirror", "Dialect", "Envelope", "Field", "Decimal", "Any"})

_templates = Environment(
    loader=PackageLoader("receiver.drafting"),
    undefined=StrictUndefined,
    keep_trailing_newline=True,
    autoescape=False,  # noqa: S701 (it is Python)
)


@dataclass(frozen=True, slots=True)
class Draft:
    """The files of a drafted dialect by their paths, and what to check in them."""

    files: Mapping[str, bytes]
    #: A line for each part that was guessed.
    guessed: Sequence[str]
    #: A line for each part that could not be.
    unknown: Sequence[str]


def draft(name: str, capture: Capture, *, origin: str, secrets: Sequence[bytes] = ()) -> Draft:
    """Draft the dialect `name` from a captured request. Raises `ConfigurationError` for one that tells of no event.

    `origin` is what the module says that it was drafted from. A secret confirms the signature.
    """
    return _Drafting(name, capture, origin, secrets).draft()


class _Drafting:
    """One draft in the making."""

    def __init__(self, name: str, capture: Capture, origin: str, secrets: Sequence[bytes]) -> None:
        self.name, self.capture, self.origin = name, capture, origin
        found = items_in(capture.document)
        self.items = None if found is None else (found[0],)
        event = capture.document if found is None else next(iter(found[1]), None)
        if not isinstance(event, dict) or not event:
            raise ConfigurationError("The capture is a list without objects: capture a webhook that tells of an event.")
        self.event = event
        self.proof = proof_of(capture.headers, capture.body, secrets)
        self.guess = _usable(guess_envelope(event))
        self.types = self._event_types()
        used = {each.path for each in _members(self.guess)}
        inside = {path[-1] for path in used if path[:-1] == self.guess.data.path}
        self.columns, self.left_out = columns_of(self.guess.data.value, but=inside, kind=self.types.kind)

    def draft(self) -> Draft:
        context = self._context()
        stem = re.sub(r"[^\w.-]+", "-", self.types.example)[:100]
        fixture = f"fixtures/{self.name}/{stem}"
        body = codec.encode(self.capture.document) if self.capture.form else self.capture.body
        files = {
            f"{self.name}.py": _rendered("module", context),
            f"{fixture}.json": body,
            f"{fixture}.expected.json": _expected(self),
            f"test_{self.name}.py": _rendered("test", context),
        }
        return Draft(files, [*self._guessed()], [*self._unknown()])

    # ── the event type ────────────────────────────────────────────────────────────────────────────────────────

    @property
    def topic(self) -> str | None:
        """The header that says what happened, where the body does not; None without one."""
        if self.guess.event_type is not None:
            return None
        named = [name for name in self.capture.headers if not _TOPICS.isdisjoint(words_in(name))]
        return next((name for name in named if re.fullmatch(r"[\w./:-]{1,80}", self.capture.headers[name])), None)

    def _event_types(self) -> EventTypes:
        guess = self.guess
        about = guess.data.path[-1:] or (guess.entity_id.path[-1:] if guess.entity_id is not None else ())
        words = [word for word in words_in(" ".join(about)) if word not in _NO_KIND]
        kind = singular(words[-1] if words else "record")
        if guess.event_type is None:
            return guess_event_types(f"{kind}.updated", kind=kind)
        if guess.resource is not None:
            return guess_event_types(f"{guess.resource.value}.{guess.event_type.value}", kind=kind)
        return guess_event_types(guess.event_type.value, kind=kind)

    # ── the module ────────────────────────────────────────────────────────────────────────────────────────────

    def _context(self) -> dict[str, Any]:
        guess, types, name = self.guess, self.types, self.name
        one = "change" if self.items is not None else "body"
        model = BodyModel(one, fits_a_model(guess))
        table = camel_case(types.kind)
        table = f"{table}Row" if table in _OWN_NAMES else table
        parts = self._parts(model)
        call = self.proof.call if self.proof is not None else unsigned()
        form = f", form={self.capture.form if self.capture.form is True else literal(str(self.capture.form))}"
        context = parts | {
            "name": name,
            "title": " ".join(words_in(name)).title() or name,
            "origin": self.origin,
            "dialect_arguments": f"{literal(name)}, verify={call.code}{form if self.capture.form else ''}",
            "entity": guess.entity_id is not None,
            "kind": types.kind,
            "table": table,
            "table_name": f"{name}_{plural(types.kind)}"[:60],
            "columns": self.columns,
            "numbers_as_text": any(_is_number_as_text(column, guess.data.value) for column in self.columns),
            "fields": model.lines(self.event),
            "body_class": "Change" if self.items is not None else "Body",
            "argument": one,
            "argument_type": ("Change" if self.items is not None else "Body") if model.is_model else "dict[str, Any]",
            "reader": "read_change" if self.items is not None else "read",
            "items": self._items(),
            "compose": self._compose(),
            "upserts": literal(types.upserts),
            "update": literal(types.update),
            "delete": None if types.delete is None or guess.entity_id is None else literal(types.delete),
            "signed": self.proof is not None,
            "taken": "",
        }
        context["late"] = bool(context["delete"]) and guess.time is not None and guess.event_type is not None
        return context | {"imports": _imports(self, context)}

    def _parts(self, model: BodyModel) -> dict[str, Any]:
        """The code of each part of the envelope; `model` learns the fields that it needs."""
        guess, types = self.guess, self.types
        key = None if guess.key is None else model.text(guess.key)
        event_type = literal(types.example)
        if guess.event_type is not None:
            event_type = model.text(guess.event_type)
            if guess.resource is not None:
                both = f"{{{model.text(guess.resource)}}}.{{{event_type}}}"
                # Python 3.11 takes no double quotes inside of an f-string in double quotes.
                event_type = f'f"{both}"' if '"' not in both else f"f'{both}'"
        data = model.object(guess.data)
        entity = "None"
        if guess.entity_id is not None:
            entity = f"({literal(types.kind)}, {self._entity_id(model, guess.entity_id)})"
        occurred_at = "ARRIVAL" if guess.time is None else model.time(guess.time, guess.time_form)
        return {
            "dedup_key": key,
            "event_type": event_type,
            "entity_code": entity,
            "occurred_at": occurred_at,
            "data_code": data,
        }

    def _entity_id(self, model: BodyModel, member: Member) -> str:
        path = self.guess.data.path
        if not path or len(path) > 1 or member.path[:-1] != path or not model.is_model:
            return model.text(member)
        # The data is optional for other events, and this one cannot be read without it.
        found = f"{model.argument}.{field_name(path[0])}[{literal(member.path[-1])}]"
        model.fields[path[0]] = f"{field_name(path[0])}: dict[str, Any]" + (
            "" if field_name(path[0]) == path[0] else f" = Field(alias={literal(path[0])})"
        )
        return found if isinstance(member.value, str) else f"str({found})"

    def _items(self) -> dict[str, str] | None:
        if self.items is None:
            return None
        name = self.items[0]
        if name is None:
            return {"type": "list[Any]", "code": "body"}
        return {"type": "dict[str, Any]", "code": f"body[{literal(name)}]"}

    def _compose(self) -> list[str]:
        lines, body = inverse(self.guess, self.event)
        whole: Any = body
        if self.items is not None:
            whole = [body] if self.items[0] is None else {self.items[0]: [body]}
        return [*lines, f"return {written(whole, 4)}"]

    # ── what is told ──────────────────────────────────────────────────────────────────────────────────────────

    def _guessed(self) -> Iterator[str]:
        guess, types = self.guess, self.types
        if self.items is not None:
            where = "the body" if self.items[0] is None else f"`{self.items[0]}`"
            yield f"several events in one body: {where} lists them"
        if self.proof is not None:
            yield f"signature: {self.proof.call.code}, {self.proof.because}"
        if self.capture.form:
            fields = "all of its fields" if self.capture.form is True else f"JSON in the field `{self.capture.form}`"
            yield f"a form: {fields}"
        if guess.event_type is not None:
            behind = "" if guess.resource is None else f" behind `{guess.resource.shown}`"
            yield f"event type: `{guess.event_type.shown}`{behind} ({types.example})"
        if guess.entity_id is not None:
            yield f"entity: `{types.kind}`, with its id in `{guess.entity_id.shown}`"
        if guess.time is not None:
            zone = ", taken as UTC" if guess.time_form == "naive" else ""
            yield f"time of the change: `{guess.time.shown}`{zone}"
        if guess.key is not None:
            yield f"id of the change, for duplicates: `{guess.key.shown}`"
        if guess.entity_id is not None:
            yield f"table: {', '.join(column.name for column in self.columns) or 'no columns'}"
            yield f"handlers: {types.upserts} upserts" + (f", {types.delete} deactivates" if types.delete else "")

    def _unknown(self) -> Iterator[str]:
        guess, types = self.guess, self.types
        yield from self._unknown_proof()
        if guess.event_type is None:
            header = f", and {self.topic.title()} is perhaps not signed" if self.topic is not None else ""
            yield f"event type: no member says it{header}. The module says {types.example} of every body"
        if guess.entity_id is None:
            yield "entity: no member is like the id of a thing, so the handler discards the events"
        if guess.time is None:
            yield "time of the change: no member says it, so ARRIVAL dates each change by its arrival"
        elif guess.time_form == "naive":
            yield "time zone: the time has no offset. Say which zone it is in"
        if guess.key is None:
            yield "id of the change: none found, so time and content tell duplicates"
        if guess.entity_id is not None and types.delete is None:
            yield "delete: its event type, so nothing deactivates a row"
        elif guess.entity_id is not None and not types.is_delete:
            yield f"delete: whether it is called {types.delete}, and what its body holds. Capture one"
        if self.left_out and guess.entity_id is not None:
            yield f"columns: none for {', '.join(self.left_out[:20])} (null here, or too many)"

    def _unknown_proof(self) -> Iterator[str]:
        if self.proof is not None:
            if not self.proof.is_confirmed:
                yield "signature: what is signed. A secret confirms it: give --secrets-file"
            return
        carrier = secret_header(self.capture.headers)
        if carrier is not None:
            yield (
                f"proof: {carrier.title()} seems to carry the secret itself. Unsigned() takes every body: write a "
                "verifier that compares it (docs/writing-a-dialect.md, A proof of another kind)"
            )
        else:
            yield (
                "proof: no header looks like a signature. Unsigned() takes every body: name the header with --header, "
                "or find out how the sender proves itself"
            )


# ── the parts ─────────────────────────────────────────────────────────────────────────────────────────────────


def _members(guess: GuessedEnvelope) -> list[Member]:
    found = (guess.event_type, guess.resource, guess.key, guess.entity_id, guess.time)
    return [each for each in found if each is not None]


def _usable(guess: GuessedEnvelope) -> GuessedEnvelope:
    """The guess without a time that the code cannot read."""
    time = guess.time
    typed = time is not None and fits_a_model(guess) and len(time.path) == 1
    if time is None or typed or is_readable(time, guess.time_form):
        return guess
    return GuessedEnvelope(guess.event_type, guess.resource, guess.key, guess.entity_id, None, guess.data)


def _is_number_as_text(column: Column, data: Mapping[str, Any]) -> bool:
    return column.kind == "text" and not isinstance(data[column.member], str)


def _expected(drafting: _Drafting) -> bytes:
    """The state and the row that the captured body leaves behind."""
    guess, types = drafting.guess, drafting.types
    if guess.entity_id is None:
        return _json({"state": "ignored", "rows": []})
    row: dict[str, Any] = {
        "table": f"{drafting.name}_{plural(types.kind)}"[:60],
        "external_id": str(guess.entity_id.value),
        "active": not types.is_delete,
    }
    if guess.time is not None and guess.time_form == "aware":
        moment = moment_in(guess.time.value)
        row["changed_at"] = None if moment is None else moment.isoformat().replace("+00:00", "Z")
    if not types.is_delete:
        row |= {column.name: column.shown for column in drafting.columns}
    return _json({"state": "processed", "rows": [row]})


def _json(value: Any) -> bytes:
    return msgspec.json.format(codec.encode(value), indent=2) + b"\n"


def _imports(drafting: _Drafting, context: Mapping[str, Any]) -> list[str]:
    """The imports of the module, as its text needs them."""
    tree = ast.parse(_rendered("module", {**context, "imports": []}))
    used = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)}
    proof = drafting.proof
    short = proof.call.name if proof is not None and proof.is_short_form else None
    times: list[str] = [name for name in ("UTC", "datetime") if name in used]
    standard: list[tuple[str, list[str]]] = [
        ("collections.abc", ["Iterator"]),
        ("datetime", times),
        ("decimal", ["Decimal"]),
        ("typing", ["Any"]),
    ]
    lines = [f"from {module} import {', '.join(names)}" for module, names in standard if used.issuperset(names)]
    models = sorted(used & {"AwareDatetime", "BaseModel", "ConfigDict", "Field"})
    lines += ["", *([f"from pydantic import {', '.join(models)}"] if models else [])]
    lines += [_wrapped(f"from receiver import {', '.join(sorted(used & _PUBLIC, key=_by_case))}")]
    return lines + ([f"from receiver.senders import {short}"] if short is not None else [])


def _by_case(name: str) -> tuple[int, str]:
    """The order of names in an import: constants, classes, functions."""
    return 0 if name.isupper() else 1 if name[0].isupper() else 2, name


def _wrapped(line: str) -> str:
    if len(line) <= ROOM:
        return line
    head, _, names = line.partition(" import ")
    return "\n".join([f"{head} import (", *(f"    {name}," for name in names.split(", ")), ")"])


def _rendered(template: str, context: Mapping[str, Any]) -> bytes:
    return _templates.get_template(f"{template}.py.jinja").render(context).rstrip().encode() + b"\n"
