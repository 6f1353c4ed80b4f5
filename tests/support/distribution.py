"""Distribution of the tests over the processes of a run."""

from __future__ import annotations

from scheduling import ONE_BY_ONE, TOGETHER
from xdist.scheduler import LoadFileScheduling


class Distribution(LoadFileScheduling):
    """Gives each process one file at a time, one test at a time from files whose tests share nothing, or a folder."""

    def _split_scope(self, nodeid: str) -> str:
        if nodeid.startswith(f"tests/{ONE_BY_ONE}/"):
            return nodeid
        folder = f"tests/{TOGETHER}/"
        return folder if nodeid.startswith(folder) else super()._split_scope(nodeid)
