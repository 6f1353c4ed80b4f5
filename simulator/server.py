"""The four systems as HTTP services on one port, each below the name of its source."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Generator, Iterable

import uvicorn
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Mount, Route, Router

from receiver.http_urls import host_in_url
from simulator.answers import json_answer
from simulator.systems.apis import refusal, routes
from simulator.systems.base import System


def application(systems: Iterable[System]) -> Starlette:
    """Make one application that serves each system at `/{source}{api_path}/…`."""
    served = list(systems)

    async def index(request: Request) -> Response:
        return json_answer({system.source: api_url(str(request.base_url), system) for system in served})

    async def refused(request: Request, error: Exception) -> Response:
        """Answer a request that matches no route, with the error body of the system in its path."""
        assert isinstance(error, HTTPException)
        name = request.url.path.split("/")[1]
        found = next((system for system in served if system.source == name), None)
        if found is None:
            return json_answer({"error": error.detail}, status=error.status_code)
        return refusal(found, error.status_code, error.detail)

    mounts = [
        Mount(f"/{system.source}{system.api_path}", app=Router(routes(system), redirect_slashes=False))
        for system in served
    ]
    simulated = Starlette(routes=[Route("/", index), *mounts], exception_handlers={HTTPException: refused})
    simulated.router.redirect_slashes = False
    return simulated


def api_url(base: str, system: System) -> str:
    return f"{base.rstrip('/')}/{system.source}{system.api_path}"


class _Server(uvicorn.Server):
    """A server that leaves signals to the command that runs it."""

    @contextlib.contextmanager
    def capture_signals(self) -> Generator[None, None, None]:
        yield


@contextlib.asynccontextmanager
async def serving(systems: Iterable[System], *, host: str = "127.0.0.1", port: int = 0) -> AsyncIterator[str]:
    """Serve the systems' APIs in this event loop, and yield the base URL. Raises OSError if the port is taken."""
    listener = socket.create_server((host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET)
    config = uvicorn.Config(application(systems), log_level="warning", access_log=False, lifespan="off")
    server = _Server(config)
    task = asyncio.create_task(server.serve(sockets=[listener]))
    try:
        while not server.started and not task.done():
            await asyncio.sleep(0.01)
        yield f"http://{host_in_url(host)}:{listener.getsockname()[1]}"
    finally:
        server.should_exit = True
        await task
        listener.close()
