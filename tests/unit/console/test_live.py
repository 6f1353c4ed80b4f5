"""Live: hints of changes over a stream, bounded in number and time, without any content."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import httpx
from serving import Served
from visiting import Visitor, visiting

from receiver.console.live import MOST_OF_ONE


@contextmanager
def listening(visitor: Visitor) -> Iterator[tuple[httpx.Response, Iterator[str]]]:
    with visitor.client.stream("GET", "/live") as answer:
        yield answer, answer.iter_lines()


def hint(lines: Iterator[str]) -> list[str]:
    """The next hint of the stream."""
    for line in lines:
        assert "still here" not in line, "nothing was told for as long as a stream is silent"
        if line.startswith("data: "):
            return list(json.loads(line.removeprefix("data: ")))
    raise AssertionError("the stream has ended")


def test_a_new_delivery_is_a_hint_of_its_name_alone(shown: Served, operator: Visitor) -> None:
    with listening(operator) as (answer, lines):
        assert answer.headers["content-type"].startswith("text/event-stream")
        assert next(lines) == "retry: 5000"
        # The first look may come after the first delivery: so another one follows.
        for number in range(3):
            shown.send("sigma", key=f"live{number}")
        found = set(hint(lines))
        while "deliveries" not in found:
            shown.send("sigma", key="more", data={"lifecycleState": str(len(found))})
            found |= set(hint(lines))


def test_nobody_listens_without_having_signed_in(stranger: Visitor) -> None:
    assert stranger.get("/live").status_code == 401


def test_one_person_has_so_many_streams_and_gets_another_when_one_ends(shown: Served, leaving: Visitor) -> None:
    with ExitStack() as open_streams:
        for _ in range(MOST_OF_ONE):
            answer, lines = open_streams.enter_context(listening(leaving))
            assert (answer.status_code, next(lines)) == (200, "retry: 5000")
        assert leaving.get("/live").status_code == 204


def test_all_streams_end_when_the_process_is_to_end(tmp_path: Path) -> None:
    with (
        visiting(f"sqlite:///{tmp_path}/c.db") as (served, visitor),
        listening(visitor) as (_, lines),
    ):
        assert next(lines) == "retry: 5000"
        served.app.end_streams()
        assert [line for line in lines if line] == []
        assert visitor.get("/live").status_code == 204


def test_a_page_says_upon_which_hints_it_is_fetched_again(operator: Visitor) -> None:
    assert 'data-live="deliveries runs findings" data-address="/console/live"' in operator.page("/")
    assert "data-live" not in operator.page("/deliveries/1/replay")
