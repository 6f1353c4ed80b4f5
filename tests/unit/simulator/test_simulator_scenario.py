"""Scenario files: those of the package can be read, and a mistake is refused with its line."""

from __future__ import annotations

import pytest

from simulator.scenario import ScenarioError, load, names, read

GOOD = 'title = "x"\nevents = 10\nrate = 5\n'


@pytest.mark.parametrize("name", names())
def test_every_scenario_of_the_package_can_be_read(name):
    assert load(name).name == name


def test_a_user_s_own_file_can_be_read(tmp_path):
    (tmp_path / "mine.toml").write_text(GOOD + "[faults]\nreorder = 3\n")
    assert load(str(tmp_path / "mine.toml")).faults.reorder == 3


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (GOOD + "[faults]\nearthquake = 1\n", "mine:5: unknown fault 'earthquake': choose from duplicate, reorder"),
        (GOOD + "[faults]\n\ndrop = -0.5\n", "mine:6: drop must be a number from 0 to 1"),
        (GOOD + "[faults]\nreorder = 1.5\n", "mine:5: reorder must be a whole number"),
        ('title = "x"\nevents = 10\nrate = -1\n', "mine:3: rate must be a number from 0"),
        ('title = "x"\nevents = 10\nrate = 1e-9\n', "mine:3: rate must be 0 for full speed, or a number from 0.0001"),
        ('title = "x"\nevents = true\nrate = 1\n', "mine:2: events must be a whole number"),
        ('title = "x"\nrate = 1\n', "mine:1: events is missing"),
        (GOOD + "colour = 1\n", "mine:4: unknown setting 'colour': choose from title"),
        (GOOD + "faults = 1\n", "mine:4: faults must be a table"),
        ("title = \n", "mine:1: not TOML"),
        (GOOD + "rate = 6\n", "mine:4: not TOML"),
        (GOOD + "faults.drop = 7\n", "mine:4: drop must be"),
        (GOOD + "faults = { drop = 7 }\n", "mine:4: drop must be"),
        (GOOD + "[faults]\nskew_seconds = nan\n", "mine:5: skew_seconds must be a number from -3600 to 3600"),
    ],
)
def test_a_mistake_is_refused_with_its_line_and_what_is_allowed(text, message):
    with pytest.raises(ScenarioError) as refusal:
        read(text, name="mine")
    assert message in str(refusal.value)


def test_an_unknown_scenario_is_refused_with_the_known_ones():
    with pytest.raises(ScenarioError, match="choose one of calm"):
        load("sunny")


def test_a_missing_file_is_refused():
    with pytest.raises(ScenarioError, match="cannot be read"):
        load("/nowhere/mine.toml")


@pytest.mark.parametrize("rate", [1e-300, 0.00009])
def test_a_rate_whose_times_no_calendar_has_is_refused(rate):
    with pytest.raises(ScenarioError, match=r"^mine: rate must be 0 for full speed, or a number from 0\.0001"):
        read(GOOD, name="mine").changed(rate=rate)
