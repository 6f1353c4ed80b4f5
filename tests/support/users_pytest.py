"""How a user runs pytest in a project of their own: without the plugins that only our own tests need."""

from __future__ import annotations

import sys

#: Plugins that would be found because they are installed beside ours, and whose imports take a second.
OURS_ALONE = ("schemathesis", "xdist", "xdist.looponfail")

USERS_PYTEST = [
    *(sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider"),
    *(option for name in OURS_ALONE for option in ("-p", f"no:{name}")),
]
