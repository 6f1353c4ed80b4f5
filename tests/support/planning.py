"""Plans of runs for tests in a browser, and the buttons that start and drop them."""

from __future__ import annotations

import pytest
from browsing import Page
from serving import Served
from waiting import wait_until

from receiver.api.tokens import Scope

#: The label of the field for the reason, and the button, on the page of a plan.
REASON, START = "Why is it started?", "Start it"

BOTH_BROWSERS = pytest.mark.parametrize("scripts", [True, False], ids=["with scripts", "without scripts"])


def planned_replay(served: Served) -> str:
    """Plan a replay of one delivery, and return the run."""
    served.ended(served.send("sigma"))
    answer = served.get("/api/v1/runs?source=sigma", scope=Scope.OPERATE, method="POST")
    run = str(answer.json()["run"])
    wait_for_state(served, run, "planned")
    return run


def wait_for_state(served: Served, run: str, state: str) -> None:
    wait_until(lambda: served.get(f"/api/v1/runs/{run}").json()["state"] == state, f"run {run} to be {state}")


def press(page: Page, button: str) -> None:
    """Press a button, and wait for the page that follows."""
    with page.expect_navigation():
        page.get_by_role("button", name=button, exact=True).click()


def actions(served: Served) -> list[tuple[str, str | None]]:
    """Return what was done and why, the newest first."""
    return [(each["what"], each["reason"]) for each in served.get("/api/v1/actions").json()["items"]]
