"""Rendering: a template and its values become the bytes of a page."""

from __future__ import annotations

import secrets
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from receiver.console.filters import FILTERS
from receiver.console.remedies import remedy_of
from receiver.console.static_files import name_of

#: Attributes of htmx that templates may use. The others would run text as a script.
HTMX_ATTRIBUTES = frozenset({"hx-get", "hx-trigger", "hx-target", "hx-swap", "hx-select", "hx-nonce", "hx-ignore"})

#: Bytes of a form's key.
KEY_BYTES = 16


def new_key() -> str:
    """A key for one form, by which a second press is recognised."""
    return secrets.token_urlsafe(KEY_BYTES)


def new_environment() -> Environment:
    """The templates of the package. They escape every value, and a missing value is an error."""
    environment = Environment(
        loader=PackageLoader("receiver.console"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        auto_reload=False,
    )
    environment.filters.update(FILTERS)
    environment.globals |= {"static": name_of, "new_key": new_key, "remedy_of": remedy_of}
    return environment


ENVIRONMENT = new_environment()


def compile_templates() -> None:
    """Compile all templates, so that the first reader of a page does not wait for it."""
    for name in ENVIRONMENT.list_templates():
        ENVIRONMENT.get_template(name)


def render(template: str, **values: Any) -> bytes:
    """Render a page as UTF-8. Raises `UndefinedError` for a missing value."""
    return ENVIRONMENT.get_template(template).render(**values).encode("utf-8", "replace")
