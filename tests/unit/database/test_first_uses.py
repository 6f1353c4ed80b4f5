"""Columns of JSON whose values several threads read first at the same time, each in a process that may crash."""

from __future__ import annotations

import subprocess
import sys

#: Makes columns of nested shapes, and lets four threads read the first value of each at the same time.
READS = """
import sys, threading
from typing import Any, ClassVar, TypedDict
from receiver.database.columns import Document
sys.setswitchinterval(1e-6)

def read(column, together):
    together.wait()
    column().result_processor(None, None)('{"known": 1, "inner": {"known": 2, "last": {}}}')

for number in range(300):
    last = TypedDict("Last", {f"member{number}": int for number in range(5)})
    inner = TypedDict("Inner", {"known": int, "last": last, "all": list[last]})
    column = type("Column", (Document,), {"shape": TypedDict("Outer", {"known": int, "inner": inner, "text": str})})
    together = threading.Barrier(4)
    threads = [threading.Thread(target=read, args=(column, together)) for _ in range(4)]
    [thread.start() for thread in threads]
    [thread.join() for thread in threads]
"""


def test_threads_that_read_the_first_value_of_a_column_together_do_not_crash_the_process():
    done = subprocess.run([sys.executable, "-c", READS], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
