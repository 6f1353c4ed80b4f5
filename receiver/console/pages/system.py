"""System: the processes, the checks of the installation, the database, and the periods of retention."""

from __future__ import annotations

from typing import Any, NamedTuple
from urllib.parse import quote

from receiver.api.errands import Reloaded
from receiver.api.system import ProcessState, SystemShown
from receiver.console.page import Button, ConsolePage
from receiver.console.visit import Visit
from receiver.logs.wording import counted


class SystemPage(NamedTuple):
    """The values for the template."""

    system: SystemShown
    #: The state of the installation in words, and whether no person is needed.
    says: str
    is_well: bool
    #: Whether a process differs from the others, refused its settings or needs a restart.
    differs: bool


def show_the_system(visit: Visit) -> SystemPage:
    """The installation, with a summary of its checks and processes."""
    system = visit.ask(SystemShown, "show_system")
    mend = sum(each.verdict == "MEND" for each in system.checks)
    look = sum(each.verdict == "LOOK" for each in system.checks)
    odd = sum(each.state is not ProcessState.ALIVE for each in system.processes)
    said = [f"{counted(mend, 'check')} found a fault to mend." if mend else "Nothing must be mended."]
    if look:
        said.append(f"{counted(look, 'is', 'are')} worth a look.")
    if odd:
        said.append(f"{odd} of {len(system.processes)} processes {'is' if odd == 1 else 'are'} not alive and well.")
    if not system.processes:
        said.append("No process is registered.")
    differs = any(each.differs or each.refused or each.needs_restart for each in system.processes)
    return SystemPage(system, " ".join(said), not (mend or odd), differs)


PAGES = (
    ConsolePage(
        name="system",
        path="/system",
        title="System",
        template="system.html",
        operation="show_system",
        command="hookmirror doctor",
        show=show_the_system,
        menu="System",
    ),
)


def _reloaded(answer: Reloaded) -> str:
    return answer.says


def _back(visit: Visit, _: Any) -> str:
    """The page of the finding or of the refused requests from which it was pressed; otherwise this page."""
    if visit.query.get("then") == "refused":
        return "/refused"
    finding = visit.query.get("finding")
    return f"/findings/{quote(finding, safe='')}" if finding else "/system"


BUTTONS = (
    Button(
        name="reload_settings",
        path="/system/reload",
        label="Read the settings again",
        operation="reload_settings",
        command="hookmirror reload",
        says=_reloaded,
        then=_back,
    ),
)
