"""The classes of the four systems, by the name of their dialect."""

from __future__ import annotations

from simulator.systems.base import System
from simulator.systems.iimmpact.system import Iimmpact
from simulator.systems.indexed.system import Indexed
from simulator.systems.sigma.system import Sigma
from simulator.systems.sticky.system import Sticky

SYSTEMS: dict[str, type[System]] = {system.dialect: system for system in (Sigma, Indexed, Iimmpact, Sticky)}
