"""Misspelt addresses: counts webhooks to unknown sources under the source that was most likely meant."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Collection, Mapping
from time import perf_counter

from receiver.ingest.paths import HOOKS_PATH, LONGEST_ADDRESS, meant_source, named_at_end, nearest_source
from receiver.metrics import few_names

#: Seconds between two comparisons of a new name, since a comparison is slow and strangers may send any name.
COMPARISON_INTERVAL = 0.1

#: A comparison: finds the source that was most likely meant by a text.
Meant = Callable[[str, Collection[str]], str | None]

#: The most names that are remembered with their result.
MOST_REMEMBERED = 256


class Misspelt:
    """Compares unknown names and addresses with those of the sources, and remembers the results."""

    def __init__(self) -> None:
        self._compared_at = 0.0
        #: By name of a source, or by address outside of `HOOKS_PATH`.
        self._remembered: OrderedDict[tuple[Meant, str], str | None] = OrderedDict()
        self._sources: Collection[str] = ()

    def meant(self, name: str, sources: Collection[str]) -> Mapping[str, str]:
        """Count a webhook to an unknown source. Returns log fields: the address that was probably meant."""
        name = name[: few_names.LONGEST_ASKED]
        if not self._is_compared(nearest_source, name, sources):
            return {}
        source = self._remembered[nearest_source, name]
        if source is None:
            few_names.count_unknown(name)
            return {}
        return _told(source, name)

    def meant_elsewhere(self, path: str, sources: Collection[str]) -> Mapping[str, str]:
        """Do the same for a webhook to a path outside of `HOOKS_PATH`."""
        source = named_at_end(path, sources)
        if source is None and self._is_compared(meant_source, path[:LONGEST_ADDRESS], sources):
            source = self._remembered[meant_source, path[:LONGEST_ADDRESS]]
        return {} if source is None else _told(source, path)

    def _is_compared(self, meant: Meant, text: str, sources: Collection[str]) -> bool:
        """Compare the text, unless its result is remembered; False if the previous comparison was too recent."""
        if sources is not self._sources:
            self._sources = sources
            self._remembered.clear()
        if (meant, text) in self._remembered:
            self._remembered.move_to_end((meant, text))
            return True
        now = perf_counter()
        if now - self._compared_at < COMPARISON_INTERVAL:
            return False
        self._compared_at = now
        self._remembered[meant, text] = meant(text, sources)
        if len(self._remembered) > MOST_REMEMBERED:
            self._remembered.popitem(last=False)
        return True


def _told(source: str, asked: str) -> Mapping[str, str]:
    few_names.count_misspelt(source, asked)
    return {"perhaps": f"{HOOKS_PATH}{source}"}
