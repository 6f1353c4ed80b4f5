"""Finds files of settings, secrets or a database that other users may read or write, by modes of files and folders."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from receiver.database.urls import file_of


@dataclass(frozen=True, slots=True)
class Exposure:
    """A right of other users on a file, and the command that removes it, in one sentence."""

    says: str
    #: Whether other users may change the file, and so decide which webhooks verify, or what the mirror holds.
    writable: bool


def exposures(path: Path) -> Iterator[Exposure]:
    """Yield the rights of other users on this file or on the target of a link; nothing if it does not exist."""
    yield from _at_each_place(path, _of_file)


def exposures_of_database(url: str) -> Iterator[Exposure]:
    """Yield the rights of all users on a SQLite file; nothing for another database or a URL that is not valid.

    A group may write it, because processes of several users may share it.
    """
    file = file_of(url)
    if file is not None:
        yield from _at_each_place(file, _of_database)


def _at_each_place(path: Path, of_file: Callable[[Path, os.stat_result], Iterator[Exposure]]) -> Iterator[Exposure]:
    places = dict.fromkeys([Path(os.path.abspath(path)), Path(os.path.realpath(path))])
    for place in places:
        try:
            found, folder = place.stat(), place.parent.stat()
        except (OSError, ValueError):
            continue
        if not place.is_symlink():
            yield from of_file(place, found)
        # With the restricted deletion bit, users may add files but not replace the file of another user.
        if folder.st_mode & stat.S_IWOTH and not folder.st_mode & stat.S_ISVTX:
            says = f"every user may replace {place} with another file: chmod o-w {place.parent}"
            yield Exposure(says, writable=True)


def _of_file(place: Path, found: os.stat_result) -> Iterator[Exposure]:
    mode, group = found.st_mode, found.st_gid
    if mode & stat.S_IWOTH:
        yield Exposure(
            f"every user may write {place}, and so decide which webhooks verify: chmod go-w,o-r {place}", writable=True
        )
    elif mode & stat.S_IWGRP and group not in (0, found.st_uid):
        yield Exposure(
            f"the group {group} may write {place}, and so decide which webhooks verify: chmod g-w {place}",
            writable=True,
        )
    elif mode & stat.S_IROTH:
        yield Exposure(f"every user of this machine may read {place}: chmod o-r {place}", writable=False)


def _of_database(place: Path, found: os.stat_result) -> Iterator[Exposure]:
    # SQLite's files beside the database have its mode.
    mend = f"chmod o-rw {place}*"
    if found.st_mode & stat.S_IWOTH:
        yield Exposure(f"every user may write {place}, and so change the mirror: {mend}", writable=True)
    elif found.st_mode & stat.S_IROTH:
        yield Exposure(f"every user of this machine may read {place}, with all webhooks: {mend}", writable=False)
