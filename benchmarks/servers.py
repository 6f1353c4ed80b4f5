"""The servers that are compared: small ones on the same uvicorn, and Hookmirror itself.

bare      reads the body and answers: the limit of the server and of the load generator
deferred  Starlette: verifies, and defers to an in-memory background task, which loses events in a crash
orm       Starlette: verifies, with one SQLModel session and one commit per request, in the event loop or in a thread
"""

from __future__ import annotations

import base64
import hmac
import json
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.padding import PKCS7

from benchmarks.senders import KEY_PHRASE, SECRET, SENDERS, STICKY, Sender, settings_text
from benchmarks.server_process import server_process
from simulator.receiver_process import free_port

#: The key that signs the readers' tokens.
SECRET_KEY = "benchmark-secret-key"


async def bare(scope: Any, receive: Any, send: Any) -> None:
    if scope["type"] == "lifespan":
        while (message := await receive())["type"] != "lifespan.shutdown":
            await send({"type": message["type"] + ".complete"})
        await send({"type": "lifespan.shutdown.complete"})
        return
    more = True
    while more:
        message = await receive()
        more = message.get("more_body", False)
    headers = [(b"content-type", b"application/json"), (b"content-length", b"2")]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": b"{}"})


def deferred() -> Any:
    from starlette.applications import Starlette
    from starlette.background import BackgroundTask
    from starlette.requests import Request
    from starlette.responses import JSONResponse
    from starlette.routing import Route

    queue: list[bytes] = []

    async def keep(body: bytes) -> None:
        queue.append(body)

    async def endpoint(request: Request) -> JSONResponse:
        body = await request.body()
        if not _is_authentic(SENDERS[request.path_params["source"]], body, request.headers):
            return JSONResponse({"error": "signature_wrong"}, 401)
        return JSONResponse({"status": "accepted"}, background=BackgroundTask(keep, body))

    return Starlette(routes=[Route("/hooks/{source}", endpoint, methods=["POST"])])


def orm() -> Any:
    return _orm(in_threads=False)


def orm_in_threads() -> Any:
    return _orm(in_threads=True)


def _orm(*, in_threads: bool) -> Any:
    from sqlalchemy import event
    from sqlmodel import Field, Session, SQLModel, create_engine
    from starlette.applications import Starlette
    from starlette.concurrency import run_in_threadpool
    from starlette.requests import Request
    from starlette.responses import JSONResponse
    from starlette.routing import Route

    class Stored(SQLModel, table=True):
        id: int | None = Field(default=None, primary_key=True)
        key: str = Field(unique=True)
        body: bytes

    engine = create_engine(os.environ["BENCHMARK_DATABASE"])

    @event.listens_for(engine, "connect")
    def durable(connection: Any, _: Any) -> None:
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("PRAGMA synchronous=FULL")

    SQLModel.metadata.create_all(engine)

    def store(key: str, body: bytes) -> None:
        with Session(engine) as session:
            session.add(Stored(key=key, body=body))
            session.commit()

    async def endpoint(request: Request) -> JSONResponse:
        body = await request.body()
        if not _is_authentic(SENDERS[request.path_params["source"]], body, request.headers):
            return JSONResponse({"error": "signature_wrong"}, 401)
        key = hmac.digest(b"", body, "sha256").hex()
        if in_threads:
            await run_in_threadpool(store, key, body)
        else:
            store(key, body)
        return JSONResponse({"status": "accepted"})

    return Starlette(routes=[Route("/hooks/{source}", endpoint, methods=["POST"])])


@contextmanager
def running(
    name: str,
    folder: Path,
    *arguments: str,
    database_url: str | None = None,
    tree: Path | None = None,
    config: Path | None = None,
    command: str = "serve",
    stop: str | None = None,
    acceptor_process: bool = False,
) -> Iterator[tuple[str, int]]:
    """Run one of the servers in a process of its own on an empty database; give its base URL and its process id.

    The database is a SQLite file in `folder`. Hookmirror uses the database at `database_url` instead, if given, which
    must have its tables. `tree` names another state of the code to run, `config` a settings file, and `command` the
    command of Hookmirror. With `stop` it is the server of `benchmarks.steps` that stops there, and with
    `acceptor_process` Hookmirror has one.
    """
    port = free_port()
    environment = dict(os.environ)
    if name == "hookmirror":
        environment |= settings(folder, database_url)
        environment |= {"HOOKMIRROR_ACCEPTOR_PROCESS": str(acceptor_process).lower()}
        if config is not None:
            # The settings file may name dialects of the benchmarks, so Python must find them.
            environment |= {"HOOKMIRROR_CONFIG": str(config), "PYTHONPATH": str(Path(__file__).parents[1])}
        program = ["-m", "receiver", command, "--port", str(port), *arguments]
        if stop is not None:
            program = ["-m", "benchmarks.steps", stop, str(port)]
    else:
        environment |= {"BENCHMARK_DATABASE": f"sqlite:///{folder / 'orm.db'}"}
        factory = [] if name == "bare" else ["--factory"]
        application = f"benchmarks.servers:{name}"
        program = [
            "-m",
            "uvicorn",
            application,
            *factory,
            "--port",
            str(port),
            "--no-access-log",
            "--log-level",
            "error",
        ]
    path = folder / f"{name}-{port}.log"
    with server_process([sys.executable, *program], environment, path, port, cwd=tree) as process:
        yield f"http://127.0.0.1:{port}", process.pid


def settings(folder: Path, database_url: str | None = None) -> dict[str, str]:
    """Return the environment of a Hookmirror with a source of each sender, which keeps its files in `folder`.

    With `database_url`, the database is there instead.
    """
    path = folder / "hookmirror.toml"
    path.write_text(settings_text())
    return {
        "HOOKMIRROR_CONFIG": str(path),
        "HOOKMIRROR_DATABASE_URL": database_url or f"sqlite:///{folder / 'hookmirror.db'}",
        "HOOKMIRROR_SECRET_KEY": SECRET_KEY,
        "HOOKMIRROR_LOG_LEVEL": "warning",
    }


def _is_authentic(sender: Sender, body: bytes, headers: Any) -> bool:
    """Whether the signature is right, or the body can be decrypted: the check of a short program."""
    if sender is STICKY:
        return bool(_decrypted(body).get("clientAppKey") == sender.settings["app_key"])
    expected = "sha256=" + hmac.digest(SECRET.encode(), body, "sha256").hex()
    return hmac.compare_digest(expected, headers.get(sender.header, ""))


def _decrypted(body: bytes) -> Any:
    sealed = base64.b64decode(body)
    decryptor = Cipher(algorithms.AES256(KEY_PHRASE.encode()), modes.CBC(sealed[:16])).decryptor()
    unpadder = PKCS7(128).unpadder()
    return json.loads(unpadder.update(decryptor.update(sealed[16:]) + decryptor.finalize()) + unpadder.finalize())
