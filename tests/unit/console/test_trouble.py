"""Pages while the database is away, and below a path of a proxy."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
from api_alone import api_of
from itsdangerous import Signer
from serving import SECRET_KEY, serving
from structlog.testing import capture_logs
from visiting import new_link, text_of

from receiver.api.reads import Reads
from receiver.console.forms import FORM_MEDIA_TYPE
from receiver.console.live import NO_ANSWER, NO_TURN
from receiver.console.site import Console, ConsoleParts
from receiver.database.database import Database
from receiver.errors import Unavailable
from receiver.ingest.incoming import Incoming
from receiver.sessions.links import Links
from receiver.sessions.sessions import COOKIE_SALT, Sessions
from receiver.settings.settings import Settings


@pytest.fixture
def away() -> Iterator[Console]:
    """Serve a console whose database refuses connections."""
    database = Database("postgresql://127.0.0.1:1/none")
    sessions = Sessions(database, [SECRET_KEY], lifetime=timedelta(hours=1), idle=timedelta(hours=1))
    reads = Reads(at_once=1, seconds=1)
    settings = Settings(secret_key=SECRET_KEY)
    operations = {each.name: each for each in api_of(database).operations}
    yield Console(
        ConsoleParts(
            operations=operations,
            sources=[],
            reads=reads,
            sessions=sessions,
            links=Links([SECRET_KEY]),
            incoming=Incoming(settings),
            settings=settings,
        )
    )
    reads.close()
    database.close()


def ask(console: Console, method: str, path: str, **parts: object) -> httpx.Response:
    async def asked() -> httpx.Response:
        transport = httpx.ASGITransport(app=console)
        async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
            return await client.request(method, f"/console{path}", **parts)

    return asyncio.run(asked())


def ask_for_a_page(console: Console, method: str = "GET", path: str = "/deliveries", **parts: object) -> httpx.Response:
    signed = Signer([SECRET_KEY], salt=COOKIE_SALT, digest_method=hashlib.sha256).sign(b"anybody").decode()
    headers = {"Cookie": f"hookmirror-console={signed}", "Sec-Fetch-Site": "same-origin"}
    return ask(console, method, path, headers=headers, **parts)


def test_while_the_database_is_away_a_page_says_so_and_reloads_by_itself(away: Console) -> None:
    answer = ask_for_a_page(away)
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "5")
    assert "The database does not answer." in text_of(answer.text)
    assert '<meta http-equiv="refresh" content="10">' in answer.text


@pytest.mark.parametrize(
    ("method", "path", "advice"),
    [
        ("POST", "/deliveries/1/replay", "The button may have taken effect or not: load this page again"),
        ("GET", "/deliveries.csv", "Load this page again to get the file."),
        ("GET", "/deliveries/1/body", "Load this page again to get the file."),
    ],
)
def test_a_pressed_button_or_a_file_is_not_asked_for_by_itself_while_the_database_is_away(
    away: Console, method: str, path: str, advice: str
) -> None:
    """A reload would show an empty form instead, and a file would leave the notice where it is."""
    answer = ask_for_a_page(away, method, path, **({"data": {"reason": "x"}} if method == "POST" else {}))
    assert answer.status_code == 503
    assert ("refresh" in answer.text, "tries again" in answer.text) == (False, False)
    assert advice in text_of(answer.text)


def test_an_open_page_that_fetches_itself_is_told_why_it_cannot_be_read(
    away: Console, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert ask_for_a_page(away).headers["X-Hookmirror-Reason"] == NO_ANSWER

    async def refuse(*_: object, **__: object) -> None:
        raise Unavailable("Too many reads.")

    monkeypatch.setattr(Reads, "run", refuse)
    assert ask_for_a_page(away).headers["X-Hookmirror-Reason"] == NO_TURN


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/"),
        ("GET", "/deliveries.csv"),
        ("GET", "/deliveries/1"),
        ("GET", "/live"),
        ("GET", "/deliveries/1/replay"),
        ("POST", "/deliveries/1/replay"),
    ],
)
@pytest.mark.parametrize("cookie", ["", "hookmirror-console=forged.signature"])
def test_a_stranger_is_refused_without_a_turn_at_the_database(
    away: Console, monkeypatch: pytest.MonkeyPatch, method: str, path: str, cookie: str
) -> None:
    monkeypatch.delattr(Reads, "run")
    form = {"data": {"reason": "x"}} if method == "POST" else {}
    answer = ask(away, method, path, headers={"Sec-Fetch-Site": "same-origin", "Cookie": cookie}, **form)
    assert (answer.status_code, "console-link" in answer.text) == (401, True)


def test_a_stranger_who_signs_out_takes_no_turn_at_the_database(away: Console, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(Reads, "run")
    answer = ask(away, "POST", "/sign-out", data={"form_token": "x"}, headers={"Sec-Fetch-Site": "same-origin"})
    assert (answer.status_code, answer.headers["location"]) == (303, "/console/sign-in")


def test_a_form_whose_sender_goes_away_leaves_no_line_in_the_log(away: Console) -> None:
    head = {b"host": b"localhost", b"sec-fetch-site": b"same-origin", b"content-type": FORM_MEDIA_TYPE.encode()}
    scope = {"type": "http", "method": "POST", "path": "/console/sign-in", "query_string": b"", "root_path": ""}
    received = iter([{"type": "http.request", "body": b"li", "more_body": True}, {"type": "http.disconnect"}])

    async def post() -> None:
        async def receive() -> Any:
            return next(received)

        async def send(_: Any) -> None:
            pass

        await away({**scope, "headers": list(head.items())}, receive, send)

    with capture_logs() as logs:
        asyncio.run(post())
    assert logs == []


def test_pages_that_fail_again_and_again_are_summed_up_in_the_log(
    away: Console, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def fail(*_: object, **__: object) -> None:
        raise RuntimeError("a mistake of ours")

    monkeypatch.setattr(Reads, "run", fail)
    with capture_logs() as logs:
        assert [ask_for_a_page(away).status_code for _ in range(50)] == [500] * 50
    assert 0 < len(logs) < 50
    # On a busy machine, the sum of the first second comes before the last page.
    whole = [line for line in logs if line["event"] != "a page failed: more of the same"]
    assert all(line["event"] == "a page failed" and "a mistake of ours" in line["exception"] for line in whole)


def test_a_link_used_while_the_database_is_away_stays_valid(away: Console) -> None:
    headers = {"Sec-Fetch-Site": "same-origin"}
    assert ask(away, "POST", "/sign-in", data={"link": new_link()}, headers=headers).status_code == 503


def test_behind_a_proxy_with_a_path_all_addresses_begin_with_that_path(tmp_path: Path) -> None:
    with serving(f"sqlite:///{tmp_path}/c.db", console=True, root_path="/pim") as served:
        page = served.client.get("/console/sign-in", params={"link": new_link()})
        assert page.status_code == 200
        assert 'action="/pim/console/sign-in"' in page.text
        assert 'href="/pim/console/static/console.' in page.text
        form = {"link": new_link()}
        answer = served.client.post("/console/sign-in", data=form, headers={"Sec-Fetch-Site": "same-origin"})
        assert answer.headers["location"] == "/pim/console/"
