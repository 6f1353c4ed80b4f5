"""What `doctor` reports about a source: a trusted header, and mistakes in the settings of its dialect."""

from __future__ import annotations

import sys
from functools import partial

import pytest

from receiver.server.doctor import Check, examine
from receiver.settings.settings import load

TRUSTING = """
from receiver import ARRIVAL, Dialect, Envelope, senders

trusting = Dialect("trusting", verify=senders.Shopify(), trusts_header="X-Shopify-Topic")
plain = Dialect("plain", verify=senders.Shopify())

@trusting.envelope
@plain.envelope
def read(body: dict) -> Envelope:
    return Envelope(event_type="a", entity=None, occurred_at=ARRIVAL, data=None)
"""

TUNED = """
from pydantic import BaseModel
from receiver import ARRIVAL, Dialect, Envelope, senders

class Limits(BaseModel):
    calls: int

class Own(BaseModel):
    region: str
    limits: Limits

tuned = Dialect("tuned", verify=senders.GitHub(), settings=Own)

@tuned.envelope
def read(body: dict) -> Envelope:
    return Envelope(event_type="a", entity=None, occurred_at=ARRIVAL, data=None)
"""


@pytest.fixture
def checks(tmp_path, monkeypatch):
    """Return what `doctor` reports about the sources of these settings."""
    for name in ("TRUSTING", "TUNED"):
        (tmp_path / f"doctors_{name.lower()}.py").write_text(globals()[name])
    monkeypatch.setenv("HOOKMIRROR_SECRET_KEY", "k" * 32)
    monkeypatch.setenv("HOOKMIRROR_DATABASE_URL", f"sqlite:///{tmp_path}/hookmirror.db")
    before = set(sys.modules)

    def run(settings: str) -> list[Check]:
        (tmp_path / "hookmirror.toml").write_text(settings)
        found = list(examine(partial(load, tmp_path / "hookmirror.toml"), beside=tmp_path))
        return [each for each in found if each.subject.startswith(("source", "settings"))]

    yield run
    for name in set(sys.modules) - before:
        if name.startswith("doctors_"):
            del sys.modules[name]


def test_doctor_names_the_trusted_header_of_a_source(checks):
    found = checks(
        'dialects = ["doctors_trusting:trusting", "doctors_trusting:plain"]\n'
        '[sources.trusting]\nsecrets = ["a"]\n[sources.plain]\nsecrets = ["b"]'
    )
    assert [(each.subject, each.verdict, each.says) for each in found if "trusts" in each.says] == [
        (
            "source trusting",
            "LOOK",
            "trusts the header x-shopify-topic, which its signature does not cover: it chooses the handler, and "
            "nothing else",
        )
    ]


TUNED_SETTINGS = 'dialects = ["doctors_tuned:tuned"]\n[sources.tuned]\nsecrets = ["a"]\n'


@pytest.mark.parametrize(
    ("own", "says"),
    [
        ("", "region: is missing; limits: is missing"),
        ('region = "eu"\nlimits = {}', "limits.calls: is missing"),
        ('region = "eu"\nlimits = { calls = "hidden" }', "limits.calls: Input should be a valid integer"),
        ("region = 7\nlimits = { calls = 1 }", "region: Input should be a valid string"),
        ('region = "eu"\nregoin = "hidden"\nlimits = { calls = 1 }', "regoin: there is no such setting"),
        ('region = "eu"\nlimits = { calls = 1, cals = 2 }', "limits.cals: there is no such setting"),
    ],
)
def test_a_mistake_in_a_dialect_s_own_settings_is_reported_with_its_place_and_without_its_value(checks, own, says):
    found = checks(f"{TUNED_SETTINGS}[sources.tuned.settings]\n{own}")
    assert [each.verdict for each in found if each.subject == "source tuned"] == ["MEND"]
    said = found[-1].says
    assert said.startswith("The settings in [sources.tuned.settings] are wrong: ")
    assert says in said
    assert "hidden" not in said


def test_own_settings_that_are_not_a_table_are_refused_by_name(checks):
    found = checks(f'{TUNED_SETTINGS}settings = "hidden"')
    assert (found[0].subject, found[0].good) == ("settings", False)
    assert "tuned" in found[0].says
    assert "settings" in found[0].says
    assert "hidden" not in found[0].says


@pytest.mark.parametrize(
    ("named", "says"), [(None, "HOOKMIRROR_CONFIG names: it is not set"), ("my.toml", "to the settings file")]
)
def test_settings_without_a_source_are_reported_with_whether_a_file_is_named(checks, monkeypatch, named, says):
    monkeypatch.delenv("HOOKMIRROR_CONFIG", raising=False)
    if named:
        monkeypatch.setenv("HOOKMIRROR_CONFIG", named)
    assert says in next(check.says for check in checks("") if check.subject == "sources")
