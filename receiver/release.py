"""The release of Hookmirror."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version


def release() -> str:
    """The version of the installed package; "unknown" if the package is not installed."""
    try:
        return version("hookmirror")
    except PackageNotFoundError:
        return "unknown"
