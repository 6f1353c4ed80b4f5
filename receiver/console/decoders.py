"""Decoders: how answers of the API are read as the structs that pages show."""

from __future__ import annotations

from decimal import Decimal
from threading import Lock
from typing import Any, TypeVar

import msgspec

Shaped = TypeVar("Shaped")

#: The decoders that were made, by shape, and the lock of the thread that makes one.
_decoders: dict[Any, msgspec.json.Decoder[Any]] = {}
_making = Lock()


def decoder_of(shape: type[Shaped]) -> msgspec.json.Decoder[Shaped]:
    """Return the decoder of JSON into this struct, with fractions as Decimal. Every thread may use it."""
    found = _decoders.get(shape)
    if found is None:
        # msgspec gathers what it knows of a struct piece by piece. A decoder that a second thread makes meanwhile takes
        # the struct as it is, and ends the process when it is used.
        with _making:
            found = _decoders.setdefault(shape, msgspec.json.Decoder(shape, float_hook=Decimal))
    return found
