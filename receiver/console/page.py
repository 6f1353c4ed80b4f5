"""Pages and buttons: each address of the console, described once.

Routes, the navigation, the footers and the test of the table of pages are all made from these descriptions.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from receiver.api.operations import Parameter
from receiver.console.visit import Visit

#: Below which all addresses of the console lie.
CONSOLE_PATH = "/console"


@dataclass(frozen=True, slots=True, kw_only=True)
class ConsolePage:
    """One page: what it shows, and how the same is asked over the API and on the command line."""

    #: Tells it from all others, such as `deliveries`.
    name: str
    #: Below `/console`, as Starlette writes it.
    path: str
    title: str
    template: str
    #: The name of the API's operation that answers the same; its parameters are the page's.
    operation: str
    #: The command that shows the same, with `{names}` of parts of the path; what is filtered is added as options.
    command: str
    #: What the template shows as `content`. Runs on a thread, when its turn to read the database comes.
    show: Callable[[Visit], Any]
    #: Its word in the navigation; empty for a page that another one leads to.
    menu: str = ""
    #: Parameters that only the page has.
    parameters: tuple[Parameter[Any], ...] = ()
    #: What the page itself gives the operation, which no address changes; and parameters that it does without.
    given: tuple[tuple[str, str], ...] = ()
    leaves_out: tuple[str, ...] = ()
    #: Options of the command by the name of the parameter, where they differ; empty for an argument without a name.
    options: tuple[tuple[str, str], ...] = ()
    #: The parameter that the address of the next page is given in; empty unless it is a list that can be downloaded.
    follows_in: str = ""
    #: Members of its items that are parts of bodies, which a download leaves out for people who see no bodies.
    bodies: tuple[str, ...] = ()
    #: The hints upon which it is fetched again, such as `deliveries`; none for a page that stays as it was.
    live: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Button:
    """One action: a form that is posted, does what an operation of the API does, and leads to a page."""

    name: str
    #: Below `/console`, as Starlette writes it.
    path: str
    #: What stands on it.
    label: str
    #: The name of the API's operation that does the same.
    operation: str
    #: The command that does the same, with `{names}` of parts of the path.
    command: str
    #: What the page that follows says; or what makes that of the answer.
    says: str | Callable[[Any], str]
    #: The page that follows: an address below `/console` with `{names}` of the path, or made of the answer.
    then: str | Callable[[Visit, Any], str] = "/"
    #: The form's further fields, by the name of the operation's parameter.
    fields: tuple[str, ...] = ()
    #: What the operation is given besides, whatever the form says.
    given: tuple[tuple[str, str], ...] = ()
    #: As those of a page.
    options: tuple[tuple[str, str], ...] = ()
    #: Parameters of the operation that only its command takes.
    leaves_out: tuple[str, ...] = ()
    #: Whether a reason is asked for on a page of its own before it is done.
    confirms: str = ""


def filled(pattern: str, values: dict[str, str]) -> str:
    """The pattern with these values for its `{names}`, which stand as they are."""
    return re.sub(r"{(\w+)(?::\w+)?}", lambda found: values.get(found[1], ""), pattern)
