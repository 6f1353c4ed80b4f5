"""Finds files with settings or secrets that other users may read or write, by the modes of files and folders."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Exposure:
    """A right of other users on a file, and the command that removes it, in one sentence."""

    says: str
    #: Whether other users may change the file, and so decide which webhooks verify.
    writable: bool


def exposures(path: Path) -> Iterator[Exposure]:
    """Yield the rights of other users on this file or on the target of a link; nothing if it does not exist."""
    places = dict.fromkeys([Path(os.path.abspath(path)), Path(os.path.realpath(path))])
    for place in places:
        try:
            found, folder = place.stat(), place.parent.stat()
        except OSError:
            continue
        if not place.is_symlink():
            yield from _of_file(place, found.st_mode, owner=found.st_uid, group=found.st_gid)
        # With the restricted deletion bit, users may add files but not replace the file of another user.
        if folder.st_mode & stat.S_IWOTH and not folder.st_mode & stat.S_ISVTX:
            says = f"every user may replace {place} with another file: chmod o-w {place.parent}"
            yield Exposure(says, writable=True)


def _of_file(place: Path, mode: int, *, owner: int, group: int) -> Iterator[Exposure]:
    if mode & stat.S_IWOTH:
        yield Exposure(
            f"every user may write {place}, and so decide which webhooks verify: chmod go-w,o-r {place}", writable=True
        )
    elif mode & stat.S_IWGRP and group not in (0, owner):
        yield Exposure(
            f"the group {group} may write {place}, and so decide which webhooks verify: chmod g-w {place}",
            writable=True,
        )
    elif mode & stat.S_IROTH:
        yield Exposure(f"every user of this machine may read {place}: chmod o-r {place}", writable=False)
