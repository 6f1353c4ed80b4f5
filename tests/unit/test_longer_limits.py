"""Higher limits of time in the processes that tests start."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
from longer_limits import PATIENT, TIMEOUT, with_patience

#: A constant of a module that imports next to nothing, and the default of an argument in one that imports much.
CONSTANT = "from receiver.database.shared_results import READ_TIMEOUT; print(READ_TIMEOUT)"
DEFAULT = "from receiver.provenance.why import explain_row; print(explain_row.__kwdefaults__['seconds'])"


@pytest.mark.parametrize(
    ("code", "variables", "expected"),
    [
        (f"{CONSTANT}; {DEFAULT}", with_patience(), [TIMEOUT, 10 * TIMEOUT]),
        (f"{PATIENT}; {CONSTANT}", {}, [TIMEOUT]),
        (f"import receiver.database.shared_results; {PATIENT}; {CONSTANT}", {}, [TIMEOUT]),
    ],
    ids=["in a new process", "before the imports", "after the imports"],
)
def test_limits_are_raised_whenever_their_modules_are_imported(code, variables, expected):
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, env=os.environ | variables, capture_output=True, text=True, timeout=5 * TIMEOUT)
    assert [float(word) for word in done.stdout.split()] == expected, done.stderr
