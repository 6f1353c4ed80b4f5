"""Limits, which are settings: the resources that one request, one address and all of them may take."""

from __future__ import annotations

from typing import Self

from pydantic import BaseModel, Field, model_validator


class Limits(BaseModel):
    """The settings that keep strangers from using up the server."""

    #: Most bytes of a body.
    max_body_bytes: int = Field(default=1_048_576, ge=1_024)
    #: Most events of one body. A body with more is kept as one dead delivery.
    max_events_per_body: int = Field(default=1_000, ge=1, le=10_000)
    #: Most bytes of complete bodies that wait in memory for their commit. Beyond it, the answer is 503.
    max_waiting_bytes: int = Field(default=67_108_864, ge=1_048_576)
    #: Most bytes of heads and bodies that have begun to arrive. Beyond it, the largest and slowest requests are ended.
    max_incomplete_bytes: int = Field(default=33_554_432, ge=1_048_576)
    #: Seconds that a sender may take to send a body, plus one for each 8 KiB that arrived, while bytes keep coming.
    body_timeout: float = Field(default=30.0, gt=0, le=3_600)
    #: Least average bytes per second of a body that has taken some seconds already; 0 for any.
    min_body_rate: int = Field(default=500, ge=0, le=1_048_576)
    #: Seconds that a sender may take to send the head of a request.
    head_timeout: float = Field(default=20.0, gt=0, le=3_600)
    #: Most bytes of the request line with all headers, and of the lines between two pieces of a chunked body.
    max_head_bytes: int = Field(default=65_536, ge=4_096, le=1_048_576)
    #: Most bytes of one header with its name.
    max_header_bytes: int = Field(default=16_384, ge=1_024, le=1_048_576)
    #: Most headers of one request.
    max_headers: int = Field(default=128, ge=16, le=10_000)
    #: Most bytes of the URL in the request line.
    max_url_bytes: int = Field(default=8_192, ge=256, le=65_535)
    #: Seconds without a request after which a connection is closed.
    keep_alive_timeout: float = Field(default=75.0, gt=0, le=86_400)
    #: Most connections of one process; fewer if the system lets it open fewer files.
    max_connections: int = Field(default=16_384, ge=16, le=1_000_000)
    #: Most connections from one address; by default half of `max_connections`.
    max_connections_per_address: int | None = Field(default=None, ge=1, le=1_000_000)
    #: Keep requests that do not verify for some hours, to verify them again when a secret is added.
    keep_refused: bool = True
    #: Most kept requests of a source, most bytes of them, and the hours for which they are kept.
    max_refused: int = Field(default=1_000, ge=1, le=100_000)
    max_refused_bytes: int = Field(default=16_777_216, ge=1_024, le=1_073_741_824)
    refused_retention_hours: int = Field(default=24, ge=1, le=720)

    @model_validator(mode="after")
    def _largest_body_has_room(self) -> Self:
        for name in ("max_waiting_bytes", "max_incomplete_bytes"):
            if getattr(self, name) < self.max_body_bytes:
                raise ValueError(f"{name} must not be less than max_body_bytes")
        return self
