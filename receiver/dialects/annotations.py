"""Annotations of the functions that a dialect registers: they say which models their parameters have."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any, get_args, get_origin, get_type_hints

from pydantic import TypeAdapter, ValidationError

from receiver.envelope import Event
from receiver.errors import Unreadable, WiringError
from receiver.logs.safe_text import name_of, told_with_type
from receiver.verify.verifiers import Verifier


def check_order(function: Callable[..., Any], what: str, **wanted: type) -> None:
    """Raise `WiringError` if the annotations show that parameters are in the wrong order."""
    found = hints(function)
    for parameter, kind in zip(inspect.signature(function).parameters, wanted.values(), strict=True):
        annotation = found.get(parameter)
        meant = get_origin(annotation) or annotation
        if meant is not kind and meant in wanted.values():
            order = ", ".join(f"{each}: {wanted[each].__name__}" for each in wanted)
            raise WiringError(f"{function.__qualname__} is {what}, so it takes ({order}), in this order.")


def event_model(function: Callable[..., Any]) -> TypeAdapter[Any] | None:
    """The validator of T in the `Event[T]` of the function's first parameter."""
    parameter = next(iter(inspect.signature(function).parameters))
    annotation = hints(function).get(parameter)
    if get_origin(annotation) is not Event:
        return None
    return adapter(*get_args(annotation))


def adapter(kind: Any) -> TypeAdapter[Any] | None:
    """The validator of values of this type; None for a type that accepts everything."""
    if kind in (Any, None, type(None)):
        return None
    return TypeAdapter(kind)


def hints(function: Callable[..., Any]) -> dict[str, Any]:
    """The resolved annotations. Raises `WiringError` for one that names nothing at the top of its module."""
    try:
        return get_type_hints(function)
    except NameError as error:
        raise WiringError(
            f"An annotation of {function.__qualname__} cannot be resolved ({error}): define its model at the top level "
            "of the module."
        ) from None


def validate(model: TypeAdapter[Any], value: Any, what: str) -> Any:
    """The value as the model wants it; `what` names it in the message of `Unreadable`."""
    try:
        # Straight to the core: the adapter's own method is made for many options, and costs as much as the validation.
        return model.validator.validate_python(value)
    except ValidationError as error:
        raise Unreadable(f"The {what} is not what the dialect expects: {_mistakes(error, what)}.") from None
    except (RecursionError, ValueError, ArithmeticError) as error:
        raise Unreadable(f"The {what} cannot be read: {told_with_type(error)}.") from None


def _mistakes(error: ValidationError, what: str) -> str:
    """The first few of the model's complaints; the model's own validators may have put anything into them."""
    try:
        found = error.errors(include_url=False, include_context=False, include_input=False)[:5]
        return "; ".join(f"{'.'.join(map(str, each['loc'])) or what}: {each['msg']}" for each in found)
    except Exception as failed:
        return f"{error.error_count()} mistakes, which cannot be told ({name_of(failed)})"


def check_plain(dialect: str, function: Any, what: str, parameters: tuple[str, ...]) -> None:
    """Raises `WiringError` for an async function, and for one with other parameters."""
    if inspect.iscoroutinefunction(function) or inspect.isasyncgenfunction(function):
        raise WiringError(
            f"{called(function)} is async, and {what} is a plain `def`: move what waits for I/O into a "
            f"function under @{dialect}.hydrate(…)."
        )
    if len(inspect.signature(function).parameters) != len(parameters):
        raise WiringError(f"{called(function)} is {what}, so it takes ({', '.join(parameters)}).")


def called(function: Any) -> str:
    """The name of a function, or of whatever else is called."""
    return str(getattr(function, "__qualname__", type(function).__name__))


def check_takes_request(dialect: str, verifier: Verifier) -> None:
    """Raises `WiringError` for a verifier whose methods do not take the request as one value."""
    for method in ("verify", "sign"):
        if len(inspect.signature(getattr(verifier, method)).parameters) != 2:
            raise WiringError(
                f"The verifier of {dialect} has a method `{method}` that does not take (request, credentials), where "
                "`request` is a WebhookRequest: write it so."
            )
