"""A receiver's settings for the simulated accounts, in TOML."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

from simulator.server import api_url
from simulator.systems.base import System


def settings_text(systems: Iterable[System], *, api: str | None) -> str:
    """Write a `[sources.…]` table for each system. `api` is the base URL of the simulated APIs; None without APIs."""
    tables = []
    for system in systems:
        url = api_url(api, system) if api else None
        lines = [f"{name} = {toml(value)}" for name, value in system.settings(api_url=url).items()]
        tables.append("\n".join([f"[sources.{system.source}]", *lines]))
    return "\n\n".join(tables) + "\n"


def toml(value: Any) -> str:
    """Write a value in TOML, where text, numbers, booleans and lists look as in JSON, and only tables differ."""
    if isinstance(value, dict):
        return "{ " + ", ".join(f"{json.dumps(name)} = {toml(member)}" for name, member in value.items()) + " }"
    if isinstance(value, list):
        return "[" + ", ".join(toml(member) for member in value) + "]"
    return json.dumps(value)
