"""Sends distinct, signed bodies of about 1 kB with wrk over 64 connections."""

from __future__ import annotations

import hmac
import json
import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

from benchmarks.servers import SECRET

CONNECTIONS = 64

#: Number of products that the events are about.
PRODUCTS = 2_000

SCRIPT = """
local bodies, signatures, place = {}, {}, 0
local threads = 0
function setup(thread) thread:set("number", threads); threads = threads + 1 end
function init(args)
  for line in io.lines(args[1]) do
    local signature, body = line:match("^(%S+) (.*)$")
    signatures[#signatures + 1] = signature
    bodies[#bodies + 1] = body
  end
  place = math.floor(#bodies / 2) * number
end
function request()
  place = place % #bodies + 1
  local headers = {["X-Webhook-Signature"] = signatures[place], ["Content-Type"] = "application/json"}
  return wrk.format("POST", "/hooks/iimmpact", headers, bodies[place])
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
    moment = f"2026-01-{1 + number // 36_000_000:02d}T{number // 1_500_000 % 24:02d}:"
    moment += f"{number // 60_000 % 60:02d}:{number // 1_000 % 60:02d}.{number % 1_000:03d}Z"
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
        {"type": "product.updated", "resource": "products", "id": code, "timestamp": moment, "data": data},
        separators=(",", ":"),
    ).encode()


def write_pool(path: Path, first: int, count: int) -> None:
    """Write a file of `count` signed bodies, beginning with the `first`th, one on each line."""
    with path.open("wb") as pool:
        for number in range(first, first + count):
            content = body(number)
            pool.write(b"sha256=" + hmac.digest(SECRET, content, "sha256").hex().encode() + b" " + content + b"\n")


def send(url: str, pool: Path, *, seconds: int) -> Load:
    """Keep 64 connections busy for this many seconds. Bodies repeat only after the whole pool was sent."""
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
        f"-c{CONNECTIONS}",
        f"-d{seconds}s",
        "--latency",
        "--timeout",
        "20s",
        "-s",
        str(script),
        url,
        "--",
        str(pool),
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
