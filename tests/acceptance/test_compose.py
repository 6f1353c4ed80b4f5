"""The services of `docker-compose.yml` work, tested without Docker: commands, environments, health checks and roles.

The tests share one composition and run in order; the last ones stop it service by service.
"""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator
from itertools import count

import httpx
import psycopg
import pytest
from commanding import SECRET, TIMEOUT, is_alive, product, signed, wait_until
from composing import POSTGRESQL_PROGRAMS, ROOT, Composition, composed, required_variables, services

from receiver.server.supervised import STOP_TIMEOUT
from receiver.settings.environment import CONFIG_VARIABLE, TOKEN_VARIABLE, VARIABLE_PREFIX
from receiver.settings.settings import Settings

VARIABLES = {
    "SECRET_KEY": "secret-key-of-these-tests-only",
    "DATABASE_OWNER_PASSWORD": "owner",
    "DATABASE_PASSWORD": "runner",
}

#: A source besides those of the simulator.
OUR_SOURCE = f'\n[sources.ours]\ndialect = "iimmpact"\nsecrets = ["{SECRET}"]\n'

OURS = [name for name, service in services().items() if service["image"] == "hookmirror"]
STAYING = [name for name in OURS if services()[name]["restart"] != "no"]


@pytest.fixture(scope="module")
def composition(tmp_path_factory) -> Iterator[Composition]:
    """Start all services that have no profile."""
    folder = tmp_path_factory.mktemp("compose")
    with composed(folder, **VARIABLES) as made:
        (folder / "hookmirror.toml").write_text(made.run("simulator", "--print-settings").stdout + OUR_SOURCE)
        for service, declared in services().items():
            if "profiles" not in declared:
                made.up(service)
        yield made


@pytest.fixture
def outside(composition: Composition) -> Iterator[httpx.Client]:
    """Give a client on the public port."""
    with httpx.Client(base_url=composition.url("proxy", 8080), timeout=TIMEOUT) as client:
        yield client


def send(client: httpx.Client, number: int, *, key: str = "x") -> httpx.Response:
    content = product(number, key=key, name="Lamp")
    return client.post("/hooks/ours", content=content, headers=signed("iimmpact", content))


def counted(url: str, sample: str) -> float:
    text = httpx.get(f"{url}/metrics", timeout=TIMEOUT).text
    return sum(float(value) for value in re.findall(rf"^{sample}(?:{{.*}})? (\S+)$", text, re.MULTILINE))


def token(composition: Composition) -> str:
    """Return the token that `docker compose exec endpoint-1 hookmirror token` prints."""
    return composition.exec("endpoint-1", "token")


# ── the whole ─────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_scenario_through_proxy_endpoints_and_workers_ends_with_an_equal_mirror(composition: Composition):
    composition.variables["TOKEN"] = token(composition)
    done = composition.run("simulator", "--events=600")
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count("equal (") == 4, done.stdout
    accepted = [counted(composition.url(f"endpoint-{each}", 8000), "hookmirror_deliveries_total") for each in (1, 2)]
    assert min(accepted) > 0, accepted


def test_both_workers_work(composition: Composition, outside: httpx.Client):
    composition.wait_until_healthy("worker")
    numbers = count()

    def both_did() -> bool:
        send(outside, next(numbers), key="for both")
        return all(counted(composition.url(f"worker-{each}", 8000), "hookmirror_ended_total") for each in (1, 2))

    wait_until(both_did, "each of the workers to end a delivery")


@pytest.mark.parametrize("service", ["postgres", *STAYING, "proxy"])
def test_each_running_service_is_healthy(composition: Composition, service: str):
    composition.wait_until_healthy(service)


def test_the_role_of_the_processes_may_change_rows_but_no_table(composition: Composition):
    with psycopg.connect(composition.runner_url) as connection:
        assert connection.execute("SELECT current_user").fetchone() == ("hookmirror",)
        connection.execute("UPDATE deliveries SET duplicates = duplicates WHERE false")
        for statement in ("CREATE TABLE theirs ()", "ALTER TABLE deliveries ADD COLUMN x int", "TRUNCATE deliveries"):
            with pytest.raises(psycopg.errors.InsufficientPrivilege), connection.transaction():
                connection.execute(statement)


def test_the_role_has_synchronous_commit_even_if_a_pooler_drops_the_options_of_a_connection(composition: Composition):
    with psycopg.connect(composition.runner_url) as connection:
        asked = [connection.execute(f"SHOW {name}").fetchone()[0] for name in ("synchronous_commit", "timezone")]
    assert asked == ["on", "UTC"]


