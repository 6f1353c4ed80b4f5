"""Decoders: threads that read an answer of one kind for the first time do not disturb each other; damage is shown."""

from __future__ import annotations

import subprocess
import sys
from datetime import UTC, datetime
from decimal import Decimal
from typing import Annotated, Any

import msgspec

from receiver.codec import encode
from receiver.console.decoders import decoded
from receiver.database.damage import damage_of
from receiver.inbox.tables import State
from receiver.schemas import Moment

#: Structs that several threads see for the first time at once, with a switch between threads at every chance.
FIRST_SEEN_BY_MANY = """
import sys
import threading

import msgspec

from receiver.console.decoders import decoded

sys.setswitchinterval(1e-6)
NAMES = [f"column_{number}" for number in range(40)]
BODY = b'{"items":[{' + b",".join(b'"%s":0.10' % name.encode() for name in NAMES) + b"}]}"

def read(shape, together):
    together.wait()
    decoded(shape, BODY)

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
    ended = subprocess.run([sys.executable, "-c", FIRST_SEEN_BY_MANY], capture_output=True, text=True, timeout=300)
    assert (ended.returncode, ended.stderr) == (0, "")


def test_a_decoder_of_a_struct_keeps_the_digits_of_fractions():
    shape = msgspec.defstruct("Price", [("amount", object)])
    assert decoded(shape, b'{"amount":0.10}').amount == Decimal("0.10")


class Part(msgspec.Struct, frozen=True):
    """An item of an answer."""

    at: Moment | None
    number: Annotated[int, msgspec.Meta(description="How many.")]
    seconds: float
    state: State
    fraction: Any = None


class Whole(msgspec.Struct, frozen=True):
    """An answer with items."""

    items: list[Part]
    by_state: dict[State, Part | None]


def test_an_answer_with_damage_is_read_with_values_that_show_it_and_the_rest_as_usual():
    sound = {"at": "2026-03-04T12:00:00Z", "number": 1, "seconds": 0.5, "state": "dead", "fraction": Decimal("0.10")}
    at, number = "The stored value 'a' is not a time.", "The stored value 'b' is not a whole number."
    wrong = {"at": f"damaged: {at}", "number": f"damaged: {number}", "seconds": "c", "state": "odd"}
    answer = {"items": [sound, wrong], "by_state": {"dead": wrong, "pending": None}}
    whole = decoded(Whole, encode(answer))
    first, second = whole.items
    assert first == Part(datetime(2026, 3, 4, 12, tzinfo=UTC), 1, 0.5, State.DEAD, Decimal("0.10"))
    assert (damage_of(second.at), damage_of(second.number), second.state) == (at, number, "damaged: odd")
    assert "The stored value 'c' is not a" in damage_of(second.seconds)
    assert list(whole.by_state) == [State.DEAD, State.PENDING]
    assert damage_of(whole.by_state[State.DEAD].at) == at
