"""Labels with names from outside, such as event types: the first names are counted separately, all others together."""

from __future__ import annotations

import threading
from collections.abc import Hashable

from receiver.codec import storable
from receiver.metrics import metrics

#: The most event types of one source that are counted separately, and the longest one in characters.
MOST_TYPES, LONGEST_TYPE = 50, 100

#: The label for all further names.
OTHERS = "others"


def is_whole_type(name: str) -> bool:
    """Whether a counted name is that of one event type, by which its deliveries are found: neither cut nor `OTHERS`."""
    return name != OTHERS and len(name) < LONGEST_TYPE


#: The longest name of an unknown source, in characters.
LONGEST_ASKED = 64


class Names:
    """The names seen so far, a bounded number in each group. Thread-safe."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._met: dict[Hashable, set[str]] = {}
        self._lock = threading.Lock()

    def known(self, group: str, name: str) -> tuple[str, bool]:
        """The name, or `OTHERS` if there are too many; and whether it is new."""
        name = storable(name[:LONGEST_TYPE])
        with self._lock:
            met = self._met.setdefault(group, set())
            if name in met:
                return name, False
            if len(met) >= self._most:
                name = OTHERS
            is_first = name not in met
            met.add(name)
            return name, is_first


#: The event type of a test event, which needs no handler.
TEST_EVENT_TYPE = "hookmirror.test"

_types = Names(MOST_TYPES)

#: By source, a misspelt name that was requested, and the size in bytes of its largest refused body.
asked_instead: dict[str, str] = {}
largest_refused: dict[str, int] = {}

#: A bounded number of names that resemble no source's, with the number of webhooks for each.
MOST_UNKNOWN = 50
unknown_asked: dict[str, int] = {}


def count_unhandled(source: str, event_type: str) -> bool:
    """Count a delivery without a handler; return whether its event type is new in this process."""
    if event_type == TEST_EVENT_TYPE:
        return False
    name, is_first = _types.known(source, event_type)
    metrics.UNHANDLED.labels(source, name).inc()
    return is_first


def count_ended_on_arrival(source: str, state: str, unhandled: str | None) -> None:
    """Count a delivery that was stored as ended. `unhandled` is the event type that no handler takes, or None."""
    metrics.ENDED_ON_ARRIVAL.labels(source, state).inc()
    if unhandled is not None:
        count_unhandled(source, unhandled)


def count_misspelt(source: str, asked: str) -> None:
    """Count a webhook for an unknown source whose name resembles that of `source`."""
    asked_instead[source] = storable(asked[:LONGEST_ASKED])
    metrics.MISSPELT.labels(source).inc()


def count_unknown(asked: str) -> None:
    """Count a webhook for an unknown source whose name resembles no other. The rarest name makes room."""
    name = storable(asked[:LONGEST_ASKED])
    if name not in unknown_asked and len(unknown_asked) >= MOST_UNKNOWN:
        del unknown_asked[min(unknown_asked, key=unknown_asked.__getitem__)]
    unknown_asked[name] = unknown_asked.get(name, 0) + 1


def note_too_large(source: str, size: int) -> None:
    """Note that a body of at least `size` bytes was refused."""
    largest_refused[source] = max(size, largest_refused.get(source, 0))
