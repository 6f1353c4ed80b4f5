"""Annotations: reads the models of parameters from the functions that a dialect registers, and checks the functions."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from decimal import Decimal
from functools import partial
from types import NoneType
from typing import Any, get_args, get_origin, get_type_hints

from pydantic import TypeAdapter, ValidationError
from pydantic.errors import PydanticUndefinedAnnotation, PydanticUserError

from receiver.envelope import Event
from receiver.errors import HandlerError, Unreadable, WiringError
from receiver.huge_numbers import LARGEST_POWER, HugeNumber
from receiver.logs.safe_text import name_of, quoted, sentence, told, told_with_type
from receiver.verify.verifiers import Verifier

#: Messages in place of pydantic's, by the type of the mistake, where those do not say enough.
MESSAGES = {
    "finite_number": f"the number is not finite, or has more than {LARGEST_POWER:,} digits before or behind its point",
    "timezone_aware": "the time has no offset from UTC, which `AwareDatetime` requires: annotate it as `datetime`, and "
    "attach the sender's zone in the envelope function, with `.replace(tzinfo=ZONE)`",
}


def check_takes_event(dialect: str, function: Callable[..., Any], what: str, **besides: type) -> None:
    """Raise `WiringError` for a function with other parameters than the event and the one in `besides`.

    Also raised if the annotations show that they are in the wrong order.
    """
    check_plain(dialect, function, what, ("event", *besides))
    wanted = {"event": Event, **besides}
    found = hints(function)
    for parameter, kind in zip(inspect.signature(function).parameters, wanted.values(), strict=True):
        annotation = found.get(parameter)
        meant = get_origin(annotation) or annotation
        if meant is not kind and meant in wanted.values():
            order = ", ".join(f"{each}: {wanted[each].__name__}" for each in wanted)
            raise WiringError(f"{called(function)} is {what}: write its parameters in the order ({order}).")


def event_model(function: Callable[..., Any]) -> TypeAdapter[Any] | None:
    """Make the validator of T from the `Event[T]` of the function's first parameter."""
    parameter = next(iter(inspect.signature(function).parameters))
    annotation = hints(function).get(parameter)
    if get_origin(annotation) is not Event:
        return None
    return adapter(get_args(annotation)[0], function)


def adapter(kind: Any, function: Callable[..., Any]) -> TypeAdapter[Any] | None:
    """Make the validator of values of this type, which annotates the function; None for a type of all values.

    Raises `WiringError` for a type that pydantic does not know.
    """
    if kind in (Any, None, type(None)):
        return None
    try:
        return TypeAdapter(kind)
    except (PydanticUserError, PydanticUndefinedAnnotation) as error:
        raise WiringError(
            f"{called(function)} is annotated with {quoted(kind)}, which pydantic does not read "
            f"({told(error).rstrip('.')}): annotate it with a pydantic model, or with `dict` for the parsed JSON."
        ) from None


def hints(function: Callable[..., Any]) -> dict[str, Any]:
    """Resolve the annotations of a function.

    Raises `WiringError` for another callable, and for an annotation whose code fails, such as one with a name that is
    not defined at the top level of the module.
    """
    try:
        return get_type_hints(function)
    except Exception as error:
        if not inspect.isroutine(function):
            raise WiringError(
                f"{called(function)} is neither a function nor a method: register a function, written with `def`, that "
                "calls it."
            ) from None
        raise WiringError(
            f"An annotation of {called(function)} cannot be resolved ({told(error)}): define its model at the top "
            "level of the module."
        ) from None


def validate(model: TypeAdapter[Any], value: Any, what: str) -> Any:
    """Validate the value, and return it as the model converts it. `what` names it in the message of `Unreadable`."""
    try:
        # The core is called directly, because the adapter's own method takes as long as the validation.
        return model.validator.validate_python(value)
    except ValidationError as error:
        raise Unreadable(f"The {what} is not what the dialect expects: {_mistakes(error, what)}.") from None
    except (RecursionError, ValueError, ArithmeticError) as error:
        raise Unreadable(f"The {what} cannot be read: {sentence(told_with_type(error))}") from None


