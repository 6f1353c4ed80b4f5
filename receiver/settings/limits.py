"""Limits: what one sender, one address and all of them together may take of a server. They are settings."""

from __future__ import annotations

from typing import Self

from pydantic import BaseModel, Field, model_validator


class Limits(BaseModel):
    """The settings that keep strangers from stopping everybody else."""

    #: Bytes of the largest body that is read.
    max_body_bytes: int = Field(default=1_048_576, ge=1_024)
    #: Events that one body may tell of; a body with more is kept as one dead delivery.
    max_events_per_body: int = Field(default=1_000, ge=1, le=10_000)
    #: Bytes of complete bodies that may wait in memory for their commit; past it the answer is 503.
    max_waiting_bytes: int = Field(default=67_108_864, ge=1_048_576)
    #: Bytes of heads and bodies that have begun to arrive; past it the largest and slowest are ended.
    max_incomplete_bytes: int = Field(default=33_554_432, ge=1_048_576)
    #: Seconds that a sender may take to send a body, and one more for each 8 KiB that have come while more comes.
    body_timeout: float = Field(default=30.0, gt=0, le=3_600)
    #: Bytes a second, on average, that a body must arrive with once it has taken some seconds; 0 for any.
    min_body_rate: int = Field(default=500, ge=0, le=1_048_576)
    #: Seconds that a sender may take to send the head of a request.
    head_timeout: float = Field(default=20.0, gt=0, le=3_600)
    #: Bytes of the request line and all headers, and of what stands between two pieces of a chunked body.
    max_head_bytes: int = Field(default=65_536, ge=4_096, le=1_048_576)
    #: Bytes of one header, its name included.
    max_header_bytes: int = Field(default=16_384, ge=1_024, le=1_048_576)
    #: Headers of one request.
    max_headers: int = Field(default=128, ge=16, le=10_000)
    #: Bytes of the URL in the request line.
    max_url_bytes: int = Field(default=8_192, ge=256, le=65_535)
    #: Seconds without a request after which a connection is closed.
    keep_alive_timeout: float = Field(default=75.0, gt=0, le=86_400)
    #: Connections that one process holds open; fewer, where it may open fewer files.
    max_connections: int = Field(default=16_384, ge=16, le=1_000_000)
    #: Connections from one address; by default half of all.
    max_connections_per_address: int | None = Field(default=None, ge=1, le=1_000_000)
    #: Keep requests that do not verify for a while, to verify them again when a secret is added.
    keep_refused: bool = True
    #: How many are kept of each source, how many bytes of them, and for how many hours.
    max_refused: int = Field(default=1_000, ge=1, le=100_000)
    max_refused_bytes: int = Field(default=16_777_216, ge=1_024, le=1_073_741_824)
    refused_retention_hours: int = Field(default=24, ge=1, le=720)

    @model_validator(mode="after")
    def _largest_body_has_room(self) -> Self:
        for name in ("max_waiting_bytes", "max_incomplete_bytes"):
            if getattr(self, name) < self.max_body_bytes:
                raise ValueError(f"{name} must not be less than max_body_bytes")
        return self
