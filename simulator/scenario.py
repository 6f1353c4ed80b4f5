"""Scenario files: the number of events, their rate, and the faults. An error names the line of the mistake."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from importlib import resources
from pathlib import Path
from typing import Any

from simulator import faults
from simulator.faults import Faults

#: The numbers in a scenario file, with the smallest and the largest value of each.
NUMBERS = {"events": (1, 1_000_000), "rate": (0, 100_000), "speed": (0.001, 10_000)}

#: The smallest rate above 0. With a smaller one, a time of the history might lie beyond the year 9999.
LEAST_RATE = 0.0001

REQUIRED_SETTINGS = ("title", "events", "rate")
ALLOWED = ("title", *NUMBERS, "faults")


NEWLINE = "\n"


class ScenarioError(Exception):
    """A scenario cannot be used. The message names the file, the line, and what is allowed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Scenario:
    name: str
    title: str
    #: The number of events, over all systems.
    events: int
    #: Events in a real second, over all systems; 0 for full speed.
    rate: float
    #: Seconds of the simulated clock in one real second.
    speed: float = 1.0
    faults: Faults = field(default_factory=Faults)

    def __post_init__(self) -> None:
        """Raise `ScenarioError` for a rate that is too small."""
        if flaw_of_rate(self.rate) is not None:
            raise ScenarioError(f"{self.name}: {flaw_of_rate(self.rate)}")

    def changed(self, *, faults: Mapping[str, Any] | None = None, **settings: Any) -> Scenario:
        """Return the scenario with these settings and faults changed. A setting that is None keeps its value."""
        given = {name: value for name, value in settings.items() if value is not None}
        return replace(self, faults=replace(self.faults, **(faults or {})), **given)


def flaw_of_rate(rate: float) -> str | None:
    """Say what is wrong with a rate within the bounds of `NUMBERS`; None if it can be used."""
    if rate == 0 or rate >= LEAST_RATE:
        return None
    return f"rate must be 0 for full speed, or a number from {LEAST_RATE} to {NUMBERS['rate'][1]}"


def names() -> list[str]:
    """List the scenarios that come with the simulator."""
    files = resources.files("simulator").joinpath("scenarios").iterdir()
    return sorted(file.name.removesuffix(".toml") for file in files if file.name.endswith(".toml"))


def load(name: str) -> Scenario:
    """Load a scenario by its name, or by the path of a .toml file. Raises `ScenarioError`."""
    if name in names():
        file = resources.files("simulator").joinpath("scenarios", f"{name}.toml")
        return read(file.read_text(encoding="utf-8"), name=name)
    path = Path(name)
    if path.suffix != ".toml":
        raise ScenarioError(f"there is no scenario {name!r}: choose one of {', '.join(names())}, or give a .toml file")
    try:
        return read(path.read_text(encoding="utf-8-sig"), name=path.name)
    except (OSError, UnicodeDecodeError) as error:
        raise ScenarioError(f"{name} cannot be read: {error}") from None


def read(text: str, *, name: str) -> Scenario:
    """Read a scenario from the text of its file. Raises `ScenarioError`."""
    try:
        document = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        line = re.search(r"at line (\d+)", str(error))
        where = f"{name}:{line.group(1) if line else max(1, text.count(NEWLINE))}"
        raise ScenarioError(f"{where}: not TOML: {error}") from None
    complain = _Complaint(name, text)
    for key, value in document.items():
        _check_key(key, value, complain)
    for key in REQUIRED_SETTINGS:
        if key not in document:
            raise complain.error(f"{key} is missing: a scenario needs {', '.join(REQUIRED_SETTINGS)}")
    return Scenario(name=name, **{**document, "faults": _faults(document.get("faults", {}), complain)})


def _check_key(key: str, value: Any, complain: _Complaint) -> None:
    if key not in ALLOWED:
        raise complain.error(f"unknown setting {key!r}: choose from {', '.join(ALLOWED)}", key)
    if key == "title" and not isinstance(value, str):
        raise complain.error("title must be a text", key)
    if key in NUMBERS:
        least, most = NUMBERS[key]
        kinds = (int,) if key == "events" else (int, float)
        if isinstance(value, bool) or not isinstance(value, kinds) or not least <= value <= most:
            kind = "a whole number" if key == "events" else "a number"
            raise complain.error(f"{key} must be {kind} from {least} to {most}", key)
    if key == "rate" and (flaw := flaw_of_rate(value)) is not None:
        raise complain.error(flaw, key)


def _faults(table: Any, complain: _Complaint) -> Faults:
    if not isinstance(table, dict):
        raise complain.error("faults must be a table", "faults")
    for key, value in table.items():
        try:
            faults.check(key, value)
        except ValueError as error:
            raise complain.error(str(error), key) from None
    return Faults(**table)


@dataclass(frozen=True, slots=True)
class _Complaint:
    name: str
    text: str

    def error(self, message: str, key: str | None = None) -> ScenarioError:
        """Make an error `file:line: message`, with the line of the key."""
        pattern = re.compile(rf"""^[^#]*(?<![\w-])["']?{re.escape(key)}["']?\s*[=\].]""") if key else None
        lines = self.text.splitlines()
        found = [number for number, line in enumerate(lines, 1) if pattern and pattern.match(line)]
        return ScenarioError(f"{self.name}:{found[0] if found else 1}: {message}")