def _mistakes(error: ValidationError, what: str) -> str:
    """Describe the first few validation errors. Reading one may raise, because a validator of the model made it."""
    try:
        found = error.errors(include_url=False, include_context=False)[:5]
        return "; ".join(
            f"{'.'.join(map(str, each['loc'])) or what}: {MESSAGES.get(each['type'], each['msg'])}{_got(each['input'])}"
            for each in found
        )
    except Exception as failed:
        return f"{error.error_count()} mistakes, which cannot be shown ({name_of(failed)})"


def _got(value: Any) -> str:
    """The refused value in brackets, cut; empty for an object or a list, whose place is enough."""
    return f" (got {quoted(value)})" if type(value) in _SHOWN else ""


#: The types of values that a reason shows.
_SHOWN = frozenset({str, int, float, Decimal, HugeNumber, bool, NoneType})


def check_plain(dialect: str, function: Any, what: str, parameters: tuple[str, ...]) -> None:
    """Raise `WiringError` for an async function, and for a function with other parameters."""
    behind = function_behind(function)
    if inspect.iscoroutinefunction(behind) or inspect.isasyncgenfunction(behind):
        raise WiringError(
            f"{called(function)} is async, and {what} must be a plain `def`: move code that waits for I/O into a "
            f"function under @{dialect}.hydrate(…)."
        )
    if len(inspect.signature(function).parameters) != len(parameters):
        raise WiringError(f"{called(function)} is {what}: give it the parameters ({', '.join(parameters)}).")


def check_alone(dialect: str, what: str, registered: Any, method: str, *, override: bool) -> None:
    """Raise `WiringError` if another function is registered already, which this one does not override."""
    if registered is not None and not override:
        raise WiringError(
            f"The dialect {dialect} has {what}, {called(registered)}: remove one, or replace it by "
            f"{dialect}.{method}(function, override=True)."
        )


def check_no_generator(function: Any) -> None:
    """Raise `WiringError` for a function with `yield`, because a call of it runs nothing of it."""
    if inspect.isgeneratorfunction(function):
        raise WiringError(
            f"{called(function)} has a `yield`, so that a call of it would run none of its code: remove the `yield`."
        )


def check_has_run(result: Any, function: str) -> None:
    """Raise `HandlerError` for a result that shows that the code of the function was not run.

    This is a generator or a coroutine, such as that of a plain function which calls an async one.
    """
    if inspect.isgenerator(result) or inspect.iscoroutine(result):
        # Otherwise the interpreter warns of a coroutine that was never awaited.
        result.close()
    elif not (inspect.isasyncgen(result) or inspect.isawaitable(result)):
        return
    raise HandlerError(
        f"{function} returned {_article(name_of(result))}, so that its code was not run: write it, and the functions "
        "that it calls, as plain functions, without `async` and `yield`"
    )


def _article(noun: str) -> str:
    return f"{'an' if noun[:1] in 'aeiou' else 'a'} {noun}"


def called(function: Any) -> str:
    """The name of a function or of another callable, with that of its function for a `partial`."""
    inner = without_partial(function)
    name = str(getattr(inner, "__qualname__", type(inner).__name__))
    return name if inner is function else f"partial({name})"


def without_partial(function: Any) -> Any:
    """The function that a `functools.partial` calls; any other callable as it is."""
    while isinstance(function, partial):
        function = function.func
    return function


def function_behind(function: Any) -> Any:
    """The function or method that runs if this callable, which may be a `partial` or an object, is called."""
    inner = without_partial(function)
    is_object = not inspect.isroutine(inner) and not inspect.isclass(inner)
    return getattr(inner, "__call__", inner) if is_object else inner  # noqa: B004 (the method itself is wanted)


def check_takes_request(dialect: str, verifier: Verifier) -> None:
    """Raise `WiringError` for a verifier whose methods do not take the request as one value."""
    for method in ("verify", "sign"):
        if len(inspect.signature(getattr(verifier, method)).parameters) != 2:
            raise WiringError(
                f"The method `{method}` of the verifier of {dialect} has other parameters than (request, credentials): "
                "give it these, where `request` is a WebhookRequest."
            )
