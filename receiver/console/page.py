"""Pages and buttons: each address of the console, described once.

Routes, the navigation, the footers and the test of the table of pages are all made from these descriptions.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

from receiver.api.operations import Parameter
from receiver.console.visit import Visit
from receiver.database.snapshots import one_snapshot
from receiver.ingest.paths import CONSOLE_PATH as CONSOLE_PATH


@dataclass(frozen=True, slots=True, kw_only=True)
class ConsolePage:
    """One page, with the operation of the API and the command that show the same."""

    #: Unique among all pages, such as `deliveries`.
    name: str
    #: The path below `/console`, in Starlette's notation.
    path: str
    title: str
    template: str
    #: The name of the API's operation that answers the same; its parameters are the page's.
    operation: str
    #: The command that shows the same, with `{names}` of parts of the path. Filters are appended as options.
    command: str
    #: Makes the template's `content`. It runs on a thread, in a turn of the reads.
    show: Callable[[Visit], Any]
    #: Its label in the navigation; empty for a page that only other pages link to.
    menu: str = ""
    #: Parameters that only the page has.
    parameters: tuple[Parameter[Any], ...] = ()
    #: Parameters of the operation that the page sets itself, and parameters that it does not offer.
    given: tuple[tuple[str, str], ...] = ()
    leaves_out: tuple[str, ...] = ()
    #: The command's option for a parameter, where the names differ; empty for an argument without a name.
    options: tuple[tuple[str, str], ...] = ()
    #: The parameter in which the next page is asked for; empty unless the page is a list that can be downloaded.
    follows_in: str = ""
    #: Members of its items that come from bodies. Downloads of people who may not see bodies leave them out.
    bodies: tuple[str, ...] = ()
    #: The hints after which the page fetches itself again, such as `deliveries`; empty for a page that does not change.
    live: tuple[str, ...] = ()
    #: Whether it runs handlers, which read the database on threads of their own.
    runs_handlers: bool = False

    def reading(self, visit: Visit) -> AbstractContextManager[None]:
        """A block that reads in one transaction, so that all numbers of a page are of one moment.

        A page that runs handlers reads in several, because the handlers need the connection in between.
        """
        return nullcontext() if self.runs_handlers else one_snapshot(visit.database)


@dataclass(frozen=True, slots=True, kw_only=True)
class Button:
    """One action: a form that calls an operation of the API, and the page that follows."""

    name: str
    #: The path below `/console`, in Starlette's notation.
    path: str
    #: The text on the button.
    label: str
    #: The name of the API's operation that does the same.
    operation: str
    #: The command that does the same, with `{names}` of parts of the path.
    command: str
    #: The message on the page that follows, or a function that makes it of the answer.
    says: str | Callable[[Any], str]
    #: The page that follows: an address below `/console` with `{names}` of the path, or made of the answer.
    then: str | Callable[[Visit, Any], str] = "/"
    #: The form's further fields, by the name of the operation's parameter.
    fields: tuple[str, ...] = ()
    #: Parameters of the operation that the button sets itself. The form cannot change them.
    given: tuple[tuple[str, str], ...] = ()
    #: The command's option for a parameter, where the names differ, as on a page.
    options: tuple[tuple[str, str], ...] = ()
    #: Parameters of the operation that only its command takes.
    leaves_out: tuple[str, ...] = ()
    #: The warning on a page that asks for a reason before the action; empty for a button without that page.
    confirms: str = ""


def filled(pattern: str, values: dict[str, str]) -> str:
    """The pattern with these values in place of its `{names}`. A name without a value becomes empty."""
    return re.sub(r"{(\w+)(?::\w+)?}", lambda found: values.get(found[1], ""), pattern)


def written_part(part: str) -> str:
    """A part of a path as it stands in an address. Browsers resolve `.` and `..`, so these get a tilde in front."""
    return quote(f"~{part}" if _DOTS.fullmatch(part) else part, safe="")


def read_parts(parts: Mapping[str, str]) -> dict[str, str]:
    """The parts of a path that `written_part` wrote, by their names."""
    return {name: part[1:] if part.startswith("~") and _DOTS.fullmatch(part) else part for name, part in parts.items()}


#: Parts that are written with one tilde more.
_DOTS = re.compile(r"~*\.{1,2}")
