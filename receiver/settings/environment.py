"""Environment variables: distinguishes settings from ignored variables and from misspelt settings.

An empty variable counts as unset, because Compose and similar programs pass an unset variable on as an empty one.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping

VARIABLE_PREFIX = "HOOKMIRROR_"
CONFIG_VARIABLE = VARIABLE_PREFIX + "CONFIG"

#: Not a setting: clients of the API, such as the simulator, read their token from it.
TOKEN_VARIABLE = VARIABLE_PREFIX + "TOKEN"

#: Not a setting: the default of `hookmirror worker --metrics-port`, which a container image sets.
VITALS_VARIABLE = VARIABLE_PREFIX + "VITALS"

#: Not a setting: the target of `hookmirror follow` without `--to`, where other users of the machine cannot read it.
FOLLOW_TO_VARIABLE = VARIABLE_PREFIX + "FOLLOW_TO"

#: Variables that Kubernetes sets in every container for each Service whose name begins with ours.
OF_SERVICES = re.compile(
    rf"{VARIABLE_PREFIX}(\w+_)?(SERVICE_HOST|SERVICE_PORT(_\w+)?|PORT_\d+_(TCP|UDP|SCTP)(_(PROTO|PORT|ADDR))?)"
)

#: Kubernetes sets this variable, too, always to a URL. A number in it is a misspelt setting.
PORT_OF_SERVICE, URL_OF_SERVICE = re.compile(rf"{VARIABLE_PREFIX}(\w+_)?PORT"), re.compile(r"(tcp|udp|sctp)://\S+")


def value(variable: str) -> str | None:
    """The variable's value, without blanks and line ends around it; None if it is empty or not set."""
    return os.environ.get(variable, "").strip() or None


def settings_file() -> str:
    """The settings file in a sentence. The variable that names it is easily forgotten, such as in a second terminal."""
    if value(CONFIG_VARIABLE):
        return "the settings file"
    return f"the file that {CONFIG_VARIABLE} names: it is not set in this shell"


def stripped(variables: Mapping[str, str | None]) -> dict[str, str]:
    """The variables that are not empty, without blanks and line ends around their values."""
    return {name: said for name, text in variables.items() if (said := (text or "").strip())}


def unknown(known: Iterable[str]) -> list[str]:
    """The variables with our prefix that are neither known nor set by Kubernetes, sorted."""
    taken = set(known)
    ours = {name: text for name, text in stripped(os.environ).items() if name.startswith(VARIABLE_PREFIX)}
    return sorted(name for name, text in ours.items() if name.upper() not in taken and not _is_of_service(name, text))


def _is_of_service(name: str, text: str) -> bool:
    is_port = PORT_OF_SERVICE.fullmatch(name) and URL_OF_SERVICE.fullmatch(text)
    return bool(OF_SERVICES.fullmatch(name) or is_port)
