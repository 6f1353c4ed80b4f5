"""The commands `simulate` and `demo`: their output, their exit codes, and one line for every mistake."""

from __future__ import annotations

import re
import sys
import threading
import tomllib
from http.server import ThreadingHTTPServer

import pytest
from stub_servers import Stub
from typer.testing import CliRunner

from receiver import codec
from receiver.dialects.doubts import doubts_about_sources
from receiver.dialects.sources import build_sources, find_dialects
from receiver.settings.settings import Settings
from simulator.__main__ import app
from simulator.commands import print_reports, what_next
from simulator.delivery import Log
from simulator.report import SourceReport
from simulator.scenario import load
from simulator.systems import SYSTEMS


def invoke(*arguments):
    return CliRunner().invoke(app, arguments)


class Receiver(Stub):
    protocol_version = "HTTP/1.1"

    def post(self):
        self.body()
        self.server.paths.append(self.path)
        self.answer(status=self.server.status)

    def get(self):
        self.answer(status=self.server.asked)


@pytest.fixture
def receiver():
    with ThreadingHTTPServer(("127.0.0.1", 0), Receiver) as server:
        server.status, server.paths = 200, []
        server.url = f"http://127.0.0.1:{server.server_port}/hooks"
        threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        yield server
        server.shutdown()


def test_a_scenario_can_be_sent_to_any_receiver(receiver):
    done = invoke("simulate", "--to", receiver.url, "--events", "40", "--rate", "0", "--json")
    assert done.exit_code == 0, done.output
    document = codec.decode(done.stdout)
    assert document["good"]
    assert [entry["source"] for entry in document["sources"]] == list(SYSTEMS)
    assert all(entry["acked"] >= 10 and entry["mirror"] is None for entry in document["sources"])
    assert set(receiver.paths) == {f"/hooks/{source}" for source in SYSTEMS}


def test_a_receiver_that_refuses_leads_to_exit_code_1(receiver):
    receiver.status = 403
    arguments = ("--source", "iimmpact", "--events", "5", "--rate", "0")
    done = invoke("simulate", "--to", receiver.url, *arguments)
    assert done.exit_code == 1
    assert "not acked: 403" in done.stdout


def test_a_report_written_to_a_pipe_is_complete_whatever_its_numbers(capsys):
    log = Log(messages=10**9, sent=10**9, acked=10**9, retries=10**9, given_up=10**9, latencies=[12_345.6])
    print_reports(
        [SourceReport(source="iimmpact", events=10**9, log=log, seconds=0.1)], load("calm"), seed=1, as_json=False
    )
    printed = capsys.readouterr().out
    assert "…" not in printed
    assert len(re.findall(r" 1000000000 ", printed)) == 5


def test_faults_and_speed_can_be_combined(receiver):
    faults = ("--fault", "duplicate=1", "--fault", "outage=1", "--speed", "5000")
    arguments = ("--source", "sigma", "--events", "10", "--rate", "0", "--json", *faults)
    (entry,) = codec.decode(invoke("simulate", "--to", receiver.url, *arguments).stdout)["sources"]
    assert entry["acked"] == 2 * entry["events"]
    assert entry["retries"] >= entry["events"]


def test_a_receiver_that_accepts_forgeries_is_reported(receiver):
    arguments = ("--source", "sigma", "--events", "10", "--rate", "0", "--fault", "wrong_signature=1")
    done = invoke("simulate", "--to", receiver.url, *arguments)
    assert done.exit_code == 1
    assert "forged or damaged requests were acked: they must be refused" in " ".join(done.stdout.split())


def test_prepared_messages_are_sent_at_full_speed(receiver):
    done = invoke("simulate", "--to", receiver.url, "--prepared", "4", "--events", "80", "--json")
    assert done.exit_code == 0, done.output
    assert all(entry["acks_per_second"] > 0 for entry in codec.decode(done.stdout)["sources"])


@pytest.mark.parametrize("events", [1, 6])
def test_fewer_events_than_systems_and_an_uneven_number_are_prepared_in_full(receiver, events):
    done = invoke("simulate", "--to", receiver.url, "--prepared", "4", "--events", str(events), "--json")
    assert done.exit_code == 0, done.output
    assert sum(entry["events"] for entry in codec.decode(done.stdout)["sources"]) >= events


def test_a_comparison_of_prepared_messages_is_refused_instead_of_left_out(receiver):
    done = invoke("simulate", "--to", receiver.url, "--prepared", "4", "--check", receiver.url, "--token", "x")
    assert (done.exit_code, receiver.paths) == (1, [])
    assert "--prepared only measures, and compares no mirror: leave out --check, or --prepared." in done.stderr