def test_the_role_can_be_made_after_the_tables(composition: Composition):
    given = [f"--set={each}" for each in ("owner=hookmirror_owner", "runner=second_runner", "runner_password=x")]
    script = f"--file={ROOT / 'deploy' / 'roles.sql'}"
    subprocess.run([POSTGRESQL_PROGRAMS / "psql", composition.owner_url, "--quiet", *given, script], check=True)
    with psycopg.connect(composition.owner_url, user="second_runner") as runner:
        runner.execute("UPDATE deliveries SET duplicates = duplicates WHERE false")


def test_a_role_of_another_database_of_the_server_gets_its_rights_in_this_one(composition: Composition):
    given = [f"--set={each}" for each in ("owner=hookmirror_owner", "runner=role_of_two", "runner_password=x")]
    script = f"--file={ROOT / 'deploy' / 'roles.sql'}"
    with psycopg.connect(composition.owner_url, autocommit=True) as owner:
        owner.execute("CREATE ROLE role_of_two")
    subprocess.run([POSTGRESQL_PROGRAMS / "psql", composition.owner_url, "--quiet", *given, script], check=True)
    with psycopg.connect(composition.owner_url, user="role_of_two") as runner:
        runner.execute("UPDATE deliveries SET duplicates = duplicates WHERE false")


def test_the_role_may_use_the_tables_of_a_later_release(composition: Composition):
    with psycopg.connect(composition.owner_url, autocommit=True) as owner:
        owner.execute("CREATE TABLE of_a_later_release (number bigserial)")
    with psycopg.connect(composition.runner_url) as runner:
        runner.execute("INSERT INTO of_a_later_release DEFAULT VALUES")
        assert runner.execute("SELECT number FROM of_a_later_release").fetchall() == [(1,)]


# ── the proxy ─────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_webhook_from_outside_gets_the_endpoint_s_answer(outside: httpx.Client):
    assert (send(outside, 1).json()["status"], send(outside, 1).json()["status"]) == ("accepted", "duplicate")
    refused = outside.post("/hooks/ours", content=b"{}")
    assert (refused.status_code, refused.json()["error"]) == (401, "signature_missing")


@pytest.mark.parametrize("path", ["/api/v1/stats", "/metrics", "/readyz", "/", "/hooks", "/healthzx"])
def test_no_other_address_is_reachable_from_outside(outside: httpx.Client, path: str):
    answer = outside.get(path)
    assert (answer.status_code, answer.json()["error"]) == (404, "not_found")


def test_every_address_is_reachable_on_the_private_port(composition: Composition):
    url = composition.url("proxy", 8081)
    answer = httpx.get(
        f"{url}/api/v1/stats", headers={"Authorization": f"Bearer {token(composition)}"}, timeout=TIMEOUT
    )
    assert [each["source"] for each in answer.json()["sources"]] == ["iimmpact", "indexed", "ours", "sigma", "sticky"]
    assert httpx.get(f"{url}/readyz", timeout=TIMEOUT).json()["status"] == "ready"


def test_the_console_is_reachable_on_the_private_port_only(composition: Composition, outside: httpx.Client):
    link = composition.exec("console", "console-link")
    assert link.startswith("http://127.0.0.1:8081/console/sign-in?link=")
    query = link.partition("/console")[2]
    headers = {"Host": "127.0.0.1:8081"}
    answer = httpx.get(f"{composition.url('proxy', 8081)}/console{query}", headers=headers, timeout=TIMEOUT)
    assert (answer.status_code, "Sign in as" in answer.text) == (200, True)
    assert outside.get(f"/console{query}").status_code == 404


def test_a_person_signs_in_behind_the_proxy_and_is_told_at_once_that_pages_change(composition: Composition):
    link = composition.exec("console", "console-link").rpartition("=")[2]
    browser = {"Host": "127.0.0.1:8081", "Sec-Fetch-Site": "same-origin"}
    with httpx.Client(base_url=composition.url("proxy", 8081), headers=browser, timeout=TIMEOUT) as person:
        assert person.post("/console/sign-in", data={"link": link}).status_code == 303
        page = person.get("/console/sources")
        assert (page.status_code, "iimmpact" in page.text) == (200, True)
        with person.stream("GET", "/console/live") as hints:
            assert hints.headers["content-type"].startswith("text/event-stream")
            assert next(hints.iter_bytes()), "the proxy does not hold the stream back"


def test_the_proxy_passes_a_body_of_the_endpoint_s_limit_and_refuses_a_larger_one(outside: httpx.Client):
    largest = Settings.model_fields["max_body_bytes"].default
    content = b" " * largest
    assert outside.post("/hooks/ours", content=content, headers=signed("iimmpact", content)).status_code == 200
    answer = outside.post("/hooks/ours", content=b" " * (largest + 1))
    assert (answer.status_code, answer.json()["error"]) == (413, "body_too_large")


# ── failures ──────────────────────────────────────────────────────────────────────────────────────────────────


