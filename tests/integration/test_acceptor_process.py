"""The acceptor process: webhooks are verified and stored in it, and its end loses none of them."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from types import SimpleNamespace

import pytest
from forked import INHERITED, Forked
from senders import SOURCES, body, seal, sent
from serving import TIMEOUT, Served, serving, wait_until
from structlog.testing import capture_logs

from receiver.errors import ConfigurationError, Unavailable
from receiver.server import acceptor, acceptor_process, acceptor_starts
from receiver.server.acceptor_process import AcceptorProcess
from receiver.server.renewal import Renewal
from receiver.settings.settings import Settings


@contextmanager
def served_by_a_process(url, **settings) -> Iterator[Served]:
    with serving(url, acceptor_process=True, **settings) as running:
        yield running


@contextmanager
def forking(folder) -> Iterator[list[Forked]]:
    """Fork each acceptor process in this folder, without the second of its imports; give the list of them."""
    forked: list[Forked] = []

    def fork(command, *, pass_fds, env, **_):
        arguments = ["-m", acceptor.__name__, f"{INHERITED}"]
        assert command == [sys.executable, "-P", *arguments[:-1], f"{pass_fds[0]}"]
        forked.append(Forked(arguments, folder, env, python=True, log=folder / "log", inherited=pass_fds[0]))
        return forked[-1]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(acceptor_starts, "subprocess", SimpleNamespace(**vars(subprocess) | {"Popen": fork}))
        yield forked


@pytest.fixture(scope="module")
def served(lend_database, tmp_path_factory) -> Iterator[Served]:
    """Serve for all tests, some of which end the acceptor process."""
    folder = tmp_path_factory.mktemp("acceptor")
    with forking(folder), lend_database(folder) as url, served_by_a_process(url) as running:
        yield running


@pytest.fixture
def forked(tmp_path) -> Iterator[list[Forked]]:
    """Fork the processes of a server of the test's own."""
    with forking(tmp_path) as processes:
        yield processes


@pytest.fixture
def _not_forked(monkeypatch):
    """Start the process as in production."""
    monkeypatch.setattr(acceptor_starts, "subprocess", subprocess)


@pytest.fixture(autouse=True)
def one_is_ready(request):
    """Wait until the process that an earlier test ended has been replaced."""
    if "served" in request.fixturenames:
        running = request.getfixturevalue("served")
        wait_until(lambda: running.app._accepting._started is not None, "an acceptor process")


def pid_of(served: Served) -> int:
    return int(served.app._accepting._started.process.pid)


def test_a_webhook_is_stored_by_the_process_and_its_retry_is_a_duplicate(served: Served):
    content = body("iimmpact", id="P1", key="k1")
    answers = [served.post("iimmpact", *sent("iimmpact", content)).json() for _ in range(2)]
    assert [answer["status"] for answer in answers] == ["accepted", "duplicate"]
    assert answers[0]["delivery"] == answers[1]["delivery"]


def test_the_serving_process_counts_what_the_other_one_stored(served: Served):
    before = {line: served.metric(line) for line in METRICS}
    content = body("iimmpact", id="P1", key="counted")
    for _ in range(2):
        served.post("iimmpact", *sent("iimmpact", content))
    served.send("sigma", key="moon", event_type="moon.eclipsed")
    served.send("sigma", b"not JSON, but counted")
    assert {line: served.metric(line) - before[line] for line in METRICS} == dict.fromkeys(METRICS, 1.0)


METRICS = (
    'hookmirror_deliveries_total{source="iimmpact",status="accepted"}',
    'hookmirror_deliveries_total{source="iimmpact",status="duplicate"}',
    'hookmirror_ended_on_arrival_total{source="sigma",state="ignored"}',
    'hookmirror_ended_on_arrival_total{source="sigma",state="dead"}',
    'hookmirror_unhandled_total{event_type="moon.eclipsed",source="sigma"}',
)


def test_a_wrong_signature_gets_the_usual_refusal_and_is_kept(served: Served):
    content, headers = sent("sigma", body("sigma"), "another secret")
    answer = served.post("sigma", content, headers)
    assert (answer.status_code, answer.json()["error"]) == (401, "signature_wrong")
    wait_until(lambda: served.count("refused") > 0, "the kept request")


