"""Decoders: threads that read an answer of one kind for the first time do not disturb each other."""

from __future__ import annotations

import subprocess
import sys
from decimal import Decimal

import msgspec

from receiver.console.decoders import decoder_of

#: Structs that several threads see for the first time at once, with a switch between threads at every chance.
FIRST_SEEN_BY_MANY = """
import sys
import threading

import msgspec

from receiver.console.decoders import decoder_of

sys.setswitchinterval(1e-6)
NAMES = [f"column_{number}" for number in range(40)]
BODY = b'{"items":[{' + b",".join(b'"%s":0.10' % name.encode() for name in NAMES) + b"}]}"

def read(shape, together):
    together.wait()
    decoder_of(shape).decode(BODY)

for _ in range(60):
    item = msgspec.defstruct("Item", [(name, object | None) for name in NAMES])
    shape = msgspec.defstruct("Page", [("items", list[item])])
    together = threading.Barrier(6)
    threads = [threading.Thread(target=read, args=(shape, together)) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
"""


def test_threads_that_meet_a_struct_for_the_first_time_together_can_all_read_it():
    ended = subprocess.run([sys.executable, "-c", FIRST_SEEN_BY_MANY], capture_output=True, text=True, timeout=60)
    assert (ended.returncode, ended.stderr) == (0, "")


def test_a_decoder_of_a_struct_keeps_the_digits_of_fractions():
    shape = msgspec.defstruct("Price", [("amount", object)])
    assert decoder_of(shape).decode(b'{"amount":0.10}').amount == Decimal("0.10")
