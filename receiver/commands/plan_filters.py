"""Filters of plans: options of commands, checked as the API checks its parameters, and made parameters again."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from receiver.api.plans import PLAN_FILTERS
from receiver.search.arguments import with_moments
from receiver.search.filters import DeliveryFilter


def parse_filter(**given: Any) -> DeliveryFilter:
    """Make the filter of a plan from options named as its fields. Raises `BadRequest` as the API does."""
    parsed = {
        name: PLAN_FILTERS[name].read(value) if isinstance(value, str) else value
        for name, value in given.items()
        if value is not None
    }
    return DeliveryFilter(**with_moments(parsed, datetime.now(UTC)))


def plan_query(wanted: DeliveryFilter) -> dict[str, Any]:
    """The parameters of the API that plan a replay with this filter; the inverse of `parse_filter`."""
    values = {parameter.name: getattr(wanted, name) for name, parameter in PLAN_FILTERS.items()}
    return {name: value.isoformat() if isinstance(value, datetime) else value for name, value in values.items()}