def test_an_encrypted_body_is_read(served: Served):
    assert served.post("sticky", seal(b'{"clientAppKey": "another"}')).status_code in (200, 401)
    assert served.post("sticky", b"x").json()["error"] == "not_decryptable"


def test_a_body_that_cannot_be_read_is_kept_as_dead(served: Served):
    delivery = served.send("sigma", b"\xff not JSON")
    assert served.delivery(delivery)["state"] == "dead"


def test_many_webhooks_at_once_are_each_stored_once(served: Served):
    def send(number: int) -> str:
        return served.send("iimmpact", id=f"P{number}", key=f"many-{number}")

    before = served.count()
    with ThreadPoolExecutor(16) as senders:
        deliveries = list(senders.map(send, range(200)))
    assert len(set(deliveries)) == served.count() - before == 200


def test_large_bodies_at_once_are_each_stored_once(served: Served):
    def send(number: int) -> str:
        small = body("iimmpact", id=f"P{number}", key=f"large-{number}")
        return served.send("iimmpact", small + b" " * 700_000)

    with ThreadPoolExecutor(8) as senders:
        assert len(set(senders.map(send, range(16)))) == 16


def test_after_a_kill_senders_are_asked_to_retry_until_another_process_has_started(served: Served):
    first = pid_of(served)
    ended = served.metric("hookmirror_acceptor_ended_total")
    stored = served.send("iimmpact", id="P1", key="before")
    os.kill(first, signal.SIGKILL)
    seen = []

    def is_stored() -> bool:
        content = body("iimmpact", id="P2", key="after")
        answer = served.post("iimmpact", *sent("iimmpact", content))
        seen.append(answer.status_code)
        return answer.status_code == 200

    wait_until(is_stored, "another process")
    assert set(seen) <= {200, 503}
    assert served.metric("hookmirror_acceptor_ended_total") == ended + 1
    assert pid_of(served) != first
    assert served.delivery(stored)["state"] == "pending"


def test_a_process_that_is_killed_because_its_commit_hangs_does_not_count_as_ended(served: Served):
    accepting, first = served.app._accepting, pid_of(served)
    ended = served.metric("hookmirror_acceptor_ended_total")
    accepting._loop.call_soon_threadsafe(accepting._kill)
    wait_until(lambda: (started := accepting._started) is not None and started.process.pid != first, "another process")
    assert served.metric("hookmirror_acceptor_ended_total") == ended


@pytest.mark.parametrize("is_logged", [True, False])
def test_requests_that_cannot_be_sent_to_the_process_are_refused_and_no_answer_goes_to_another_request(
    served: Served, monkeypatch, is_logged: bool
):
    first = pid_of(served)
    ended = served.metric("hookmirror_acceptor_ended_total")

    def fail(*_: object, **__: object) -> bytes:
        monkeypatch.undo() if is_logged else monkeypatch.setattr(acceptor_process, "_frame_of", frame_of)
        raise MemoryError

    frame_of = acceptor_process._frame_of
    monkeypatch.setattr(acceptor_process, "_frame_of", fail)
    if not is_logged:
        monkeypatch.setattr(acceptor_process._repeated, "exception", fail)
    answer = served.post("iimmpact", *sent("iimmpact", body("iimmpact", id="P1", key="not sent")))
    assert (answer.status_code, answer.json()["error"]) == (503, "unavailable")
    wait_until(lambda: (now := served.app._accepting._started) is not None and now.process.pid != first, "another one")
    assert served.metric("hookmirror_acceptor_ended_total") == ended + 1
    later = served.send("iimmpact", id="P2", key="sent later")
    assert served.delivery(later)["entity"].endswith("P2")


