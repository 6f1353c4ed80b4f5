"""Pull the plug: kill endpoints, workers and PostgreSQL at random instants, and show that nothing was lost.

    python tests/plug --kills 300 --seed 1 --database postgresql

Without `--database`, the run is made on both. Exit code 1 if one of the counts that must be 0 is not.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "support"))

from killing import DATABASES, USUAL_PAUSE, as_json, run
from rich.progress import Progress


def main() -> int:
    parser = argparse.ArgumentParser(prog="python tests/plug", description=__doc__.partition("\n")[0])
    parser.add_argument("--kills", type=int, default=300, help="number of kills on each database")
    parser.add_argument("--seed", type=int, default=1, help="decides the events, and which process is killed when")
    parser.add_argument(
        "--database", choices=DATABASES, action="append", help="run on this database only; may be repeated"
    )
    parser.add_argument("--rate", type=float, default=100.0, help="events a second, over all systems together")
    parser.add_argument("--pause", type=float, default=USUAL_PAUSE, help="average seconds between two kills")
    parser.add_argument("--acceptors", action="store_true", help="also kill acceptor processes of the endpoints")
    parser.add_argument("--json", action="store_true", help="print the counts as JSON")
    options = parser.parse_args()
    verdicts = []
    for name in options.database or DATABASES:
        with Progress(transient=True, disable=options.json or not sys.stderr.isatty()) as progress:
            task = progress.add_task(f"kills on {name}", total=options.kills)
            verdict = asyncio.run(
                run(
                    name,
                    kills=options.kills,
                    seed=options.seed,
                    rate=options.rate,
                    pause=options.pause,
                    acceptors=options.acceptors,
                    progress=lambda done: progress.update(task, completed=done),  # noqa: B023 (used before the next)
                )
            )
        verdicts.append(verdict)
        if not options.json:
            write("\n".join(verdict.lines()))
    if options.json:
        write(json.dumps([as_json(verdict) for verdict in verdicts], indent=2))
    return 0 if all(verdict.good for verdict in verdicts) else 1


def write(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
