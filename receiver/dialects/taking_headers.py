"""The header parameters of an envelope function, `signed` and `trusted`."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from receiver.errors import WiringError
from receiver.header_values import KeptBody, mark, signed_values, trusted_value

#: By name of a parameter, the function that makes its value from a body with headers.
VALUES_TAKEN: dict[str, Callable[[bytes], Any]] = {"signed": signed_values, "trusted": trusted_value}


def headers_taken(function: Callable[..., Any], dialect: str, verifier: Any, trusts: str | None) -> tuple[str, ...]:
    """Find the header parameters of an envelope function. Raises `WiringError` for a parameter without a value."""
    try:
        names = list(inspect.signature(function).parameters)[1:]
    except (TypeError, ValueError):
        return ()
    taken = tuple(name for name in names if name in VALUES_TAKEN)
    if "trusted" in taken and trusts is None:
        raise WiringError(
            f"The envelope of {dialect} takes `trusted`, and the dialect trusts no header: give the Dialect a "
            'trusts_header="…", or remove the parameter.'
        )
    if "signed" in taken and not getattr(verifier, "signed_headers", None):
        raise WiringError(
            f"The envelope of {dialect} takes `signed`, and its signature covers no header: name one in the template "
            "of its Signature, give your own verifier the attribute `signed_headers`, or remove the parameter."
        )
    return taken


def as_kept(body: bytes, headers: Mapping[str, str], verifier: Any, trusts: str | None) -> bytes:
    """Combine a body with those of these headers that are signed or trusted, as the envelope function gets it."""
    sent = {name.lower(): value for name, value in headers.items()}
    return KeptBody.of(body, mark(sent, getattr(verifier, "signed_headers", frozenset()), trusts))


def values_of(body: bytes, names: Iterable[str]) -> dict[str, Any]:
    """The values of these parameters for a body."""
    return {name: VALUES_TAKEN[name](body) for name in names}