def test_a_process_that_cannot_be_sent_the_last_requests_of_a_stop_is_ended(monkeypatch):
    async def play() -> tuple[subprocess.Popen[bytes], asyncio.Future[object]]:
        ours, theirs = socket.socketpair()
        reading, lifeline = acceptor_starts._pipe()
        with theirs, reading:
            process = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"], stdin=reading)
        accepting = AcceptorProcess(Settings(database_url="sqlite://"))
        accepting._loop = asyncio.get_running_loop()
        accepting._use(acceptor_starts.Started(process, ours, lifeline))
        monkeypatch.setattr(acceptor_process, "_frame_of", lambda _: 1 / 0)
        answer = accepting._loop.create_future()
        accepting._gathering.add([(SimpleNamespace(body=b"{}"), answer)])
        accepting.stop()
        return process, answer

    process, answer = asyncio.run(play())
    assert (process.returncode, type(answer.exception())) == (-signal.SIGKILL, Unavailable)


def test_no_acked_webhook_is_lost_when_the_process_is_killed_under_load(served: Served):
    acked: list[str] = []
    before = served.count()

    def send(number: int) -> None:
        content = body("iimmpact", id=f"P{number}", key=f"load-{number}")

        def is_acked() -> bool:
            answer = served.post("iimmpact", *sent("iimmpact", content))
            assert answer.status_code in (200, 503), answer.text
            if answer.status_code == 200:
                acked.append(answer.json()["delivery"])
            return answer.status_code == 200

        if number == 60:
            os.kill(pid_of(served), signal.SIGKILL)
        wait_until(is_acked, f"the ack of {number}")

    with ThreadPoolExecutor(8) as senders:
        list(senders.map(send, range(150)))
    assert len(set(acked)) == served.count() - before == 150


def test_while_the_process_hangs_new_webhooks_are_refused_at_once_and_readiness_tells(served: Served, monkeypatch):
    monkeypatch.setattr("receiver.ingest.gathering.STALLED", 0.2)
    monkeypatch.setattr("receiver.ingest.gathering.STALLED_AGAIN", 0.2)
    monkeypatch.setattr("receiver.ingest.gathering.TIMEOUT_POLL", 0.05)
    pid = pid_of(served)
    os.kill(pid, signal.SIGSTOP)
    try:
        with ThreadPoolExecutor(1) as senders:
            first = senders.submit(served.send, "iimmpact", key="waits")
            wait_until(lambda: served.get("/readyz").status_code == 503, "readiness")
            content = body("iimmpact", key="refused")
            answer = served.post("iimmpact", *sent("iimmpact", content))
            assert (answer.status_code, answer.json()["error"]) == (503, "unavailable")
            os.kill(pid, signal.SIGCONT)
            assert first.result(TIMEOUT)
    finally:
        os.kill(pid, signal.SIGCONT)
    wait_until(lambda: served.get("/readyz").status_code == 200, "readiness")


DEADLY = """
import os

from receiver import Dialect, Envelope, HmacSha256

deadly = Dialect("deadly", verify=HmacSha256(header="X-Signature"))


@deadly.envelope
def envelope(body):
    if body["id"] == "deadly":
        os._exit(9)
    return Envelope(event_type="lamp.changed", dedup_key=body["id"])
"""


@pytest.mark.usefixtures("forked")
def test_code_of_a_dialect_that_ends_its_process_does_not_end_the_server(tmp_path, monkeypatch):
    (tmp_path / "deadly.py").write_text(DEADLY)
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path}{os.pathsep}{os.environ.get('PYTHONPATH', '')}")
    monkeypatch.syspath_prepend(str(tmp_path))
    source = {"dialect": "deadly", "secrets": ["the secret of a deadly source"]}
    url = f"sqlite:///{tmp_path / 'hookmirror.db'}"
    with served_by_a_process(url, dialects=["deadly:deadly"], sources={**SOURCES, "deadly": source}) as served:
        first = pid_of(served)
        answer = served.post("deadly", *_signed(b'{"id": "deadly"}'))
        assert (answer.status_code, answer.json()["error"]) == (503, "unavailable")
        wait_until(lambda: served.app._accepting._started is not None, "another process")
        assert pid_of(served) != first
        assert served.post("deadly", *_signed(b'{"id": "harmless"}')).status_code == 200


