"""Hydration: fetching what thin events only name, from the sources' own APIs, several calls at once.

What comes back has no bound of ours, so it is counted: past `MOST_FETCHED` bytes the rest of a portion waits until what
has been fetched is settled.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from itertools import takewhile

import httpx

from receiver.attempts import Guard, Task
from receiver.dialects import Handler
from receiver.errors import ApiError
from receiver.liveness import Pulse
from receiver.side_by_side import side_by_side
from receiver.sources import Source
from receiver.telling import told_with_type

#: Calls of one batch to sources' APIs that are under way at once.
HYDRATIONS_AT_ONCE = 8

#: Bytes of answers after which no other call is begun before these are settled.
MOST_FETCHED = 4 * 1024 * 1024


class Hydration:
    """The clients of the sources' APIs, and what is fetched with them."""

    def __init__(
        self, sources: Mapping[str, Source], pulse: Pulse, guarded: Guard, stopping: Callable[[], bool]
    ) -> None:
        self._sources = sources
        self._pulse = pulse
        self._guarded = guarded
        self._stopping = stopping
        self._clients: dict[str, httpx.Client | None] = {}
        #: What is wrong with those that could not be made, for one batch: each try may take long.
        self._broken: dict[str, str] = {}
        #: Bytes of each answer of this pass, and the answers of the call that a thread is making.
        self._fetched: list[int] = []
        self._call = threading.local()

    def begin_batch(self) -> None:
        """A client that could not be made may be made now."""
        self._broken.clear()

    def fetch(self, tasks: Sequence[Task]) -> Iterator[None]:
        """Hydrate the events of these tasks, yielding after each; those whose turn has not come stay as they are."""
        self._fetched.clear()
        thin = []
        for task in tasks:
            if not task.is_ready:
                task.hydrated = not self._is_thin(task)
                thin += [] if task.is_ready else [task]
        if thin:
            # Whatever the others bring meanwhile, the first gets its turn.
            first = thin[0]
            yield from side_by_side(lambda task: self._fetch(task, task is first), thin, at_once=HYDRATIONS_AT_ONCE)

    def close(self) -> None:
        for client in self._clients.values():
            # A stranger's object, like whatever its dialect does with it.
            with suppress(BaseException):
                client.close() if client is not None else None
        self._clients.clear()

    def _is_thin(self, task: Task) -> bool:
        name = task.delivery.source
        if self._clients.get(name, self) is None:
            # Known already: its source has no API.
            return False
        with self._guarded(task, f"the client of {name}'s API"):
            return self._hydrator(task) is not None
        return False

    def _hydrator(self, task: Task) -> Handler | None:
        if task.envelope is None or self._client(task.delivery.source) is None:
            return None
        return self._sources[task.delivery.source].dialect.hydrator_for(task.envelope.event_type)

    def _fetch(self, task: Task, is_first: bool) -> None:
        if sum(self._fetched) > MOST_FETCHED and not is_first:
            return
        task.hydrated = True
        hydrator, client = self._hydrator(task), self._client(task.delivery.source)
        assert hydrator is not None
        if client is None or self._stopping():
            return
        answers: list[httpx.Response] = []
        self._call.answers = answers
        with self._guarded(task, hydrator.name):
            hydrated = hydrator.function(task.event, client)
            assert task.event is not None
            task.event = replace(task.event, hydrated=hydrated)
        self._fetched.append(sum(map(_size, answers)))
        self._call.answers = []

    def _client(self, name: str) -> httpx.Client | None:
        if name in self._broken:
            raise ApiError(self._broken[name])
        if name not in self._clients:
            try:
                self._clients[name] = self._new_client(name)
            except BaseException as error:
                self._broken[name] = f"It could not be made a moment ago: {told_with_type(error)}"
                raise
        return self._clients[name]

    def _new_client(self, name: str) -> httpx.Client | None:
        source = self._sources[name]
        client = source.dialect.client(source.settings)
        if client is not None:
            client.event_hooks = {
                "request": [*client.event_hooks["request"], self._asked],
                "response": [*client.event_hooks["response"], self._answered],
            }
        return client

    def _asked(self, _: httpx.Request) -> None:
        # Whoever asks an API patiently, call after call, is not hanging.
        self._pulse.beat()

    def _answered(self, answer: httpx.Response) -> None:
        self._pulse.beat()
        with suppress(AttributeError):
            # On a thread of the dialect's own there is no call to count it for.
            self._call.answers.append(answer)


def ready(tasks: Sequence[Task]) -> list[Task]:
    """The first of these tasks, up to one that is still to be hydrated."""
    return list(takewhile(lambda task: task.is_ready, tasks))


def _size(answer: httpx.Response) -> int:
    try:
        return len(answer.content)
    except (httpx.StreamError, AttributeError):
        return answer.num_bytes_downloaded
