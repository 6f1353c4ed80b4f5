"""Line: a wrapper of a connection's transport, which gives uvicorn all of it except the closing."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from uvicorn.protocols.http.flow_control import FlowControl


class Line:
    """Forwards to the transport while the connection exists; only `end` closes it."""

    __slots__ = ("_end", "_has_ended", "_transport")

    def __init__(self, transport: asyncio.Transport, end: Callable[[], None], has_ended: Callable[[], bool]) -> None:
        self._transport: asyncio.Transport | None = transport
        self._end, self._has_ended = end, has_ended

    def release(self) -> None:
        """Drop the transport of a lost connection; later calls do nothing."""
        self._transport = None
        self._end, self._has_ended = _nothing, _true

    def write(self, data: bytes) -> None:
        if self._transport is not None and not self._has_ended():
            self._transport.write(data)

    def close(self) -> None:
        self._end()

    def is_closing(self) -> bool:
        return self._has_ended() or self._transport is None or self._transport.is_closing()

    def pause_reading(self) -> None:
        if self._transport is not None:
            self._transport.pause_reading()

    def resume_reading(self) -> None:
        if self._transport is not None:
            self._transport.resume_reading()

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return default if self._transport is None else self._transport.get_extra_info(name, default)


class Flow(FlowControl):
    """Resume reading only if there is room for more bytes."""

    def __init__(self, line: Any, is_full: Callable[[], bool]) -> None:
        super().__init__(line)
        self._is_full = is_full

    def release(self) -> None:
        """Drop the transport of a lost connection; reading is not resumed."""
        self._is_full = _true

    def resume_reading(self) -> None:
        if not self._is_full():
            super().resume_reading()


def _nothing() -> None:
    pass


def _true() -> bool:
    return True