LEAVES_A_PROCESS = """
import ctypes, os, sys, time
from pathlib import Path

from receiver import Dialect, Unsigned

leaving = Dialect("leaving", verify=Unsigned())
leaving.envelope(lambda body: None)

if sys.argv[0].endswith("acceptor.py") and FORK() == 0:
    Path(__file__).with_name("forked").touch()
    # The folder of a test that passed is removed, perhaps before this process has seen the other file.
    while Path(__file__).exists() and not Path(__file__).with_name("ends").exists():
        time.sleep(0.05)
    os._exit(0)
"""

#: As native code forks, of which Python does not know.
NATIVELY = "ctypes.CDLL(None).fork"


@contextmanager
def served_by_one_that_forks(tmp_path, monkeypatch, fork: str) -> Iterator[Served]:
    (tmp_path / "leaves_a_process.py").write_text(LEAVES_A_PROCESS.replace("FORK", fork))
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path}{os.pathsep}{os.environ.get('PYTHONPATH', '')}")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "leaves_a_process", raising=False)
    try:
        with served_by_a_process(
            f"sqlite:///{tmp_path / 'hookmirror.db'}", dialects=["leaves_a_process:leaving"]
        ) as served:
            wait_until((tmp_path / "forked").exists, "the forked process")
            yield served
    finally:
        (tmp_path / "ends").touch()


def kill_and_wait_for_an_ack(served: Served) -> None:
    first = pid_of(served)
    os.kill(first, signal.SIGKILL)
    content = sent("iimmpact", body("iimmpact", key="after"))
    wait_until(lambda: served.post("iimmpact", *content).status_code == 200, "an ack")
    assert pid_of(served) != first


@pytest.mark.long
@pytest.mark.usefixtures("_not_forked")
def test_a_killed_process_is_replaced_although_one_that_its_dialect_forked_holds_the_socket(tmp_path, monkeypatch):
    monkeypatch.setattr("receiver.ingest.gathering.HANGING", 3.0)
    monkeypatch.setattr("receiver.ingest.gathering.TIMEOUT_POLL", 0.05)
    with served_by_one_that_forks(tmp_path, monkeypatch, NATIVELY) as served:
        kill_and_wait_for_an_ack(served)


@pytest.mark.usefixtures("forked")
def test_a_process_that_a_dialect_forked_in_python_does_not_hold_the_socket(tmp_path, monkeypatch):
    with served_by_one_that_forks(tmp_path, monkeypatch, "os.fork") as served, capture_logs() as logs:
        kill_and_wait_for_an_ack(served)
    assert "a commit hangs" not in [each["event"] for each in logs]


@pytest.mark.usefixtures("forked")
def test_the_end_of_a_process_does_not_wait_for_one_that_its_dialect_forked(tmp_path, monkeypatch):
    with capture_logs() as logs, served_by_one_that_forks(tmp_path, monkeypatch, NATIVELY) as served:
        assert served.post("iimmpact", *sent("iimmpact", body("iimmpact"))).status_code == 200
        # The forked process lives on until the test has ended.
    assert "the process at the other end does not finish" not in [each["event"] for each in logs]


SLOPPY = """
import json

from receiver import Dialect, HmacSha256, NotVerified, SenderReply

class Verifier(HmacSha256):
    def verify(self, request, credentials):
        key = request.header("X-Key").decode("utf-8", "surrogateescape")
        refusal = NotVerified("signature_wrong", f"no such key: {key}")
        refusal.tried = (object(), 2**70)
        raise refusal

sloppy = Dialect("sloppy", verify=Verifier(header="X-Signature"))
sloppy.envelope(lambda body: None)

def answer(asked):
    return SenderReply(200, json.loads(asked.body)["challenge"]) if asked.body else None

sloppy.challenge(answer, before_verifying=True)
"""


