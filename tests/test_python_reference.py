"""docs/python-reference.md has every public name with its arguments, types, methods and errors, and no other."""

from __future__ import annotations

import ast
import builtins
import dataclasses
import importlib
import inspect
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, ForwardRef

import msgspec
import pydantic
import pytest
import sqlalchemy.exc

from receiver import errors

PAGE = (Path(__file__).parents[1] / "docs" / "python-reference.md").read_text("utf-8")

#: The section of each name.
SECTIONS: dict[str, str] = dict(re.findall(r"^### `(\w+)`\n(.*?)(?=^#{2,3} |\Z)", PAGE, re.MULTILINE | re.DOTALL))

#: The signature of a class or function, in a block of its own.
BLOCK = re.compile(r"^```\n(.*?)^```$", re.MULTILINE | re.DOTALL)

#: A method or property at the beginning of its paragraph.
MEMBER = re.compile(r"^- `([^`]+)`$", re.MULTILINE)

#: Classes that the framework instantiates, and users do not.
MADE_FOR_THE_USER = ("Mirror", "MirrorRow", "Verifier", "SignaturePlace")


# ── what is public ────────────────────────────────────────────────────────────────────────────────────────────────────


def names_in(module: str, *names: str) -> dict[str, Any]:
    """Return the names in the module's `__all__`, or these names if it has none."""
    loaded = importlib.import_module(module)
    return {name: getattr(loaded, name) for name in getattr(loaded, "__all__", names)}


def is_fixture(value: Any) -> bool:
    return "fixture" in type(value).__name__.lower() or hasattr(value, "_pytestfixturefunction")


KIT = names_in("receiver.testing")
FIXTURES = {name for name, value in KIT.items() if is_fixture(value)}
CONSTANTS = {name for name in KIT if name.isupper()}

PUBLIC: dict[str, Any] = {
    **names_in("receiver"),
    **names_in("receiver.codec", "decode", "encode"),
    **names_in("receiver.mirror.changes", "follow"),
    **names_in("receiver.reconcile", "reconcile", "date_back", "Report"),
    **{name: value for name, value in KIT.items() if name not in FIXTURES | CONSTANTS},
}


def test_every_public_name_has_a_section_and_no_other_name_has_one() -> None:
    assert sorted(SECTIONS) == sorted(PUBLIC)


def test_every_public_name_is_in_the_table_of_tasks() -> None:
    tasks = " ".join(row[1] for row in rows_under(PAGE, "to"))
    assert [name for name in PUBLIC if f"`{name}`" not in tasks] == []


@pytest.mark.parametrize(("first", "expected"), [("fixture", FIXTURES), ("constant", CONSTANTS)])
def test_the_fixtures_and_constants_of_the_test_kit_are_listed(first: str, expected: set[str]) -> None:
    assert {row[0].strip("`") for row in rows_under(PAGE, first)} == expected
    assert expected


def rows_under(text: str, first: str) -> list[list[str]]:
    """Return the cells of the tables with this first heading, without the backslash before a `|`."""
    tables = re.findall(rf"^\| {first} \|.*\n\|[-|]+\n((?:\|.*\n)+)", text, re.MULTILINE)
    lines = [line for table in tables for line in table.splitlines()]
    return [[cell.strip().replace("\\|", "|") for cell in re.split(r"(?<!\\)\|", line[1:-1])] for line in lines]


# ── arguments ─────────────────────────────────────────────────────────────────────────────────────────────────────────

#: A parameter: name, kind, annotation and default; "..." stands for a default that is not a literal.
Parameter = tuple[str, str, str, str]


def annotation_text(annotation: Any) -> str:
    """Write an annotation in one spelling; empty if there is none."""
    if isinstance(annotation, ForwardRef):
        annotation = annotation.__forward_arg__
    if annotation is inspect.Parameter.empty:
        return ""
    return ast.unparse(ast.parse(annotation if isinstance(annotation, str) else repr(annotation), mode="eval"))


def default_text(default: Any) -> str:
    """Write a default as source text: "..." if it is not a literal, empty if there is none."""
    if default is inspect.Parameter.empty:
        return ""
    try:
        is_literal = ast.literal_eval(repr(default)) == default
    except (ValueError, SyntaxError):
        is_literal = False
    return repr(default) if is_literal else "..."


