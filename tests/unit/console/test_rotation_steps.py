"""The steps of a rotation on the page of its finding: each is open until the database says that it is done."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from senders import SOURCES, body, sent
from visiting import Visitor, text_of, visiting

from receiver.findings.finding import Finding
from receiver.findings.record import update_record
from receiver.server.registry import Reading
from receiver.worker.processes import PROCESSES

NEW, OLD = "the-new-secret-here", "the-old-secret-here"
SHOP = SOURCES["sigma"] | {"dialect": "sigma", "secrets": [NEW, OLD]}


def steps(visitor: Visitor, finding: Finding) -> list[str]:
    listed = re.search(r'<ol class="steps".*?</ol>', visitor.page(f"/findings/{finding.id}"), re.S)
    return [] if listed is None else [text_of(each) for each in re.findall(r"<li>.*?</li>", listed[0], re.S)]


def test_the_steps_of_a_rotation_are_open_until_they_are_done(tmp_path: Path) -> None:
    since = datetime.now(UTC) - timedelta(minutes=10)
    finding = Finding("secret_changed", "shop", since, "every signature of shop fails", "Rotate it.")
    with visiting(f"sqlite:///{tmp_path}/c.db", sources={"shop": SHOP}) as (served, visitor):
        update_record(served.beside, [finding], now=datetime.now(UTC))
        assert served.post("shop", *sent("sigma", body("sigma", key="refused"), "another secret")).status_code == 401
        served.app._keeper.flush()
        assert steps(visitor, finding) == [
            "open No process can read its settings while it runs: restart them with the new secret.",
            "open The newest secret has verified nothing since then.",
            "open 1 refused request is kept, to be verified again.",
            "open The secret before it verified nothing within the last two weeks: remove it.",
        ]
        with served.beside.write() as connection:
            reading = Reading(datetime.now(UTC), None, ())
            connection.execute(PROCESSES.update().values(settings=reading.as_json()))
            connection.exec_driver_sql("DELETE FROM refused")
        for secret in (NEW, OLD):
            assert served.post("shop", *sent("sigma", body("sigma", key=secret), secret)).status_code == 200
        served.app._watch.tally()
        first, second, third, fourth = steps(visitor, finding)
        assert first == "done 1 of 1 process has read the settings since then."
        assert second == "done The newest secret has verified 1 webhook since then."
        assert third == "done No refused request is left."
        assert re.fullmatch(r"open The secret before it verified its last webhook .* ago: remove it once .*", fourth)


@pytest.mark.parametrize(("rule", "source"), [("one_cause", "shop"), ("secret_changed", "gone")])
def test_other_findings_have_no_steps(tmp_path: Path, rule: str, source: str) -> None:
    finding = Finding(rule, source, datetime.now(UTC), "something is wrong", "Mend it.")
    with visiting(f"sqlite:///{tmp_path}/c.db", sources={"shop": SHOP}) as (served, visitor):
        update_record(served.beside, [finding], now=datetime.now(UTC))
        assert steps(visitor, finding) == []
