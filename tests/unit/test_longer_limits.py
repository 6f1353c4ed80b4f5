"""Higher limits of time in the processes that tests start."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
from longer_limits import PATIENT, TIMEOUT, with_patience

SHOWN = "from receiver.api.reads import GRACE; from receiver.provenance.why import explain_row"
SHOWN += "; print(GRACE, explain_row.__kwdefaults__['seconds'])"


@pytest.mark.parametrize(
    ("code", "variables"),
    [
        (SHOWN, with_patience()),
        (f"{PATIENT}; {SHOWN}", {}),
        (f"import receiver.api.reads, receiver.provenance.why; {PATIENT}; {SHOWN}", {}),
    ],
    ids=["in a new process", "before the imports", "after the imports"],
)
def test_limits_are_raised_whenever_their_modules_are_imported(code, variables):
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, env=os.environ | variables, capture_output=True, text=True, timeout=5 * TIMEOUT)
    assert done.stdout.split() == [str(TIMEOUT), str(10 * TIMEOUT)], done.stderr
