"""Which release of Hookmirror this is."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version


def release() -> str:
    """The version of the installed package, or "unknown" where the code runs without being installed."""
    try:
        return version("hookmirror")
    except PackageNotFoundError:
        return "unknown"
