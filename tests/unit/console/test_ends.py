"""Limits of sessions, roles and settings: streams, downloads, bodies, and the names in a proxy's headers."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx
import pytest
from live_events import listening, read_to_its_end
from pydantic import SecretStr
from senders import sent
from serving import Served
from sqlalchemy.exc import OperationalError
from starlette.requests import Request
from structlog.testing import capture_logs
from visiting import Visitor, cookie_name, hidden_fields, text_of, visiting
from waiting import wait_until

from receiver.api.reads import Reads
from receiver.api.tokens import Scope
from receiver.console import downloads, live
from receiver.console.guests import COOKIE, Guests
from receiver.database.database import Database
from receiver.errors import NotFound, Unavailable
from receiver.sessions.roles import Guest, Role
from receiver.sessions.sessions import Sessions
from receiver.settings.console import ConsoleSettings


def end_newest_session(served: Served) -> None:
    newest = served.get("/api/v1/sessions").json()["items"][0]["id"]
    assert served.get(f"/api/v1/sessions/{newest}/end", scope=Scope.OPERATE, method="POST").status_code == 200


def test_a_stream_ends_soon_after_the_session_of_its_reader(
    shown: Served, leaving: Visitor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(live, "SIGN_OF_LIFE", 0.2)
    with listening(leaving) as (_, lines):
        assert next(lines) == "retry: 5000"
        assert next(line for line in lines if line == ": still here")
        end_newest_session(shown)
        read_to_its_end(lines)
    assert leaving.get("/live").status_code == 401


def test_an_event_just_before_the_check_of_the_session_does_not_put_it_off(
    shown: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    now, asked_at = [0.0], list[float]()
    events: asyncio.Queue[live.StreamEvent] = asyncio.Queue()

    class Waiting:
        """Stands for the module of which a stream takes the timeouts of its waits, which end at once here."""

        def timeout(self, seconds: float) -> asyncio.Timeout:
            now[0] += seconds if events.empty() else 0.0
            return asyncio.timeout(0)

        def __getattr__(self, name: str) -> Any:
            return getattr(asyncio, name)

    async def has_left() -> bool:
        asked_at.append(now[0] - live.LONGEST_SILENCE)
        return False

    async def tell() -> list[bytes]:
        streams = live.Live(shown.beside, Reads(at_once=1, seconds=1.0), most=1)
        told = streams._told(events, has_left)
        said = [await anext(told)]
        now[0] = live.SIGN_OF_LIFE - 1
        events.put_nowait(b"event: changed")
        said.append(await anext(told))
        return [*said, *[each async for each in told]]

    monkeypatch.setattr(live, "time", SimpleNamespace(monotonic=lambda: now[0]))
    monkeypatch.setattr(live, "asyncio", Waiting())
    said = asyncio.run(tell())
    assert said[:2] == [b"retry: 5000\n\n", b"event: changed"]
    assert (live.NO_SESSION.encode() in said[-1], asked_at) == (True, [live.SIGN_OF_LIFE])


def test_an_open_stream_alone_does_not_keep_a_session(
    shown: Served, leaving: Visitor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(live, "SIGN_OF_LIFE", 0.2)
    newest = shown.get("/api/v1/sessions").json()["items"][0]["id"]
    with listening(leaving) as (_, lines):
        assert next(lines) == "retry: 5000"
        with shown.beside.write() as connection:
            connection.exec_driver_sql(
                f"UPDATE sessions SET seen_at = '2026-01-01 00:00:00.000000' WHERE id = '{newest}'"
            )
        read_to_its_end(lines)
    assert shown.count("sessions", f"id = '{newest}' AND seen_at < '2026-01-02'") == 1


def test_a_stream_that_was_never_read_frees_its_place(shown: Served) -> None:
    async def is_there() -> bool:
        return True

    async def gone() -> dict[str, str]:
        return {"type": "http.disconnect"}

    async def send(_: object) -> None:
        await asyncio.sleep(60)

    async def open_and_leave() -> int:
        streams = live.Live(shown.beside, Reads(at_once=1, seconds=1.0), most=1)
        for _ in range(2):
            answer = streams.stream("eve", is_there=is_there)
            await answer({"type": "http", "asgi": {"spec_version": "2.3"}}, gone, send)
        return len(streams._streams)

    assert asyncio.run(open_and_leave()) == 0


@pytest.fixture
def pages_of_one_item(shown: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(downloads, "LARGEST_PAGE", 1)
    for number in range(3):
        shown.send("indexed", key=f"end{number}")


def at_the_second_page(monkeypatch: pytest.MonkeyPatch, happens: Callable[[], None]) -> None:
    """Have this happen when a download reads its second page for the first time."""
    parts_read: list[object] = []
    read = downloads.part_of

    def read_and_happen(*arguments: object, **more: object) -> downloads.DownloadPart:
        parts_read.append(arguments)
        if len(parts_read) == 2:
            happens()
        return read(*arguments, **more)  # type: ignore[arg-type]

    monkeypatch.setattr(downloads, "part_of", read_and_happen)


@pytest.mark.usefixtures("pages_of_one_item")
def test_a_download_breaks_off_when_the_session_of_its_reader_ends(
    shown: Served, leaving: Visitor, monkeypatch: pytest.MonkeyPatch
) -> None:
    at_the_second_page(monkeypatch, lambda: end_newest_session(shown))
    with capture_logs() as logs, pytest.raises(httpx.TransportError):
        leaving.get("/deliveries.jsonl", source="indexed")
    cut = [line for line in logs if line["event"] == "a download was cut off"]
    assert [(line["file"], line["why"]) for line in cut] == [("deliveries.jsonl", "The session has ended.")]


@pytest.mark.usefixtures("pages_of_one_item")
def test_a_download_that_is_cut_off_leaves_no_traceback(
    shown: Served, operator: Visitor, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    at_the_second_page(monkeypatch, lambda: refuse(NotFound("There is no such source.")))
    with pytest.raises(httpx.TransportError):
        operator.get("/deliveries.jsonl", source="indexed")
    wait_until(lambda: not shown.at_work(), "the end of the answer")
    assert [record for record in caplog.records if record.name.startswith("uvicorn")] == []


@pytest.mark.usefixtures("pages_of_one_item")
@pytest.mark.parametrize(
    "error", [Unavailable("Too many.", retry_after=0), OperationalError("", {}, Exception())], ids=["busy", "away"]
)
def test_a_download_asks_again_for_a_page_that_could_not_be_read(
    operator: Visitor, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    monkeypatch.setattr(downloads, "_unread", lambda _: Unavailable("The database does not answer.", retry_after=0))
    at_the_second_page(monkeypatch, lambda: refuse(error))
    ids = [json.loads(line)["id"] for line in operator.page("/deliveries.jsonl", source="indexed").splitlines()]
    assert len(set(ids)) == len(ids) >= 3


def refuse(error: Exception) -> None:
    raise error


def test_a_download_that_cannot_be_read_for_too_long_is_cut_off_with_the_reason() -> None:
    async def busy(_: Mapping[str, str]) -> downloads.DownloadPart:
        raise Unavailable("Too many reads.", retry_after=5)

    with pytest.raises(downloads.CutOff, match="Too many reads"):
        asyncio.run(downloads.patient(busy, longest=1.0)({}))


def test_bodies_hidden_from_viewers_are_missing_in_all_their_downloads(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/c.db"
    with visiting(url, role=Role.VIEWER, console_hide_bodies=True) as (served, visitor):
        signed_otherwise = sent("iimmpact", b'{"secret": "state"}', "a secret of before")
        assert served.post("iimmpact", *signed_otherwise).status_code == 401
        served.app._keeper.flush()
        for path in ("/refused.csv", "/refused.jsonl"):
            assert "state" not in visitor.page(path)
            assert "received_at" in visitor.page(path)
        visitor.sign_in(Role.OPERATOR)
        assert "state" in visitor.page("/refused.jsonl")


@pytest.mark.parametrize("path", ["/runs/plan", "/sources/sigma/reconcile"])
def test_a_form_cannot_plan_a_reconcile_beyond_the_brake(shown: Served, operator: Visitor, path: str) -> None:
    for answer in (
        operator.get(path, kind="reconcile", source="sigma", force="true"),
        operator.post(path, **hidden_fields(operator.page(path)), source="sigma", force="true"),
    ):
        assert answer.status_code == 400
        assert "The console does not take force : give it to hookmirror runs plan" in text_of(answer.text)
    assert shown.count("runs", "kind = 'reconcile'") == 0


def test_a_forged_cookie_gives_no_key_with_which_to_wait_for_turns(shown: Served, operator: Visitor) -> None:
    guests = shown.app._rest.console._guests  # type: ignore[union-attr]

    def key_of(cookie: str) -> str:
        return str(guests.key_of(Request({"type": "http", "headers": [(b"cookie", f"{COOKIE}={cookie}".encode())]})))

    assert {key_of(cookie) for cookie in ("", "a.b", "c.d", "x" * 80)} == {""}
    assert len(key_of(operator.client.cookies[cookie_name(operator)])) == 64


# ── proxies ───────────────────────────────────────────────────────────────────────────────────────────────────────

SECRET = "a secret of the proxy"


def told_by_proxy(peer: str, *more: tuple[bytes, bytes], user: bytes = b"mia") -> Guest | None:
    """Return the guest of a request from this peer, with a proxy's headers after some other headers."""
    settings = ConsoleSettings(console_trusted_proxies=["10.0.0.5"], console_proxy_secret=SecretStr(SECRET))
    sessions = Sessions(
        Database("sqlite:///not-asked.db"), ["k" * 16], lifetime=timedelta(hours=1), idle=timedelta(hours=1)
    )
    headers = [*more, (b"x-hookmirror-proxy-secret", SECRET.encode()), (b"x-forwarded-user", user)]
    request = Request({"type": "http", "client": (peer, 1), "headers": headers})
    return Guests(sessions, settings).guest(request, now=datetime.now(UTC))


