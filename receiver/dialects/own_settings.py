"""A dialect's own settings, validated by the model that the dialect declares."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ValidationError

from receiver.errors import ConfigurationError
from receiver.loading import foreign_code
from receiver.settings.settings import SourceSettings


def adopt_own_settings(settings: SourceSettings, model: type[BaseModel] | None) -> Any:
    """Validate the table `[sources.<name>.settings]` with this model, and make the result available as `settings.own`.

    Raises `ConfigurationError` for wrong values and for names that the model lacks. No message quotes a value.
    """
    where = f"[sources.{settings.name}.settings]"
    if model is None:
        if settings.settings:
            raise ConfigurationError(
                f"The source {settings.name} has a table {where}, and its dialect {settings.dialect} has no settings "
                "of its own: remove it."
            )
        return None
    with foreign_code(f"The settings model of {settings.dialect}", holds_secrets=True):
        try:
            settings._own = model.model_validate(settings.settings, extra="forbid")
        except ValidationError as error:
            raise ConfigurationError(f"The settings in {where} are wrong: {_wrong(error)}.") from None
    return settings.own


def _wrong(error: ValidationError) -> str:
    """List the mistakes, each behind the name of its setting."""
    found = error.errors(include_url=False, include_context=False, include_input=False)[:5]
    return "; ".join(f"{'.'.join(map(str, each['loc'])) or 'the table'}: {_said(each)}" for each in found)


def _said(mistake: Any) -> str:
    if mistake["type"] == "extra_forbidden":
        return "there is no such setting"
    if mistake["type"] == "missing":
        return "is missing"
    return str(mistake["msg"])
