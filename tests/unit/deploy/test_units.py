"""The systemd units start commands that exist, without special rights, and give them time to end."""

from __future__ import annotations

import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import typer

from receiver import cli
from receiver.commands.follow import EXIT_NEEDS_A_PERSON
from receiver.server.server import REQUEST_GRACE
from receiver.settings.environment import CONFIG_VARIABLE
from receiver.worker.thread import WORKER_STOP_TIMEOUT

DEPLOY = Path(__file__).parents[3] / "deploy"
SERVICES = sorted(DEPLOY.glob("*.service"))
PROGRAM = "/opt/hookmirror/bin/hookmirror"


def settings(unit: Path) -> dict[str, list[str]]:
    """Return every setting of the unit with its values."""
    found: dict[str, list[str]] = {}
    for line in unit.read_text("utf-8").splitlines():
        name, equals, value = line.partition("=")
        if equals and not line.startswith("#"):
            found.setdefault(name, []).append(value)
    return found


@pytest.fixture(params=SERVICES, ids=lambda unit: unit.name)
def service(request) -> dict[str, list[str]]:
    return settings(request.param)


def test_there_is_a_unit_for_each_kind_of_process():
    names = [
        "hookmirror-console.service",
        "hookmirror-follow@.service",
        "hookmirror-worker@.service",
        "hookmirror.service",
    ]
    assert [unit.name for unit in SERVICES] == names


def test_a_unit_starts_an_existing_command_with_existing_options(service):
    (line,) = service["ExecStart"]
    program, name, *options = shlex.split(line.replace("%i", "1"))
    assert program == PROGRAM
    typer.main.get_command(cli.compose(name)).commands[name].make_context(name, options)


def test_no_value_of_the_environment_is_on_a_command_line_where_other_users_read_it(service):
    assert [line for line in service["ExecStart"] if "$" in line] == []


@pytest.mark.parametrize("name", ["hookmirror-worker@.service", "hookmirror.service"])
def test_a_unit_reloads_settings_with_a_command_that_signals_only_its_process(name):
    (line,) = settings(DEPLOY / name)["ExecReload"]
    program, command, *options = shlex.split(line.replace("$MAINPID", "4711"))
    assert program == PROGRAM
    asked = typer.main.get_command(cli.compose(command)).commands[command].make_context(command, options)
    assert asked.params["pid"] == 4711


def test_a_unit_gives_more_time_to_end_than_a_process_needs(service):
    assert int(service["TimeoutStopSec"][0]) > max(REQUEST_GRACE, WORKER_STOP_TIMEOUT) + 5


def test_a_unit_restarts_its_process_after_every_kind_of_end(service):
    assert service["Restart"] == ["always"]
    assert service["StartLimitIntervalSec"] == ["0"]


def test_a_unit_has_limits_and_few_rights(service):
    assert service["User"] == ["hookmirror"]
    assert service["NoNewPrivileges"] == ["yes"]
    assert service["ProtectSystem"] == ["strict"]
    assert service["StateDirectory"] == ["hookmirror"]
    assert service["MemoryMax"]


def test_all_units_read_their_settings_from_one_place(service):
    assert service["Environment"] == [f"{CONFIG_VARIABLE}=/etc/hookmirror/hookmirror.toml"]
    assert service["EnvironmentFile"][0] == "/etc/hookmirror/environment"


def test_a_follower_is_not_restarted_after_an_end_that_only_a_person_can_mend():
    assert settings(DEPLOY / "hookmirror-follow@.service")["RestartPreventExitStatus"] == [str(EXIT_NEEDS_A_PERSON)]


def test_the_endpoint_gets_the_socket_that_systemd_opens():
    endpoint = settings(DEPLOY / "hookmirror.service")
    assert endpoint["Requires"] == ["hookmirror.socket"]
    # systemd passes its sockets on from file descriptor 3.
    assert "--fd 3" in endpoint["ExecStart"][0]
    assert settings(DEPLOY / "hookmirror.socket")["ListenStream"] == ["127.0.0.1:8000"]


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd is not installed")
def test_systemd_accepts_every_unit(tmp_path):
    program = Path(sys.executable).with_name("hookmirror")
    units = [tmp_path / unit.name for unit in DEPLOY.iterdir() if unit.suffix in (".service", ".socket")]
    for unit in units:
        unit.write_text((DEPLOY / unit.name).read_text("utf-8").replace(PROGRAM, str(program)))
    done = subprocess.run(["systemd-analyze", "verify", *units], capture_output=True, text=True, check=False)
    assert (done.returncode, [line for line in done.stderr.splitlines() if "hookmirror" in line]) == (0, [])
