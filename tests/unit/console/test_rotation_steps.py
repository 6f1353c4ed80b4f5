"""The steps of a rotation on the page of its finding: each is open until the database says that it is done."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from senders import SOURCES, body, sent
from visiting import Visitor, hidden_fields, text_of, visiting

from receiver.findings.counting import SECRETS_SET
from receiver.findings.finding import Finding
from receiver.findings.record import update_record
from receiver.findings.tables import TALLIES
from receiver.runs.actions import Asked, By, Effect, Via, record
from receiver.server.registry import Reading

NEW, OLD = "the-new-secret-here", "the-old-secret-here"
SHOP = SOURCES["sigma"] | {"dialect": "sigma", "secrets": [NEW, OLD]}


def steps(visitor: Visitor, finding: Finding) -> list[str]:
    listed = re.search(r'<ol class="steps".*?</ol>', visitor.page(f"/findings/{finding.id}"), re.S)
    return [] if listed is None else [text_of(each) for each in re.findall(r"<li>.*?</li>", listed[0], re.S)]


def test_the_steps_of_a_rotation_are_open_until_they_are_done(tmp_path: Path) -> None:
    since = datetime.now(UTC) - timedelta(minutes=10)
    finding = Finding("secret_changed", "shop", since, "every signature of shop fails", "Rotate it.")
    with visiting(f"sqlite:///{tmp_path}/c.db", sources={"shop": SHOP}) as (served, visitor):
        served.note_reading(None)
        update_record(served.beside, [finding], now=datetime.now(UTC))
        assert served.post("shop", *sent("sigma", body("sigma", key="refused"), "another secret")).status_code == 401
        served.app._keeper.flush()
        assert steps(visitor, finding) == [
            "open No process can read its settings while it runs: restart them with the new secret.",
            "open The newest secret has verified nothing since then.",
            "open 1 refused request is kept, to be verified again.",
            "open The secret before it verified nothing so far, and is the older one for 0 s: keep it until that is "
            "two weeks.",
        ]
        served.note_reading(Reading(datetime.now(UTC), None, ()))
        with served.beside.write() as connection:
            connection.exec_driver_sql("DELETE FROM refused")
        for secret in (NEW, OLD):
            assert served.post("shop", *sent("sigma", body("sigma", key=secret), secret)).status_code == 200
        served.app._watch.tally()
        kept = Asked(by=By("settings", Via.SCHEDULE), what="verify refused", arguments={"source": "shop"})
        with served.beside.write() as connection:
            record(connection, kept, Effect(14, {"verified": 14}, wants_reason=False), now=datetime.now(UTC))
        first, second, third, fourth = steps(visitor, finding)
        assert first == "done 1 of 1 process has read the settings since then."
        assert second == "done The newest secret has verified 1 webhook since then."
        assert third == "done No refused request is left; 14 were accepted since then."
        assert re.fullmatch(r"open The secret before it verified its last webhook .* ago: remove it once .*", fourth)


def test_an_old_secret_may_go_once_it_was_the_older_one_for_two_weeks_without_a_use(tmp_path: Path) -> None:
    finding = Finding("sender_not_switched", "shop", datetime.now(UTC), "shop uses an older secret", "Wait.")
    with visiting(f"sqlite:///{tmp_path}/c.db", sources={"shop": SHOP}) as (served, visitor):
        update_record(served.beside, [finding], now=datetime.now(UTC))
        served.app._watch.tally()
        assert re.search(r"is the older one for .*: keep it until that is two weeks\.", steps(visitor, finding)[-1])
        with served.beside.write() as connection:
            long_ago = datetime.now(UTC) - timedelta(days=14, minutes=2)
            connection.execute(TALLIES.update().where(TALLIES.c.kind == SECRETS_SET).values(at=long_ago))
        assert steps(visitor, finding)[-1] == (
            "open The secret before it verified nothing within the last two weeks: remove it."
        )


def test_a_changed_secret_is_mended_by_reading_the_settings_and_only_then_by_verifying_again(tmp_path: Path) -> None:
    since = datetime.now(UTC) - timedelta(minutes=10)
    mend = "Put the new secret first, and run `hookmirror reload`."
    finding = Finding("secret_changed", "shop", since, "every signature of shop fails", mend)
    with visiting(f"sqlite:///{tmp_path}/c.db", sources={"shop": SHOP}) as (served, visitor):
        served.note_reading(None)
        update_record(served.beside, [finding], now=datetime.now(UTC))
        page = visitor.page(f"/findings/{finding.id}")
        assert page.count(">Read the settings again</button>") == 1
        assert "Verify the kept requests again" not in page
        fields = {"form_token": hidden_fields(page)["form_token"], "finding": finding.id}
        answer = visitor.post("/system/reload", **fields)
        assert answer.headers["location"].startswith(f"/console/findings/{finding.id}?done=reload_settings&when=")
        served.note_reading(Reading(datetime.now(UTC), None, ()))
        assert "Verify the kept requests again" in visitor.page(f"/findings/{finding.id}")


@pytest.mark.parametrize(("rule", "source"), [("one_cause", "shop"), ("secret_changed", "gone")])
def test_other_findings_have_no_steps(tmp_path: Path, rule: str, source: str) -> None:
    finding = Finding(rule, source, datetime.now(UTC), "something is wrong", "Mend it.")
    with visiting(f"sqlite:///{tmp_path}/c.db", sources={"shop": SHOP}) as (served, visitor):
        update_record(served.beside, [finding], now=datetime.now(UTC))
        assert steps(visitor, finding) == []
