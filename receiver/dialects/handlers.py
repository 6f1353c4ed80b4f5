"""Handlers of a dialect, each registered for a pattern of event types."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from pydantic import TypeAdapter

from receiver.dialects.annotations import called, check_has_run, check_no_generator, event_model, validate
from receiver.dialects.patterns import Pattern
from receiver.errors import WiringError
from receiver.logs.safe_text import name_of_function


@dataclass(frozen=True, slots=True)
class Handler:
    """A function registered for a pattern of event types, with the model that the event's data must fit."""

    pattern: Pattern
    function: Callable[..., Any]
    #: The model; None for a handler that gets the parsed JSON.
    model: TypeAdapter[Any] | None
    #: The function's name: "module.function".
    name: str

    def run(self, *arguments: Any) -> Any:
        """Call the function. Raises `HandlerError` for a result that shows that its code was not run."""
        result = self.function(*arguments)
        if result is not None:
            check_has_run(result, self.name)
        return result

    def parse(self, data: Any) -> Any:
        """Validate the data with the model. Raises `Unreadable` if it does not fit."""
        return data if self.model is None else validate(self.model, data, "data")


def handlers_with(
    handlers: Sequence[Handler],
    patterns: Sequence[Pattern],
    function: Callable[..., Any],
    dialect: str,
    *,
    override: bool = False,
) -> list[Handler]:
    """The handlers with one more function, which with `override` replaces those of the same patterns.

    Raises `WiringError` for a pattern that is ambiguous with another handler's.
    """
    check_no_generator(function)
    model, found = event_model(function), list(handlers)
    for pattern in patterns:
        rivals = [handler for handler in found if handler.pattern.is_ambiguous_with(pattern)]
        replaced = [rival for rival in rivals if override and rival.pattern == pattern]
        for rival in (each for each in rivals if each not in replaced):
            raise WiringError(
                f"{called(function)} ({pattern.text}) and {rival.name} ({rival.pattern.text}) would both "
                f"handle an event type of {dialect}, and neither is more specific: remove one, or say "
                "override=True in one of them."
            )
        found = [handler for handler in found if handler not in replaced]
        found.append(Handler(pattern, function, model, name_of_function(function)))
    return found


def most_specific(handlers: list[Handler], event_type: str) -> Handler | None:
    """The handler with the most specific pattern that matches this event type; None if no pattern matches."""
    fitting = [handler for handler in handlers if handler.pattern.matches(event_type)]
    return max(fitting, key=lambda handler: handler.pattern.specificity, default=None)
