"""After a rotated secret, `doctor` reports the findings that are open in a running process, and no other."""

from __future__ import annotations

from contextlib import closing
from datetime import UTC, datetime, timedelta

import pytest

from receiver.database.database import Database
from receiver.database.schema import Schema
from receiver.dialects.sources import build_sources, find_dialects
from receiver.findings import tallies
from receiver.findings.counting import SECRET_USED, SECRETS_SET, KindCount, TallyKey
from receiver.findings.secret_uses import marks_of_sources, secrets_since
from receiver.findings.standing import standing
from receiver.server.doctor import examine
from receiver.server.upkeep import facts_of
from receiver.settings.settings import Settings

MINUTE = timedelta(minutes=1)
KEY = "k" * 32
OLD, NEW = "the-old-secret-of-the-source", "the-new-secret-of-the-source"


def settings_with(url: str, *secrets: str, key: str = KEY) -> Settings:
    return Settings(database_url=url, secret_key=key, sources={"sigma": {"secrets": list(secrets)}})


@pytest.fixture
def database(mirror_url):
    with closing(Database(mirror_url)) as opened:
        Schema(opened).prepare()
        yield opened


def tally(database: Database, kind: str, detail: str, *, minutes_ago: int, number: int = 1) -> None:
    with database.write() as connection:
        key, at = TallyKey("sigma", kind, detail), datetime.now(UTC) - minutes_ago * MINUTE
        tallies.add(connection, "one", {key: KindCount(number, 0.0)}, at=at)


def found_by_doctor(settings: Settings, folder) -> list[str]:
    subjects = [check.subject for check in examine(lambda: settings, beside=folder)]
    return [subject.removeprefix("finding ") for subject in subjects if subject.startswith("finding ")]


def found_by_a_process(settings: Settings, database: Database) -> list[str]:
    facts = facts_of(settings, build_sources(settings, find_dialects()))
    return [each.rule for each in standing(database, facts, now=datetime.now(UTC)).items]


def tally_a_part_with_the_new_secret(database: Database) -> None:
    """The old secret verifies, and webhooks signed with the new one are refused."""
    tally(database, "verified", "0", minutes_ago=6)
    tally(database, "refused", "signature_wrong", minutes_ago=6, number=3)
    tally(database, "verified", "0", minutes_ago=5)
    tally(database, "refused", "signature_wrong", minutes_ago=4, number=3)


def test_doctor_counts_no_signature_that_was_wrong_before_the_present_secrets(tmp_path, mirror_url, database):
    tally_a_part_with_the_new_secret(database)
    before, after = settings_with(mirror_url, OLD), settings_with(mirror_url, NEW, OLD)
    tally(database, SECRETS_SET, marks_of_sources(build_sources(before, find_dialects()))["sigma"], minutes_ago=10)
    assert found_by_doctor(before, tmp_path) == found_by_a_process(before, database) == ["some_signatures_wrong"]
    tally(database, SECRETS_SET, marks_of_sources(build_sources(after, find_dialects()))["sigma"], minutes_ago=3)
    assert found_by_doctor(after, tmp_path) == found_by_a_process(after, database) == []


def test_doctor_sees_that_the_sender_has_not_switched_although_the_old_secret_was_the_newest_before(
    tmp_path, mirror_url, database
):
    settings = settings_with(mirror_url, NEW, OLD)
    source = build_sources(settings, find_dialects())["sigma"]
    tally(database, "verified", "0", minutes_ago=6)
    tally(database, SECRETS_SET, marks_of_sources({"sigma": source})["sigma"], minutes_ago=5)
    tally(database, "verified", "1", minutes_ago=2, number=7)
    tally(database, SECRET_USED, source.credentials.marks[1], minutes_ago=2, number=7)
    assert found_by_doctor(settings, tmp_path) == found_by_a_process(settings, database) == ["sender_not_switched"]


def test_doctor_sees_that_the_sender_has_not_switched_while_the_secret_key_is_replaced(tmp_path, mirror_url, database):
    before, after = (settings_with(mirror_url, NEW, OLD, key=key) for key in (KEY, f"{'n' * 32} {KEY}"))
    for minutes, settings in ((5, before), (2, after)):
        sources = build_sources(settings, find_dialects())
        tally(database, SECRETS_SET, marks_of_sources(sources)["sigma"], minutes_ago=minutes)
        tally(database, SECRET_USED, sources["sigma"].credentials.marks[1], minutes_ago=minutes - 1, number=3)
    assert found_by_doctor(after, tmp_path) == found_by_a_process(after, database) == ["sender_not_switched"]
    tally(database, SECRET_USED, sources["sigma"].credentials.marks[0], minutes_ago=1)
    assert found_by_doctor(after, tmp_path) == found_by_a_process(after, database) == []


def test_a_source_has_had_its_secrets_since_before_the_secret_key_was_replaced(mirror_url, database):
    for minutes, key in ((5, KEY), (2, f"{'n' * 32} {KEY}")):
        sources = build_sources(settings_with(mirror_url, NEW, OLD, key=key), find_dialects())
        tally(database, SECRETS_SET, marks_of_sources(sources)["sigma"], minutes_ago=minutes)
    now = datetime.now(UTC)
    with database.read() as connection:
        assert secrets_since(connection, sources, now)["sigma"] < now - 4 * MINUTE
