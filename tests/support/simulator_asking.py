"""Requests to the simulated APIs within the test's process, with or without the arguments of a curl command."""

from __future__ import annotations

import asyncio
import shlex

import httpx

from simulator.server import application
from simulator.systems.iimmpact.api import signature


def ask(system, method, path, *, headers=None, auth=None, json=None, content=None):
    """Send one request to the API of one system, below its source's name."""

    async def asking():
        transport = httpx.ASGITransport(application([system]))
        async with httpx.AsyncClient(base_url="http://systems", transport=transport) as client:
            return await client.request(
                method, f"/{system.source}{path}", headers=headers, auth=auth, json=json, content=content
            )

    return asyncio.run(asking())


def replay(system, curl):
    """Send the request of a documented curl command to the simulated system instead of the documented host."""
    words = shlex.split(curl.replace("\\\n", " ").replace("\\ ", " "))[1:]
    method, url, headers, data = "GET", "", {}, None
    while words:
        word = words.pop(0)
        if word == "-X":
            method = words.pop(0)
        elif word == "-H":
            name, _, value = words.pop(0).partition(": ")
            headers[name] = value
        elif word == "-d":
            data = words.pop(0).encode()
        else:
            url = word
    return ask(system, method, httpx.URL(url).path, headers=headers, content=data)


def sign_request(system, method="GET", body=b"", *, nonce="n" * 16):
    """Make the headers of a signed request to IIMMPACT."""
    stamp = str(int(system.clock.now().timestamp()))
    value = signature(system.api_secret, timestamp=stamp, nonce=nonce, method=method, query="", body=body)
    return {"X-Api-Key": system.api_key, "X-Timestamp": stamp, "X-Nonce": nonce, "X-Signature": value}
