"""Items: the events of a bundle, read one by one, so that an unreadable item does not affect the others."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from itertools import islice
from typing import Any
from weakref import WeakKeyDictionary

from pydantic import TypeAdapter

from receiver.dialects.annotations import adapter, check_has_run, function_behind, hints, validate, without_partial
from receiver.envelope import Bundle, Envelope
from receiver.errors import Unreadable
from receiver.logs.safe_text import name_of_function, quoted, sentence, told, told_with_type

#: The most events of one body, unless the settings give another number.
MOST_EVENTS = 1_000

#: The models of the functions that read items. The references to the functions are weak, because one that is made
#: inside an envelope function holds its body.
_models: WeakKeyDictionary[Callable[[Any], Envelope], TypeAdapter[Any] | None] = WeakKeyDictionary()


def each(items: Iterable[Any], read: Callable[[Any], Envelope]) -> Iterator[Envelope | Unreadable]:
    """Read the envelope of each item; for use in an envelope function: `return each(body["events"], read_event)`.

    `read` takes one item, and its annotation names the model that the item must fit, as in an envelope function. It may
    be any callable, such as a `functools.partial` with values of the body around the items. An item that does not fit,
    or for which `read` raises, becomes a dead delivery, and the others are read all the same. Raises `Unreadable` if
    `items` is not a list.
    """
    if not isinstance(items, (list, tuple, Iterator)):
        raise Unreadable(f"The items are {quoted(items)} instead of a list.")
    return (_read_one(item, read) for item in items)


def collect(returned: Any, dialect: str, *, most: int) -> Bundle:
    """Collect the items that an envelope function returned or yields, at most `most`. Raises `Unreadable`."""
    if not isinstance(returned, (list, tuple, Iterator)):
        raise Unreadable(
            f"The envelope of {dialect} returned {quoted(returned)} instead of an Envelope or a list of them."
        )
    items = list(islice(returned, most + 1))
    if len(items) > most:
        raise Unreadable(
            f"The body holds more than {most} events: send fewer at once, or raise max_events_per_body in the settings "
            "and replay this delivery."
        )
    return Bundle([_checked(item, dialect) for item in items])


def _checked(item: Any, dialect: str) -> Envelope | Unreadable:
    if type(item) is Envelope or type(item) is Unreadable:
        return item
    return Unreadable(f"The envelope of {dialect} has {quoted(item)} in its list instead of an Envelope.")


def _read_one(item: Any, read: Callable[[Any], Envelope]) -> Envelope | Unreadable:
    try:
        model = _model_of(read)
        envelope = read(item if model is None else validate(model, item, "item"))
        if type(envelope) is not Envelope:
            check_has_run(envelope, name_of_function(_described(read)))
        return envelope
    except MemoryError:
        raise
    except Unreadable as error:
        return Unreadable(told(error))
    except BaseException as error:
        # An item at which the dialect fails is kept, as a whole body is. Even SystemExit is caught.
        return Unreadable(f"{name_of_function(_described(read))} failed: {sentence(told_with_type(error))}")


def _model_of(read: Callable[[Any], Envelope]) -> TypeAdapter[Any] | None:
    # A callable without a hash or without weak references is inspected for each item.
    with suppress(KeyError, TypeError):
        return _models[read]
    try:
        parameter = next(iter(inspect.signature(read).parameters), "")
    except ValueError:
        # A callable of the interpreter may have no signature.
        parameter = ""
    model = adapter(hints(_described(read)).get(parameter), read)
    with suppress(TypeError):
        _models[read] = model
    return model


def _described(read: Callable[[Any], Envelope]) -> Any:
    """The callable that has the name and the annotations of `read`.

    An object that wraps a function has those of the function, as `functools.wraps` gives them to it.
    """
    inner = without_partial(read)
    return inner if hasattr(inner, "__wrapped__") else function_behind(inner)