def signature_in_code(function: Callable[..., Any]) -> tuple[list[Parameter], str]:
    signature = inspect.signature(function)
    given = [each for each in signature.parameters.values() if each.name != "self"]
    parameters = [
        (each.name, each.kind.name, annotation_text(each.annotation), default_text(each.default)) for each in given
    ]
    result = "" if inspect.isclass(function) else annotation_text(signature.return_annotation)
    return parameters, result


def signature_on_page(text: str) -> tuple[str, list[Parameter], str]:
    """Return the name, the parameters and the result of a signature as the page writes it."""
    head = ast.parse(f"def {' '.join(text.split())}: ...").body[0]
    assert isinstance(head, ast.FunctionDef)
    return head.name, list(parameters_of(head.args)), "" if head.returns is None else ast.unparse(head.returns)


def parameters_of(given: ast.arguments) -> Iterator[Parameter]:
    places = [
        *((each, inspect.Parameter.POSITIONAL_ONLY) for each in given.posonlyargs),
        *((each, inspect.Parameter.POSITIONAL_OR_KEYWORD) for each in given.args),
    ]
    defaults: list[ast.expr | None] = [*[None] * (len(places) - len(given.defaults)), *given.defaults]
    for (each, kind), default in zip(places, defaults, strict=True):
        yield parameter(each, kind, default)
    if given.vararg:
        yield parameter(given.vararg, inspect.Parameter.VAR_POSITIONAL)
    for each, default in zip(given.kwonlyargs, given.kw_defaults, strict=True):
        yield parameter(each, inspect.Parameter.KEYWORD_ONLY, default)
    if given.kwarg:
        yield parameter(given.kwarg, inspect.Parameter.VAR_KEYWORD)


def parameter(each: ast.arg, kind: Any, default: ast.expr | None = None) -> Parameter:
    annotation = "" if each.annotation is None else ast.unparse(each.annotation)
    return each.arg, kind.name, annotation, "" if default is None else ast.unparse(default)


# ── fields ────────────────────────────────────────────────────────────────────────────────────────────────────────────


def fields_of(kind: type) -> dict[str, tuple[str, str]]:
    """Return type and default of each field of a dataclass, a struct, a named tuple or a model; empty for another."""
    if dataclasses.is_dataclass(kind):
        return {each.name: (annotation_text(each.type), default_of(each)) for each in dataclasses.fields(kind)}
    if issubclass(kind, msgspec.Struct):
        return {
            each.name: (annotation_text(kind.__annotations__[each.name]), default_of_struct(each))
            for each in msgspec.structs.fields(kind)
        }
    if issubclass(kind, pydantic.BaseModel):
        return {
            name: (annotation_text(annotation), default_of_member(kind, name))
            for name, annotation in inspect.get_annotations(kind).items()
            if name in kind.model_fields or "ClassVar[" in str(annotation)
        }
    if hasattr(kind, "_fields"):
        defaults = {name: default_text(default) for name, default in kind._field_defaults.items()}
        return {name: (annotation_text(kind.__annotations__[name]), defaults.get(name, "")) for name in kind._fields}
    return {}


def default_of(each: dataclasses.Field[Any]) -> str:
    if each.default is not dataclasses.MISSING:
        return default_text(each.default)
    return "" if each.default_factory is dataclasses.MISSING else "..."


def default_of_struct(each: msgspec.structs.FieldInfo) -> str:
    if each.default is not msgspec.NODEFAULT:
        return default_text(each.default)
    return "" if each.default_factory is msgspec.NODEFAULT else "..."


def default_of_member(model: type[pydantic.BaseModel], name: str) -> str:
    if name not in model.model_fields:
        return default_text(getattr(model, name))
    field = model.model_fields[name]
    return "" if field.is_required() else default_text(field.get_default(call_default_factory=True))


WITH_FIELDS = [name for name, value in PUBLIC.items() if inspect.isclass(value) and fields_of(value)]


@pytest.mark.parametrize("name", WITH_FIELDS)
def test_every_field_is_documented_with_its_type_and_default_and_no_other(name: str) -> None:
    rows = rows_under(SECTIONS[name], "field")
    documented = {
        field.strip("`"): (annotation_text(kind.strip("`")), "" if default == "required" else in_one_spelling(default))
        for field, kind, default, _ in rows
    }
    assert documented == fields_of(PUBLIC[name])
    assert all(meaning for *_, meaning in rows), "explain the field with a sentence"


def in_one_spelling(default: str) -> str:
    return ast.unparse(ast.parse(default.strip("`"), mode="eval"))