@pytest.mark.parametrize(
    ("status", "why"),
    [
        (401, "{}/api/v1/stats answered 401: give --token what `hookmirror token` prints there."),
        (500, "{}/api/v1/stats answered 500."),
        (200, "the server at {} is not a Hookmirror (Unreadable)."),
    ],
)
def test_without_the_mirror_s_api_the_report_lacks_only_the_comparison(receiver, status, why):
    receiver.asked = status
    base = receiver.url.removesuffix("/hooks")
    arguments = ("--source", "iimmpact", "--events", "4", "--rate", "0", "--check", base, "--token", "x")
    done = invoke("simulate", "--to", receiver.url, *arguments)
    assert done.exit_code == 1
    assert "acks/s" in done.stdout
    assert done.stdout.splitlines()[-1] == f"iimmpact: not compared with the mirror: {why.format(base)}"


def test_a_missing_receiver_is_reported_in_one_line_with_exit_code_1():
    arguments = ("--to", "http://127.0.0.1:1/", "--events", "4", "--rate", "0", "--prepared", "2")
    done = invoke("simulate", *arguments)
    assert done.exit_code == 1
    assert "Traceback" not in done.output
    assert "Connect call failed" in done.output


def test_the_settings_of_a_seed_are_printed():
    runs = [invoke("simulate", "--print-settings", "--serve", "--port", "9100", "--seed", seed) for seed in "112"]
    tables = [tomllib.loads(done.stdout)["sources"] for done in runs]
    assert tables[0] == tables[1] != tables[2]
    assert tables[0]["sigma"]["api_url"] == "http://127.0.0.1:9100/sigma/api/v1"


def test_the_printed_secrets_look_like_secrets_of_their_senders():
    settings = tomllib.loads(invoke("simulate", "--print-settings").stdout)
    sources = build_sources(Settings(sources=settings["sources"]), find_dialects())
    assert doubts_about_sources(sources) == []


def test_the_settings_of_a_rotation_have_both_secrets():
    done = invoke("simulate", "--print-settings", "--scenario", "rotation")
    assert len(tomllib.loads(done.stdout)["sources"]["iimmpact"]["secrets"]) == 2


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ((), "Nothing to do: send with --to URL, or serve the APIs with --serve."),
        (("--to", "http://a/", "--check", "http://a/"), "--check wants a token: give --token what `hookmirror token`"),
        (("--to", "nowhere"), "--to: 'nowhere/sigma' is not an http or https URL"),
        (("--to", "http://a..b/"), "--to: 'http://a..b/sigma' is not an http or https URL in ASCII with a host that"),
        (("--to", "http://łódź.example/"), "--to: 'http://łódź.example/sigma' is not an http or https URL in ASCII"),
        (
            ("--to", "http://a/", "--source", "sap"),
            "There is no system 'sap': choose from sigma, indexed, iimmpact, sticky.",
        ),
        (("--to", "http://a/", "--scenario", "sunny"), "there is no scenario 'sunny': choose one of calm"),
        (("--to", "http://a/", "--fault", "drop=2"), "--fault: drop must be a number from 0 to 1"),
        (("--to", "http://a/", "--fault", "rain=2"), "--fault: unknown fault 'rain': choose from duplicate, reorder"),
    ],
)
def test_a_mistake_is_answered_with_one_line_that_says_what_is_right(arguments, told):
    done = invoke("simulate", *arguments)
    assert done.exit_code == 1
    assert done.output.startswith(f"hookmirror: {told}")
    assert len(done.output.strip().splitlines()) == 1


def test_a_mistake_in_a_user_s_scenario_is_reported_with_its_line(tmp_path):
    path = tmp_path / "mine.toml"
    path.write_text('title = "x"\nevents = 5\nrate = -1\n')
    done = invoke("demo", "--scenario", str(path))
    assert done.exit_code == 1
    assert "mine.toml:3: rate must be a number from 0" in done.output


@pytest.mark.parametrize("mistake", [("--speed", "inf"), ("--rate", "inf"), ("--events", "1000001")])
def test_a_number_beyond_the_bounds_of_scenario_files_is_refused(mistake):
    done = invoke("simulate", "--to", "http://127.0.0.1:1", *mistake)
    assert (done.exit_code, f"Invalid value for '{mistake[0]}'" in done.output) == (2, True)


@pytest.mark.parametrize(
    ("prefix", "command"),
    [
        ("/clone/.venv", ".venv/bin/hookmirror"),
        ("/clone/.venv-python3.13", ".venv-python3.13/bin/hookmirror"),
        ("/opt/hookmirror", ".venv/bin/hookmirror"),
    ],
)
def test_the_demo_names_the_command_of_the_environment_that_make_made(monkeypatch, prefix, command):
    monkeypatch.setattr(sys, "prefix", prefix)
    assert f"(from a clone, the command is {command})" in what_next(load("calm"))