@pytest.mark.usefixtures("forked")
@pytest.mark.parametrize("own_process", [True, False], ids=["in a process of its own", "in the server"])
def test_texts_of_a_dialect_that_cannot_be_encoded_are_answered_with_replacements(tmp_path, monkeypatch, own_process):
    (tmp_path / "sloppy.py").write_text(SLOPPY)
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path}{os.pathsep}{os.environ.get('PYTHONPATH', '')}")
    monkeypatch.syspath_prepend(str(tmp_path))
    sources = {**SOURCES, "sloppy": {"dialect": "sloppy", "secrets": ["a secret"]}}
    url = f"sqlite:///{tmp_path / 'hookmirror.db'}"
    with serving(url, acceptor_process=own_process, dialects=["sloppy:sloppy"], sources=sources) as served:
        first = pid_of(served) if own_process else 0
        challenged = served.post("sloppy", b'{"challenge": "a\\ud800b"}')
        assert (challenged.status_code, challenged.content.decode()) == (200, "a\ufffdb")
        refused = served.post("sloppy", b"", [(b"X-Key", b"a\xffb")])
        assert (refused.status_code, refused.json()["message"]) == (401, "no such key: a\ufffdb")
        served.send("iimmpact", key="after")
        assert not own_process or pid_of(served) == first


def _signed(content: bytes) -> tuple[bytes, dict[str, str]]:
    signature = hmac.new(b"the secret of a deadly source", content, hashlib.sha256).hexdigest()
    return content, {"X-Signature": f"sha256={signature}"}


@pytest.mark.usefixtures("_not_forked")
def test_a_process_that_cannot_start_is_an_error_of_the_start(tmp_path, monkeypatch, capfd):
    monkeypatch.setattr(acceptor_starts.acceptor, "__name__", "receiver.no_such_module")

    async def start() -> None:
        AcceptorProcess(Settings(database_url=f"sqlite:///{tmp_path / 'hookmirror.db'}")).start()

    with pytest.raises(ConfigurationError, match="ended at its start with the code 1: see the log before"):
        asyncio.run(start())
    assert "No module named receiver.no_such_module" in capfd.readouterr().err


@pytest.mark.usefixtures("_not_forked")
def test_the_process_ends_with_the_server(tmp_path):
    with served_by_a_process(f"sqlite:///{tmp_path / 'hookmirror.db'}") as served:
        process = served.app._accepting._started.process
    assert process.poll() == 0


@pytest.fixture
def processes(monkeypatch) -> list[subprocess.Popen[bytes]]:
    """Start the processes as in production, and list them."""
    started: list[subprocess.Popen[bytes]] = []

    def start(*args, **named):
        started.append(subprocess.Popen(*args, **named))
        return started[-1]

    monkeypatch.setattr(acceptor_starts, "subprocess", SimpleNamespace(**vars(subprocess) | {"Popen": start}))
    return started


def test_a_process_that_is_just_being_started_ends_with_the_server(tmp_path, processes):
    with served_by_a_process(f"sqlite:///{tmp_path / 'hookmirror.db'}"):
        processes[0].kill()
        wait_until(lambda: len(processes) == 2, "another process")
    assert [each.poll() for each in processes] == [-signal.SIGKILL, 0]


def test_the_process_of_a_refused_reload_ends_at_once(tmp_path, forked, monkeypatch):
    def refuse(*_: object) -> None:
        raise ConfigurationError("The console does not take them.")

    with served_by_a_process(f"sqlite:///{tmp_path / 'hookmirror.db'}") as served:
        runtime = served.app._runtime
        monkeypatch.setattr(served.app, "_api", refuse)
        with pytest.raises(ConfigurationError, match="The console does not take them"):
            served.app._adopt(Renewal(runtime.settings, runtime.sources, ("batch_size",), ()))
        assert [each.poll() for each in forked] == [None, 0]
        served.send("iimmpact", key="by-the-first")
    assert [each.poll() for each in forked] == [0, 0]


def test_a_process_that_is_prepared_for_a_reload_ends_with_the_server(tmp_path, forked):
    with ExitStack() as stack:
        with served_by_a_process(f"sqlite:///{tmp_path / 'hookmirror.db'}") as served:
            accepting = served.app._accepting
            stack.enter_context(accepting.prepared(accepting._settings))
        assert [each.poll() for each in forked] == [0, 0]


def test_the_process_ends_when_the_one_that_started_it_is_gone():
    ours, theirs = socket.socketpair()
    with ours, theirs:
        command = [sys.executable, "-P", "-m", acceptor.__name__, str(theirs.fileno())]
        process = subprocess.Popen(command, pass_fds=[theirs.fileno()])
        theirs.close()
    assert process.wait(TIMEOUT) == 0
