"""Misspelt addresses: counts webhooks to unknown sources under the source that was most likely meant."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Collection, Mapping
from time import perf_counter

from receiver.ingest.paths import HOOKS_PATH, meant_source, nearest_source
from receiver.metrics import few_names

#: Seconds between two comparisons of a new name, since a comparison is slow and strangers may send any name.
COMPARISON_INTERVAL = 0.1

#: The most names that are remembered with their result.
MOST_REMEMBERED = 256


class Misspelt:
    """Compares unknown names and addresses with those of the sources, and remembers the results."""

    def __init__(self) -> None:
        self._compared_at = 0.0
        self._remembered: OrderedDict[str, str | None] = OrderedDict()
        self._sources: Collection[str] = ()

    def meant(self, name: str, sources: Collection[str]) -> Mapping[str, str]:
        """Count a webhook to an unknown source. Returns log fields: the address that was probably meant."""
        return self._told(name[: few_names.LONGEST_ASKED], sources)

    def meant_elsewhere(self, path: str, sources: Collection[str]) -> Mapping[str, str]:
        """Do the same for a webhook to a path outside of `HOOKS_PATH`."""
        source = meant_source(path, sources)
        if source is None:
            return {}
        few_names.count_misspelt(source, path)
        return {"perhaps": f"{HOOKS_PATH}{source}"}

    def _told(self, name: str, sources: Collection[str]) -> Mapping[str, str]:
        if sources is not self._sources:
            self._sources = sources
            self._remembered.clear()
        if name not in self._remembered and not self._compare(name, sources):
            return {}
        self._remembered.move_to_end(name)
        source = self._remembered[name]
        if source is None:
            few_names.count_unknown(name)
            return {}
        few_names.count_misspelt(source, name)
        return {"perhaps": f"{HOOKS_PATH}{source}"}

    def _compare(self, name: str, sources: Collection[str]) -> bool:
        """Compare the name, unless the previous comparison was too recent; return whether it was compared."""
        now = perf_counter()
        if now - self._compared_at < COMPARISON_INTERVAL:
            return False
        self._compared_at = now
        self._remembered[name] = nearest_source(name, sources)
        if len(self._remembered) > MOST_REMEMBERED:
            self._remembered.popitem(last=False)
        return True
