"""The endpoint's view of a source: enough to verify a body and read its envelope, without the mirror."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from receiver.dialects.challenges import Challenge
from receiver.dialects.replies import SenderReply
from receiver.envelope import ReadBody
from receiver.settings.settings import SourceSettings
from receiver.verify.verifiers import Credentials, Verifier


class SpokenDialect(Protocol):
    """How the source speaks, as far as accepting needs it; `receiver.dialects.dialect.Dialect` is one."""

    name: str

    @property
    def verifier(self) -> Verifier: ...

    @property
    def event_types(self) -> Sequence[str]:
        """The event types, or patterns of them, that handlers take."""

    @property
    def trusts_header(self) -> str | None:
        """The header that chooses the handler although no signature covers it, in lower case."""

    @property
    def reads_headers(self) -> bool:
        """Whether an envelope depends on headers."""

    @property
    def kept_headers(self) -> Mapping[bytes, str]:
        """The names of the request headers that are kept with a delivery, by their bytes on the wire."""

    @property
    def challenges(self) -> Sequence[Challenge]:
        """What answers challenges, in the order in which they are asked."""

    @property
    def on_accept(self) -> SenderReply | None:
        """What the sender is told instead of our 2xx."""

    @property
    def on_refusal(self) -> SenderReply | int | None:
        """What the sender is told instead of our refusal, or with which status."""

    def handler_for(self, event_type: str, /) -> Any | None:
        """The handler that takes this event type; None without one."""


class VerifiableSource(Protocol):
    """One account of one system; `receiver.dialects.sources.Source` is one."""

    @property
    def name(self) -> str: ...

    @property
    def dialect(self) -> SpokenDialect: ...

    @property
    def credentials(self) -> Credentials: ...

    @property
    def settings(self) -> SourceSettings: ...

    def open(self, content: bytes, /) -> bytes:
        """The content, decompressed if its dialect allows that. Raises `Unreadable`."""

    def read(self, verified: bytes, /) -> ReadBody:
        """What a verified body says. Raises `Unreadable`."""