# ── signatures, methods ───────────────────────────────────────────────────────────────────────────────────────────────


def is_called(name: str) -> bool:
    """Whether users call it with arguments that no table of fields shows."""
    value = PUBLIC[name]
    if not inspect.isclass(value):
        return callable(value)
    return "__init__" in vars(value) and name not in (*WITH_FIELDS, *MADE_FOR_THE_USER)


CALLED = list(filter(is_called, PUBLIC))


@pytest.mark.parametrize("name", CALLED)
def test_the_documented_signature_is_the_one_in_the_code(name: str) -> None:
    block = BLOCK.search(SECTIONS[name])
    assert block is not None, f"{name} has no signature"
    assert signature_on_page(block[1]) == (name, *signature_in_code(PUBLIC[name]))


@pytest.mark.parametrize("name", CALLED)
def test_a_table_of_arguments_names_each_argument_and_no_other(name: str) -> None:
    documented = [row[0].strip("`") for row in rows_under(SECTIONS[name], "argument")]
    given = [each[0] for each in signature_in_code(PUBLIC[name])[0]]
    assert documented in ([], given)
    assert documented or len(given) < 3 or "The arguments are those of" in SECTIONS[name]


def members_of(kind: type) -> dict[str, Any]:
    """Return the public methods and properties of a class, without those of a documented base class."""
    above = {name for base in kind.__mro__[1:] if base in PUBLIC.values() for name in vars(base)}
    return {
        name: value
        for name, value in vars(kind).items()
        # pydantic adds this method to a model with private attributes.
        if not name.startswith(("_", "model_post_init"))
        and name not in above
        and (inspect.isfunction(value) or isinstance(value, property))
    }


CLASSES = [name for name, value in PUBLIC.items() if inspect.isclass(value)]


@pytest.mark.parametrize("name", CLASSES)
def test_every_method_and_property_is_documented_as_in_the_code_and_no_other(name: str) -> None:
    in_code: dict[str, Any] = {}
    for member, value in members_of(PUBLIC[name]).items():
        if isinstance(value, property):
            assert value.fget is not None
            in_code[member] = annotation_text(inspect.signature(value.fget).return_annotation)
        else:
            in_code[member] = signature_in_code(value)
    on_page: dict[str, Any] = {}
    for text in MEMBER.findall(SECTIONS[name]):
        if "(" in text.partition(":")[0]:
            member, *signature = signature_on_page(text)
            on_page[member] = tuple(signature)
        else:
            member, _, kind = text.partition(": ")
            on_page[member] = annotation_text(kind)
    assert on_page == in_code


# ── errors ────────────────────────────────────────────────────────────────────────────────────────────────────────────


def errors_named_in(text: str) -> set[str]:
    """Return the errors that the sentences about raising name."""
    sentences = re.split(r"(?<=[.;:])\s+", " ".join(text.split()))
    about_raising = [sentence for sentence in sentences if re.search(r"\b[Rr]aise[sd]?\b", sentence)]
    return {name for sentence in about_raising for name in re.findall(r"`([A-Z]\w+)`", sentence)}


def is_error(name: str) -> bool:
    places = (errors, builtins, sqlalchemy.exc)
    found = next((getattr(place, name) for place in places if hasattr(place, name)), None)
    return inspect.isclass(found) and issubclass(found, BaseException)


@pytest.mark.parametrize("name", PUBLIC)
def test_every_error_that_a_section_names_as_raised_exists(name: str) -> None:
    assert [error for error in errors_named_in(SECTIONS[name]) if not is_error(error)] == []


@pytest.mark.parametrize("name", PUBLIC)
def test_every_error_that_a_docstring_names_as_raised_is_in_the_section(name: str) -> None:
    value = PUBLIC[name]
    own = [value, vars(value).get("__init__"), *members_of(value).values()] if inspect.isclass(value) else [value]
    told = " ".join(each.__doc__ or "" for each in own if each is not None)
    raised = {error for error in re.findall(r"Raises `(\w+)`", told) if is_error(error)}
    assert [error for error in raised if f"`{error}`" not in SECTIONS[name]] == []


def test_the_errors_that_are_not_exported_are_explained() -> None:
    named = {error for text in SECTIONS.values() for error in errors_named_in(text)}
    explained = {row[0].strip("`") for row in rows_under(PAGE, "error")}
    ours = {error for error in named if hasattr(errors, error)}
    assert ours - PUBLIC.keys() <= explained
    assert all(is_error(error) for error in explained)
