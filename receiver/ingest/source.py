"""The endpoint's view of a source: the parts that verify a body and read its envelope, without the mirror."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from receiver.dialects.challenges import Challenge
from receiver.dialects.replies import SenderReply
from receiver.envelope import ReadBody
from receiver.settings.settings import SourceSettings
from receiver.verify.verifiers import Credentials, Verifier


class SpokenDialect(Protocol):
    """The parts of a dialect that the endpoint needs; `receiver.dialects.dialect.Dialect` has them."""

    name: str

    @property
    def verifier(self) -> Verifier: ...

    @property
    def event_types(self) -> Sequence[str]:
        """The patterns of the event types that handlers take."""

    @property
    def trusts_header(self) -> str | None:
        """The header that chooses the handler although no signature covers it, in lower case."""

    @property
    def decompress(self) -> bool:
        """Whether bodies may be compressed."""

    @property
    def reads_headers(self) -> bool:
        """Whether the envelope function reads headers."""

    @property
    def kept_headers(self) -> Mapping[bytes, str]:
        """The names of the request headers that are kept with a delivery, by their bytes on the wire."""

    @property
    def challenges(self) -> Sequence[Challenge]:
        """The challenge functions, in the order in which they are called."""

    @property
    def on_accept(self) -> SenderReply | None:
        """The reply that replaces the usual 2xx; None without one."""

    @property
    def on_refusal(self) -> SenderReply | int | None:
        """The reply or status that replaces the usual refusal; None without one."""

    def handler_for(self, event_type: str, /) -> Any | None:
        """The handler of this event type; None without one."""


class VerifiableSource(Protocol):
    """The parts of a source that the endpoint needs; `receiver.dialects.sources.Source` has them."""

    @property
    def name(self) -> str: ...

    @property
    def dialect(self) -> SpokenDialect: ...

    @property
    def credentials(self) -> Credentials: ...

    @property
    def settings(self) -> SourceSettings: ...

    def open(self, content: bytes, /) -> bytes:
        """Decompress the content if it is compressed and the dialect allows that. Raises `Unreadable`."""

    def read(self, verified: bytes, /) -> ReadBody:
        """Read the envelope of a verified body. Raises `Unreadable`."""
