"""Sends distinct, signed bodies of about 1 kB with wrk, over 64 connections unless told otherwise."""

from __future__ import annotations

import hashlib
import hmac
import json
import re
import shutil
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from benchmarks.servers import SECRET

CONNECTIONS = 64

#: Number of products that the events are about.
PRODUCTS = 2_000

SCRIPT = """
local bodies, signatures, place = {}, {}, 0
local threads = 0
function setup(thread) thread:set("number", threads); threads = threads + 1 end
local header, path
function init(args)
  header, path = args[2], args[3]
  for line in io.lines(args[1]) do
    local signature, body = line:match("^(%S+) (.*)$")
    signatures[#signatures + 1] = signature
    bodies[#bodies + 1] = body
  end
  place = math.floor(#bodies / 2) * number
end
function request()
  place = place % #bodies + 1
  local headers = {[header] = signatures[place], ["Content-Type"] = "application/json"}
  return wrk.format("POST", path, headers, bodies[place])
end
"""


@dataclass(frozen=True, slots=True)
class Load:
    """The figures of wrk."""

    requests_per_second: float
    #: Milliseconds.
    p50: float
    p99: float
    #: Answers other than 2xx, and failed connections.
    failed: int


def body(number: int) -> bytes:
    """Make the `number`th body: a full product of IIMMPACT, about 1 kB. Its time grows with the number."""
    code = f"P{number % PRODUCTS:05d}"
    data = {
        "product_code": code,
        "product_category_code": "MOBILE_PREPAID",
        "name": f"Product {code}",
        "display_name": f"Product {code}, edition {number}",
        "image_url": "https://images.example/" + "x" * 640,
        "processing_time": "instant",
        "is_active": True,
    }
    return json.dumps(
        {"type": "product.updated", "resource": "products", "id": code, "timestamp": _moment(number), "data": data},
        separators=(",", ":"),
    ).encode()


def body_with_random_id(number: int) -> bytes:
    """Make the `number`th body of Sigma, about 1 kB, whose id looks random."""
    entity = f"ent-{number % PRODUCTS:05d}"
    data = {"entityId": entity, "schemaId": "schema-1", "lifecycleState": "published", "updatedBy": "x" * 700}
    told = {
        "event": "entity.updated",
        "deliveryId": f"del-{hashlib.sha256(b'%d' % number).hexdigest()[:32]}",
        "timestamp": _moment(number),
        "data": data,
    }
    return json.dumps(told, separators=(",", ":")).encode()


def _moment(number: int) -> str:
    """A millisecond later for each body."""
    moment = f"2026-01-{1 + number // 36_000_000:02d}T{number // 1_500_000 % 24:02d}:"
    return moment + f"{number // 60_000 % 60:02d}:{number // 1_000 % 60:02d}.{number % 1_000:03d}Z"


class Sender(NamedTuple):
    """How one kind of system sends: the header of its signature, and its bodies."""

    source: str
    header: str
    body: Callable[[int], bytes]


IIMMPACT = Sender("iimmpact", "X-Webhook-Signature", body)
SIGMA = Sender("sigma", "X-Sigma-Signature", body_with_random_id)


def write_pool(path: Path, first: int, count: int, *, sender: Sender = IIMMPACT) -> None:
    """Write a file of `count` signed bodies, beginning with the `first`th, one on each line."""
    with path.open("wb") as pool:
        for number in range(first, first + count):
            content = sender.body(number)
            pool.write(b"sha256=" + hmac.digest(SECRET, content, "sha256").hex().encode() + b" " + content + b"\n")


def send(url: str, pool: Path, *, seconds: int, sender: Sender = IIMMPACT, connections: int = CONNECTIONS) -> Load:
    """Keep the connections busy for this many seconds. Bodies repeat only after the whole pool was sent."""
    wrk = shutil.which("wrk")
    if wrk is None:
        raise SystemExit(
            "The benchmarks need wrk: install it with your system's packages, as in `apt-get install wrk`."
        )
    script = pool.with_suffix(".lua")
    script.write_text(SCRIPT)
    command = [
        wrk,
        "-t1",
        f"-c{connections}",
        f"-d{seconds}s",
        "--latency",
        "--timeout",
        "20s",
        "-s",
        str(script),
        url,
        "--",
        str(pool),
        sender.header,
        f"/hooks/{sender.source}",
    ]
    report = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    return Load(
        requests_per_second=float(_found(r"Requests/sec:\s+([\d.]+)", report)),
        p50=_milliseconds(_found(r"\n\s+50%\s+(\S+)", report)),
        p99=_milliseconds(_found(r"\n\s+99%\s+(\S+)", report)),
        failed=sum(int(number) for number in re.findall(r"Non-2xx or 3xx responses: (\d+)", report))
        + sum(int(number) for number in re.findall(r"(?:connect|read|write|timeout) (\d+)", report)),
    )


def _found(pattern: str, report: str) -> str:
    match = re.search(pattern, report)
    assert match is not None, report
    return match.group(1)


def _milliseconds(text: str) -> float:
    number, unit = re.fullmatch(r"([\d.]+)(us|ms|s|m)", text).groups()  # type: ignore[union-attr]
    return float(number) * {"us": 0.001, "ms": 1.0, "s": 1_000.0, "m": 60_000.0}[unit]
