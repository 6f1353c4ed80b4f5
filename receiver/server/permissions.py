"""Finds files of settings or secrets that others may read or write, by the modes of files and folders."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Exposure:
    """A sentence about the rights of others on a file, and how to change them."""

    says: str
    #: Whether others may change the file, and so decide what verifies.
    writable: bool


def exposures(path: Path) -> Iterator[Exposure]:
    """The rights of others on this file, or on the target of a link; none if it does not exist."""
    places = dict.fromkeys([Path(os.path.abspath(path)), Path(os.path.realpath(path))])
    for place in places:
        try:
            found, folder = place.stat(), place.parent.stat()
        except OSError:
            continue
        if not place.is_symlink():
            yield from _of_file(place, found.st_mode, owner=found.st_uid, group=found.st_gid)
        # With the restricted deletion bit, others may add files but not replace those of another user.
        if folder.st_mode & stat.S_IWOTH and not folder.st_mode & stat.S_ISVTX:
            says = f"everybody may put another file in the place of {place}: chmod o-w {place.parent}"
            yield Exposure(says, writable=True)


def _of_file(place: Path, mode: int, *, owner: int, group: int) -> Iterator[Exposure]:
    if mode & stat.S_IWOTH:
        yield Exposure(
            f"everybody may write {place}, and so decide what verifies: chmod go-w,o-r {place}", writable=True
        )
    elif mode & stat.S_IWGRP and group not in (0, owner):
        yield Exposure(
            f"the group {group} may write {place}, and so decide what verifies: chmod g-w {place}", writable=True
        )
    elif mode & stat.S_IROTH:
        yield Exposure(f"everybody on this machine may read {place}: chmod o-r {place}", writable=False)
