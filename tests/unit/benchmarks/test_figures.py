"""The benchmarks' own arithmetic: turns, ratios, marks, the drawing, and the tables of a page."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from functools import partial
from pathlib import Path
from xml.etree import ElementTree

import pytest

from benchmarks import __main__ as program
from benchmarks import cores, page, plot, record, rounds
from benchmarks.record import Record
from benchmarks.rounds import Figure, Report
from benchmarks.senders import IIMMPACT, SENDERS
from receiver.inbox.arrival import Arrival
from receiver.ingest.admission import Request, admit

ROOT = Path(__file__).parents[3]


@pytest.fixture
def all_cores(monkeypatch):
    monkeypatch.setattr(cores, "there", lambda: 2.0)


def test_cells_take_turns_and_every_second_round_goes_backwards(all_cores):
    order = []

    def measure(name: str) -> float:
        order.append(name)
        return float(len(order))

    figures = rounds.take_turns({name: partial(measure, name) for name in "ab"}, rounds=3, unit="requests/s")
    assert "".join(order) == "abbaab"
    assert figures["a"].values == [1.0, 4.0, 5.0]
    assert figures["a"].cores == [2.0, 2.0, 2.0]


def test_the_benchmarks_start_outside_of_the_tests_which_have_the_folder_of_helpers_among_their_imports():
    command = [sys.executable, "-m", "benchmarks", "nonesuch"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.stderr.startswith("There is no measurement 'nonesuch': choose from all, acks, ")


def test_a_ratio_is_computed_within_each_round():
    ratio = Figure("ours", "", [10.0, 30.0, 24.0]) / Figure("theirs", "", [20.0, 30.0, 30.0])
    assert ratio.values == [0.5, 1.0, 0.8]
    assert str(ratio.spread) == "0.80 (0.50 to 1.00)"


def test_a_cell_without_all_cores_is_measured_again_and_then_marked(monkeypatch):
    monkeypatch.setattr(cores, "there", lambda: 1.2)
    monkeypatch.setattr(cores, "BUDGET", 0.2)
    monkeypatch.setattr(cores, "_spent", 0.0)
    figures = rounds.take_turns({"cell": lambda: 5.0}, rounds=2, unit="requests/s")
    lines = rounds.report(list(figures.values()), []).lines
    assert lines[-1].startswith("NOT ALL CORES WERE AVAILABLE in 2 of 2 cells, 1.20 in the worst")


def test_a_cell_that_loses_a_core_meanwhile_is_measured_again(monkeypatch):
    seen = iter([2.0, 1.0, 2.0, 2.0])
    monkeypatch.setattr(cores, "there", lambda: next(seen))
    monkeypatch.setattr(cores, "_spent", 0.0)
    results = iter(["disturbed", "sound"])
    assert cores.checked(lambda: next(results)) == ("sound", 2.0)


def test_the_record_has_every_round_and_its_drawing_is_xml(tmp_path, monkeypatch):
    monkeypatch.setattr(record, "FOLDER", tmp_path)
    figure = Figure("a <b> & c", "requests/s", [1.0, 3.0, 2.0], [2.0, 2.0, 1.0])
    Record({"machine": "small"}).add("acks", "Acks", Report(["a line"], [figure]), 1.5)
    document = json.loads((tmp_path / "figures.json").read_text())
    assert document["measurements"][0]["figures"][0]["rounds"] == [1.0, 3.0, 2.0]
    drawing = ElementTree.fromstring((tmp_path / "figures.svg").read_text())
    assert "a <b> & c" in [each.text for each in drawing.iter("{http://www.w3.org/2000/svg}text")]
    assert [each.get("class") for each in drawing.iter("{http://www.w3.org/2000/svg}rect")] == ["paper", "doubtful"]


def test_a_drawing_without_figures_is_empty():
    assert "<text" not in plot.drawn({"Memory": Report(["109 MB"])})


def test_a_page_takes_the_figures_of_the_last_run_and_keeps_the_others(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(page, "FOLDER", tmp_path)
    monkeypatch.setattr(record, "FOLDER", tmp_path)
    monkeypatch.setattr(page, "PAGE", tmp_path / "speed.md")
    blocks = "".join(f"<!-- figures of {name} -->\nold {name}\n<!-- end -->\n" for name in ("growth", "where"))
    page.PAGE.write_text(f"# Speed\n{blocks}")
    figure = Figure("one core", "requests/s", [1_000.0, 3_000.0, 2_000.0])
    Record({"machine": "small"}).add("growth", "Growth", Report([], [figure]), 1.5)
    page.main()
    assert "| one core, requests/s | 2,000 | 1,000 to 3,000 |\n\n<!-- end -->" in page.PAGE.read_text()
    assert "old where" in page.PAGE.read_text()
    assert "where: not measured in the last run" in capsys.readouterr().out


def test_every_measurement_is_in_the_docs():
    documented = re.findall(r"^\| `([a-z]+)` \|", (ROOT / "docs" / "benchmarks.md").read_text(), re.MULTILINE)
    assert documented == list(program.MEASUREMENTS)
    # As the page says, `make bench` runs those down to `history`.
    assert documented[: documented.index("history") + 1] == list(program.USUAL)


def test_every_block_of_the_page_is_measured():
    blocks = {found[2] for found in page.BLOCK.finditer((ROOT / "docs" / "speed.md").read_text())}
    assert blocks - {"setup"} <= program.MEASUREMENTS.keys()


@pytest.mark.parametrize("size", [1_000, 10_000])
@pytest.mark.parametrize("name", SENDERS)
def test_a_body_has_its_size_verifies_and_is_distinct(name, size):
    sender = SENDERS[name]
    sent = [sender.sent(number, size) for number in (0, 1, 123_456)]
    assert all(0.85 * size < len(each.body) <= 1.05 * size for each in sent)
    requests = [
        Request(sender.source, [(sender.header.lower().encode(), each.signature.encode())], each.body) for each in sent
    ]
    arrivals = [each for each in admit(requests) if isinstance(each, Arrival)]
    assert [each.state.value for each in arrivals] == ["pending"] * 3
    assert len({(each.dedup_key, each.fingerprint) for each in arrivals}) == 3


def test_times_grow_with_the_number():
    bodies = [json.loads(IIMMPACT.body(number)) for number in (0, 999, 1_000, 90_000_000)]
    times = [body["timestamp"] for body in bodies]
    assert times == sorted(times)
    assert times[1] == "2026-01-01T00:00:00.999Z"
