"""Variables that Kubernetes sets for a Service of our name are ignored, and misspelt settings are not."""

from __future__ import annotations

import os

import pytest

from receiver.errors import ConfigurationError
from receiver.settings.settings import load


@pytest.fixture(autouse=True)
def _clean_environment(monkeypatch):
    for name in [name for name in os.environ if name.upper().startswith("HOOKMIRROR_")]:
        monkeypatch.delenv(name)


OF_SERVICES = {
    "HOOKMIRROR_SERVICE_HOST": "10.0.0.1",
    "HOOKMIRROR_SERVICE_PORT": "80",
    "HOOKMIRROR_SERVICE_PORT_HTTP": "80",
    "HOOKMIRROR_SERVICE_PORT_HTTP_METRICS": "9100",
    "HOOKMIRROR_PORT": "tcp://10.0.0.1:80",
    "HOOKMIRROR_PORT_80_TCP": "tcp://10.0.0.1:80",
    "HOOKMIRROR_PORT_80_TCP_PROTO": "tcp",
    "HOOKMIRROR_PORT_80_TCP_PORT": "80",
    "HOOKMIRROR_PORT_80_TCP_ADDR": "10.0.0.1",
    "HOOKMIRROR_PORT_443_UDP_ADDR": "fd00::1",
    "HOOKMIRROR_PORT_443_SCTP": "sctp://[fd00::1]:443",
    "HOOKMIRROR_WORKER_SERVICE_HOST": "10.0.0.2",
    "HOOKMIRROR_WORKER_PORT": "udp://[fd00::1]:9100",
    "HOOKMIRROR_DB_PORT_5432_TCP_ADDR": "10.0.0.3",
    "HOOKMIRROR_2_SERVICE_PORT_A": "80",
}


@pytest.mark.parametrize("name", OF_SERVICES)
def test_a_variable_that_kubernetes_sets_for_a_service_is_ignored(monkeypatch, name):
    unset = load()
    monkeypatch.setenv(name, OF_SERVICES[name])
    assert load() == unset


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("HOOKMIRROR_PORT", "8000"),
        ("HOOKMIRROR_METRICS_PORT", "9100"),
        ("HOOKMIRROR_PORT", "tcp://"),
        ("HOOKMIRROR_HOST", "0.0.0.0"),
        ("HOOKMIRROR_SERVICE", "10.0.0.1"),
        ("HOOKMIRROR_SERVICE_HOSTS", "10.0.0.1"),
        ("HOOKMIRROR_SERVICEPORT", "80"),
        ("HOOKMIRROR_PORT_80", "80"),
        ("HOOKMIRROR_PORT_80_TCPS", "80"),
        ("HOOKMIRROR_BATCH_SISE", "7"),
    ],
)
def test_a_variable_that_only_resembles_one_is_refused(monkeypatch, name, text):
    monkeypatch.setenv(name, text)
    with pytest.raises(ConfigurationError, match=f"^{name} is set in the environment and is not a setting: correct"):
        load()