def test_a_name_that_a_browser_sends_beside_the_proxy_s_is_refused() -> None:
    assert told_by_proxy("10.0.0.5", (b"x-forwarded-user", b"root")) is None


@pytest.mark.parametrize(
    "name", ["Zoë", "Małgorzata", "à", "李雷", "mia@example.com", "x" * 254], ids=lambda name: ascii(name)[:20]
)
def test_a_proxy_s_name_in_utf_8_is_read_whole(name: str) -> None:
    guest = told_by_proxy("10.0.0.5", user=name.encode())
    assert guest is not None
    assert guest.name == name


def test_a_proxy_s_name_in_latin_1_is_read_as_such() -> None:
    guest = told_by_proxy("10.0.0.5", user="Zoë".encode("latin-1"))
    assert guest is not None
    assert guest.name == "Zoë"


@pytest.mark.parametrize(
    ("user", "more", "why"),
    [
        (b"x" * 255, (), "longer than 254 characters"),
        ("a\u202eb".encode(), (), "cannot be printed"),
        (b"mia", ((b"x-forwarded-user", b"root"),), "twice"),
    ],
)
def test_an_unusable_name_of_a_proxy_is_refused_and_told_in_the_log(
    user: bytes, more: tuple[tuple[bytes, bytes], ...], why: str
) -> None:
    with capture_logs() as logs:
        assert [told_by_proxy("10.0.0.5", *more, user=user) for _ in range(50)] == [None] * 50
    assert 0 < len(logs) < 50
    assert why in logs[0]["why"]


def test_a_role_that_a_browser_sends_beside_the_proxy_s_does_not_make_an_operator() -> None:
    twice = ((b"x-forwarded-role", b"operator"), (b"x-forwarded-role", b"viewer"))
    guest = told_by_proxy("10.0.0.5", *twice)
    assert guest is not None
    assert guest.role is Role.VIEWER


@pytest.mark.parametrize(("peer", "name"), [("::ffff:10.0.0.5", "mia"), ("::ffff:10.0.0.6", None), ("::1", None)])
def test_a_proxy_is_recognised_by_its_ipv4_address_on_a_dual_stack_socket(peer: str, name: str | None) -> None:
    guest = told_by_proxy(peer)
    assert (guest and guest.name) == name
