"""Handlers of a dialect, each registered for a pattern of event types."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from pydantic import TypeAdapter

from receiver.dialects.annotations import check_has_run, validate
from receiver.dialects.patterns import Pattern


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


def most_specific(handlers: list[Handler], event_type: str) -> Handler | None:
    """The handler with the most specific pattern that matches this event type; None if no pattern matches."""
    fitting = [handler for handler in handlers if handler.pattern.matches(event_type)]
    return max(fitting, key=lambda handler: handler.pattern.specificity, default=None)
