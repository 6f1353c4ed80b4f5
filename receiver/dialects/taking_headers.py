"""The parameters of a dialect's functions that take a request or a part of it: headers, signed or trusted."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from receiver.errors import WiringError
from receiver.header_values import KeptBody, mark, signed_values, trusted_value

#: The names of these parameters, and what makes the value of each from a body with its headers.
VALUES_TAKEN: dict[str, Callable[[bytes], Any]] = {"signed": signed_values, "trusted": trusted_value}


def headers_taken(function: Callable[..., Any], dialect: str, verifier: Any, trusts: str | None) -> tuple[str, ...]:
    """The names of the parameters behind the body that take headers. Raises `WiringError` for one that has no value."""
    try:
        names = list(inspect.signature(function).parameters)[1:]
    except (TypeError, ValueError):
        return ()
    taken = tuple(name for name in names if name in VALUES_TAKEN)
    if "trusted" in taken and trusts is None:
        raise WiringError(
            f'The envelope of {dialect} takes `trusted`, and the dialect trusts no header: say trusts_header="…", or '
            "remove the parameter."
        )
    if "signed" in taken and not getattr(verifier, "signed_headers", None):
        raise WiringError(
            f"The envelope of {dialect} takes `signed`, and its signature covers no header: name one in the template "
            "of its Signature, give a verifier of your own the attribute `signed_headers`, or remove the parameter."
        )
    return taken


def as_kept(body: bytes, headers: Mapping[str, str], verifier: Any, trusts: str | None) -> bytes:
    """The body as an envelope gets it if it was sent with these headers, of which those count that are signed."""
    sent = {name.lower(): value for name, value in headers.items()}
    return KeptBody.of(body, mark(sent, getattr(verifier, "signed_headers", frozenset()), trusts))


def values_of(body: bytes, names: Iterable[str]) -> dict[str, Any]:
    """The values of these parameters."""
    return {name: VALUES_TAKEN[name](body) for name in names}
