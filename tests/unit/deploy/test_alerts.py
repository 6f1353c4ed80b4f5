"""Prometheus' configuration names existing services and metrics, and the docs explain each alarm."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from receiver.metrics import metrics
from receiver.settings.settings import Settings

ROOT = Path(__file__).parents[3]
OPERATIONS = (ROOT / "docs" / "operations.md").read_text("utf-8")
RULES = [
    rule
    for group in yaml.safe_load((ROOT / "deploy" / "alerts.yml").read_text("utf-8"))["groups"]
    for rule in group["rules"]
]

#: Functions, words and Prometheus' own metric that our expressions contain.
PROMQL = {
    *(
        "sum",
        "max",
        "min",
        "by",
        "and",
        "or",
        "rate",
        "increase",
        "offset",
        "vector",
        "histogram_quantile",
        "up",
        "job",
    ),
    *("le", "instance"),
}


@pytest.fixture(params=RULES, ids=lambda rule: rule["alert"])
def rule(request) -> dict[str, Any]:
    return request.param


def labels() -> dict[str, set[str]]:
    """Return the labels of every metric by the names of its samples."""
    found: dict[str, set[str]] = {}
    for collector in list(metrics.REGISTRY._collector_to_names):
        for name in metrics.REGISTRY._collector_to_names[collector]:
            found[name] = set(collector._labelnames)
    return found


def test_an_alarm_uses_existing_metrics_and_labels(rule):
    named = set(re.findall(r"hookmirror_\w+", rule["expr"]))
    assert named <= labels().keys()
    of_metrics = set().union(*(labels()[name] for name in named), set())
    bare = re.sub(r'"[^"]*"|\[[^\]]*\]|hookmirror_\w+|\b[\d.]+[smhd]?\b', " ", rule["expr"])
    assert set(re.findall(r"[a-z_]+", bare)) <= of_metrics | PROMQL


def test_an_alarm_on_a_code_names_an_existing_code(rule):
    documented = set(re.findall(r"^\| `(\w+)` \|", (ROOT / "docs" / "api.md").read_text("utf-8"), re.MULTILINE))
    for pattern in re.findall(r'code=~?"([^"]+)"', rule["expr"]):
        for each in pattern.split("|"):
            assert [code for code in documented if re.fullmatch(each, code)], each


def test_the_counters_of_an_alarm_are_exposed_before_their_first_event(rule):
    """Otherwise an increase of 0 would be no answer, and the first events no increase."""
    metrics.begin_at_zero(["new"])
    samples = [each for family in metrics.REGISTRY.collect() for each in family.samples]
    for name, selected in re.findall(r"increase\((hookmirror_\w+)(\{.*?\})?\[", rule["expr"]):
        if name == "hookmirror_limited_total":
            # It fires at a hundred, and a flood goes on.
            continue
        shown = [each.labels for each in samples if each.name == name and each.labels["source"] in ("", "new")]
        assert shown, name
        for code in filter(None, selected.partition('"')[2].rpartition('"')[0].split("|")):
            assert [each for each in shown if re.fullmatch(code, each["code"])], code


def test_an_alarm_on_the_absence_of_processes_fires_without_any_target():
    absent = [rule["expr"] for rule in RULES if re.search(r"\bup\{.*== 0", rule["expr"]) and "sum" in rule["expr"]]
    assert len(absent) == 2
    for expression in absent:
        assert re.fullmatch(r"\(sum\(up\{.*\}\) or vector\(0\)\) == 0", expression)


def test_an_alarm_has_a_severity_and_a_description_with_its_value(rule):
    assert rule["labels"]["severity"] in ("warning", "critical")
    assert rule["annotations"]["summary"].endswith(".")


def test_an_alarm_is_explained_in_the_docs(rule):
    section = OPERATIONS.partition("## What an alarm means")[2].partition("\n## ")[0]
    assert re.search(rf"^\|.*`{rule['alert']}`.*\|.*\|.*\|$", section, re.MULTILINE), rule["alert"]


def test_the_docs_explain_no_alarm_that_does_not_exist():
    known = {rule["alert"] for rule in RULES}
    assert set(re.findall(r"`(Hookmirror\w+)`", OPERATIONS)) == known


def test_the_backlog_alarm_and_readyz_have_the_same_bound():
    (expression,) = [rule["expr"] for rule in RULES if rule["alert"] == "HookmirrorBacklogOld"]
    assert float(expression.rpartition(">")[2]) == Settings.model_fields["max_backlog_seconds"].default


def test_prometheus_asks_the_services_that_the_compose_file_declares():
    jobs = yaml.safe_load((ROOT / "deploy" / "prometheus.yml").read_text("utf-8"))["scrape_configs"]
    services = yaml.safe_load((ROOT / "docker-compose.yml").read_text("utf-8"))["services"]
    asked = [target for job in jobs for config in job.get("static_configs", []) for target in config["targets"]]
    asked += [
        f"{name}:{each['port']}" for job in jobs for each in job.get("dns_sd_configs", []) for name in each["names"]
    ]
    assert asked
    for target in asked:
        name, _, port = target.partition(":")
        assert services[name]["expose"] == [port]


@pytest.mark.skipif(shutil.which("promtool") is None, reason="Prometheus is not installed")
def test_prometheus_accepts_the_whole_configuration(tmp_path):
    for name in ("prometheus.yml", "alerts.yml"):
        shutil.copy(ROOT / "deploy" / name, tmp_path)
    done = subprocess.run(
        ["promtool", "check", "config", "prometheus.yml"], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
