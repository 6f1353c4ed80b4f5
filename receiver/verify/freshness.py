"""Freshness: the largest age of a signed request, measured by a time that its sender signed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from math import inf
from typing import Literal

from receiver.errors import NotVerified, WiringError
from receiver.moments import EPOCH, in_utc
from receiver.verify.request import wire_text
from receiver.verify.templates import Placeholder, described, placeholder

#: The most digits of a time: a longer number is no plausible time, and parsing it would take long.
LONGEST_TIME = 18


@dataclass(frozen=True, slots=True)
class Fresh:
    """The placeholder of the time that a sender signs, and the largest difference between that time and the arrival.

    `unit` is the form of the time: whole `seconds` or `milliseconds` since 1970, or `iso` 8601 with an offset. With
    `past_only`, any time in the future is accepted, as in some senders' own libraries. Without `within`, any time is
    accepted. Raises `WiringError`.
    """

    time: str
    unit: Literal["seconds", "milliseconds", "iso"] = "seconds"
    within: timedelta | None = timedelta(minutes=5)
    past_only: bool = False

    def __post_init__(self) -> None:
        if placeholder(self.time).kind not in ("header", "field"):
            raise WiringError(f"Fresh({self.time!r}) names no header and no field of the signature's header.")
        if self.unit not in ("seconds", "milliseconds", "iso") or (
            self.within is not None and self.within <= timedelta()
        ):
            raise WiringError('Fresh takes unit="seconds", "milliseconds" or "iso", and a time `within` above zero.')

    @property
    def stands_in(self) -> Placeholder:
        """The placeholder of the time."""
        return placeholder(self.time)

    def write(self, at: datetime) -> str:
        """Format the time as the sender writes it."""
        if self.unit == "iso":
            return at.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        return str((at - EPOCH) // timedelta(**{self.unit: 1}))


class FreshnessCheck:
    """The check of one `Fresh`, prepared once because it runs for each webhook."""

    def __init__(self, fresh: Fresh) -> None:
        self._fresh = fresh
        self._place = fresh.stands_in
        self._is_header = self._place.kind == "header"
        self._wanted = wire_text(self._place.name)
        self._is_number = fresh.unit != "iso"
        self._divisor = 1_000 if fresh.unit == "milliseconds" else 1
        self._seconds = (fresh.within or timedelta.max).total_seconds()
        self._most_ahead = inf if fresh.past_only else self._seconds

    def check(self, headers: Mapping[bytes, bytes], fields: Mapping[bytes, bytes], at: datetime) -> None:
        """Raise `NotVerified` for a time that cannot be read, and for a time too far from `at`."""
        value = headers.get(self._wanted) if self._is_header else fields.get(self._wanted)
        if value is None:
            raise NotVerified("signature_missing", f"There is no {described(self._place)}, which is the signed time.")
        if self._is_number and value.isdigit() and len(value) <= LONGEST_TIME:
            signed_at = int(value) / self._divisor
        else:
            signed_at = self._read_iso(value)
        ahead = signed_at - at.timestamp()
        if not -self._seconds <= ahead <= self._most_ahead:
            raise self._stale(signed_at, at, ahead)

    def _read_iso(self, value: bytes) -> float:
        try:
            if self._fresh.unit != "iso":
                raise ValueError
            moment = datetime.fromisoformat(value.decode("ascii"))
            if moment.tzinfo is None:
                raise ValueError
            return in_utc(moment).timestamp()
        except ValueError:
            form = "ISO 8601 with an offset" if self._fresh.unit == "iso" else f"whole {self._fresh.unit} since 1970"
            raise NotVerified("signature_malformed", f"The {described(self._place)} is not a time in {form}.") from None

    def _stale(self, signed_at: float, at: datetime, ahead: float) -> NotVerified:
        return NotVerified(
            "signature_stale",
            f"The signature is right, and was made at {_shown(signed_at)}; this arrived at {_shown(at.timestamp())}, "
            f"{_span(abs(ahead))} {'earlier' if ahead > 0 else 'later'}, and {_span(self._seconds)} are allowed. "
            "Compare the clocks on both sides, and let the sender sign each retry anew.",
        )


def _shown(seconds: float) -> str:
    try:
        return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    except (OverflowError, ValueError, OSError):
        return "a time beyond the year 9999"


def _span(seconds: float) -> str:
    """Format a number of seconds briefly."""
    return f"{seconds:.0f} s" if seconds < 1e12 else "many years"
