"""Commands whose standard output goes to a full disk."""

from __future__ import annotations

import os

import pytest
from forked import Forked

#: Sends standard output to a disk that is always full.
FULL = "import os; os.dup2(os.open('/dev/full', os.O_WRONLY), 1)"


@pytest.mark.parametrize("command", ["--help", "doctor"])
def test_a_command_with_a_long_output_that_cannot_be_written_says_so_in_one_line(tmp_path, command):
    environment = {**os.environ, "HOOKMIRROR_SECRET_KEY": "k" * 32}
    with Forked([command], tmp_path, environment, before=FULL) as process:
        _, errors = process.communicate()
    assert (process.returncode, errors) == (
        1,
        "hookmirror: The output cannot be written (No space left on device): free some space, or let it go "
        "elsewhere. What the command did before stays done.\n",
    )
