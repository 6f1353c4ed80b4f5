"""The interface of the comparison to a mirror: its installation, its server, and the statements that count its rows."""

from __future__ import annotations

from contextlib import AbstractContextManager
from pathlib import Path
from typing import NamedTuple, Protocol

from benchmarks.peers.stripe_api import StripeApi

#: Environment that lets no HTTP client reach anything but this machine.
OFFLINE = {"http_proxy": "http://127.0.0.1:9", "https_proxy": "http://127.0.0.1:9", "no_proxy": "127.0.0.1"}


class Address(NamedTuple):
    """A running server."""

    url: str
    #: The path that takes Stripe's webhooks.
    path: str
    process: int


class Mirror(Protocol):
    """A way to mirror Stripe's products on PostgreSQL."""

    name: str
    #: More events than it takes in a second.
    most: int
    #: The statement that reads the external id and the name of each mirrored product.
    products: str
    #: The statement that counts the events whose effect is stored; empty if it keeps no record of them.
    effects: str
    #: The statement that counts stored events without an effect yet; empty if it answers only after the effect.
    waiting: str

    def install(self) -> None:
        """Make the mirror's packages available; raises `NotInstalled`."""

    def prepare(self, database: str, api: StripeApi) -> None:
        """Make the tables in an empty database."""

    def serving(self, database: str, folder: Path, api: StripeApi) -> AbstractContextManager[Address]:
        """Run the server, which may keep files in `folder`."""
