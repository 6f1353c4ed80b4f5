"""Sends distinct, signed bodies with wrk, by default of about 1 kB and over 64 connections."""

from __future__ import annotations

import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

from benchmarks.senders import IIMMPACT, SIZE, Sender

CONNECTIONS = 64

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
    #: Answers of any kind, and the seconds in which they came.
    answers: int
    seconds: float
    #: Milliseconds.
    p50: float
    p99: float
    #: Answers other than 2xx, and failed connections.
    failed: int


def write_pool(path: Path, first: int, count: int, *, sender: Sender = IIMMPACT, size: int = SIZE) -> None:
    """Write a file of `count` signed bodies of about `size` bytes, beginning with the `first`th, one on each line."""
    with path.open("wb") as pool:
        for number in range(first, first + count):
            sent = sender.sent(number, size)
            pool.write(sent.signature.encode() + b" " + sent.body + b"\n")


def send(
    url: str,
    pool: Path,
    *,
    seconds: int,
    sender: Sender = IIMMPACT,
    connections: int = CONNECTIONS,
    path: str | None = None,
) -> Load:
    """Keep the connections busy for this many seconds. Bodies repeat only after the whole pool was sent.

    They are sent to the address of the sender's source, or to `path`.
    """
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
        path or f"/hooks/{sender.name}",
    ]
    report = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    answers, took = re.search(r"(\d+) requests in ([\d.]+(?:us|ms|s|m))", report).groups()  # type: ignore[union-attr]
    return Load(
        requests_per_second=float(_found(r"Requests/sec:\s+([\d.]+)", report)),
        answers=int(answers),
        seconds=_milliseconds(took) / 1_000,
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