def test_while_one_endpoint_is_away_the_other_answers(composition: Composition, outside: httpx.Client):
    composition.processes["endpoint-1"].kill()
    composition.processes["endpoint-1"].wait()
    assert {send(outside, number, key="away").status_code for number in range(20)} == {200}
    assert not composition.is_healthy("endpoint-1")
    composition.wait_until_healthy("proxy")
    composition.start("endpoint-1", "endpoint-1")
    composition.wait_until_healthy("endpoint-1")


def test_the_other_worker_finishes_what_a_killed_worker_held(composition: Composition, outside: httpx.Client):
    composition.processes["worker-1"].kill()
    composition.processes["worker-1"].wait()
    assert not composition.is_healthy("worker")
    for number in range(20):
        assert send(outside, number, key="killed").status_code == 200
    url, headers = composition.url("proxy", 8081), {"Authorization": f"Bearer {token(composition)}"}

    def open_deliveries() -> int:
        of_sources = httpx.get(f"{url}/api/v1/stats", headers=headers, timeout=TIMEOUT).json()["sources"]
        return sum(each["states"]["pending"] + each["states"]["processing"] for each in of_sources)

    wait_until(lambda: open_deliveries() == 0, "the other worker")
    composition.start("worker", "worker-1")
    composition.wait_until_healthy("worker")


def test_while_the_console_is_away_webhooks_and_the_api_are_answered(composition: Composition, outside: httpx.Client):
    composition.processes["console"].kill()
    composition.processes["console"].wait()
    assert not composition.is_healthy("console")
    assert send(outside, 1, key="without a console").status_code == 200
    url, headers = composition.url("proxy", 8081), {"Authorization": f"Bearer {token(composition)}"}
    assert httpx.get(f"{url}/api/v1/stats", headers=headers, timeout=TIMEOUT).status_code == 200
    assert httpx.get(f"{url}/console/", timeout=TIMEOUT).status_code == 502
    composition.start("console", "console")
    composition.wait_until_healthy("console")


def test_all_processes_end_with_0_within_their_grace_period(composition: Composition):
    for process in composition.processes.values():
        process.terminate()
    assert {process.wait(TIMEOUT) for process in composition.processes.values()} == {0}


def test_without_any_endpoint_the_sender_gets_a_503_with_retry_after(composition: Composition, outside: httpx.Client):
    answer = send(outside, 1, key="nobody")
    assert (answer.status_code, answer.json()["error"]) == (503, "unavailable")
    assert int(answer.headers["retry-after"]) > 0
    assert not is_alive(outside)


# ── declarations ──────────────────────────────────────────────────────────────────────────────────────────────


def test_every_required_variable_is_in_the_example_without_a_value():
    example = (ROOT / ".env.example").read_text("utf-8")
    assert required_variables().keys() == VARIABLES.keys()
    assert sorted(re.findall(r"^(\w+)=$", example, re.MULTILINE)) == sorted(VARIABLES)
    for name, message in required_variables().items():
        assert f"Set {name} in .env" in message


@pytest.mark.parametrize("service", OURS)
def test_a_service_gets_only_known_settings(service: str):
    known = {f"{VARIABLE_PREFIX}{name.upper()}" for name in Settings.model_fields} | {CONFIG_VARIABLE, TOKEN_VARIABLE}
    given = {name for name in services()[service].get("environment", {}) if name.startswith(VARIABLE_PREFIX)}
    assert given <= known


@pytest.mark.parametrize("service", OURS)
def test_a_service_runs_without_rights_that_it_does_not_need(service: str):
    declared = services()[service]
    assert (declared["read_only"], declared["cap_drop"]) == (True, ["ALL"])
    assert declared["security_opt"] == ["no-new-privileges:true"]


@pytest.mark.parametrize("service", STAYING)
def test_a_permanent_service_has_a_memory_limit_a_restart_policy_and_time_to_end(service: str):
    declared = services()[service]
    assert re.fullmatch(r"\d+M", declared["deploy"]["resources"]["limits"]["memory"])
    assert declared["restart"] == "unless-stopped"
    assert float(declared["stop_grace_period"].removesuffix("s")) > STOP_TIMEOUT
    assert declared["depends_on"]["migrate"]["condition"] == "service_completed_successfully"


def test_there_are_two_endpoints_and_two_workers():
    assert {"endpoint-1", "endpoint-2"} <= services().keys()
    assert services()["worker"]["deploy"]["replicas"] == 2


def test_services_for_trying_things_out_have_a_profile():
    assert {name: each["profiles"] for name, each in services().items() if "profiles" in each} == {
        "simulator": ["simulator"],
        "prometheus": ["prometheus"],
    }


def test_mounted_files_exist():
    mounted = [volume for service in services().values() for volume in service.get("volumes", [])]
    files = [volume.partition(":")[0] for volume in mounted if volume.startswith("./")]
    assert files
    assert [file for file in files if not (ROOT / file).is_file()] == []
