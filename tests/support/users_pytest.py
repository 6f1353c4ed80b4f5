"""Runs pytest as a user does, without the plugins that only our own tests need."""

from __future__ import annotations

import sys

#: Plugins that pytest would find in our environment; importing them takes a second.
OURS_ALONE = ("schemathesis", "xdist", "xdist.looponfail")

USERS_PYTEST = [
    *(sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider"),
    *(option for name in OURS_ALONE for option in ("-p", f"no:{name}")),
]

#: For a pytest that is forked: says nothing of plugins that the interpreter had imported before.
FORKED = ("-W", "ignore::pytest.PytestAssertRewriteWarning")
