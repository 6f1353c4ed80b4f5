"""What others name: event types, addresses. Counted under their names as long as those are few."""

from __future__ import annotations

import threading
from collections.abc import Hashable

from receiver.codec import storable
from receiver.metrics import metrics

#: Event types of one source that are told apart, and characters of one.
MOST_TYPES, LONGEST_TYPE = 50, 100

#: Stands for all beyond.
OTHERS = "others"

#: Characters of the name of a source that there is not.
LONGEST_ASKED = 64


class Names:
    """The names that were met so far, so many of each group at most. Safe to use from several threads."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._met: dict[Hashable, set[str]] = {}
        self._lock = threading.Lock()

    def known(self, group: str, name: str) -> tuple[str, bool]:
        """The name, or `OTHERS` where there are too many; and whether it is met for the first time."""
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


_types = Names(MOST_TYPES)

#: By source: a name that was asked for instead of its own, and the bytes of its largest body that was refused.
asked_instead: dict[str, str] = {}
largest_refused: dict[str, int] = {}

#: Names that are neither a source's nor like one, as many as are counted apart; and how often each was asked for.
MOST_UNKNOWN = 50
unknown_asked: dict[str, int] = {}


def count_unhandled(source: str, event_type: str) -> bool:
    """Count a delivery that no handler takes. Whether its event type is the first of its name in this process."""
    name, is_first = _types.known(source, event_type)
    metrics.UNHANDLED.labels(source, name).inc()
    return is_first


def count_misspelt(source: str, asked: str) -> None:
    """Count a webhook for a source that there is not, with a name like that of `source`."""
    asked_instead[source] = storable(asked[:LONGEST_ASKED])
    metrics.MISSPELT.labels(source).inc()


def count_unknown(asked: str) -> None:
    """Count a webhook for a source that there is not, with a name like no other. The rarest name makes room."""
    name = storable(asked[:LONGEST_ASKED])
    if name not in unknown_asked and len(unknown_asked) >= MOST_UNKNOWN:
        del unknown_asked[min(unknown_asked, key=unknown_asked.__getitem__)]
    unknown_asked[name] = unknown_asked.get(name, 0) + 1


def note_too_large(source: str, size: int) -> None:
    """A body of at least so many bytes was refused."""
    largest_refused[source] = max(size, largest_refused.get(source, 0))
