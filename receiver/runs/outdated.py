"""Outdated plans: why the forecast of a plan no longer applies, and the command that plans the same again."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, RowMapping

from receiver.database.damage import damage_of
from receiver.release import release
from receiver.runs.overlap import replayed_since
from receiver.worker.processes import Wiring, shown, workers_unlike

#: The options of `hookmirror runs plan` whose names differ from those of the filter's fields.
OPTIONS_OF_FIELDS = {"begin": "since", "end": "until", "reason": "reason_has"}


def why_outdated(connection: Connection, run: RowMapping, wiring: Wiring, now: datetime) -> str | None:
    """Why a process with this wiring would refuse to start the planned run, as a sentence; None if it would not.

    Another run at work on the same source is no such reason, because the plan applies again after its end.
    """
    if any(damage_of(run[name]) is not None for name in ("sources", "arguments", "mark")):
        return f"Run {run['id']} was edited in the database by hand: cancel it, and plan again."
    return replayed_since(connection, run) or _wired_anew(connection, run, wiring, now)


def _wired_anew(connection: Connection, run: RowMapping, wiring: Wiring, now: datetime) -> str | None:
    planned_with = (run["release"], run["wiring"])
    if planned_with != (release(), wiring.fingerprint):
        return (
            f"Run {run['id']} was planned by hookmirror {run['release']} with other handlers or sources than this "
            "process has now, so its forecast no longer applies: plan it again."
        )
    for process in workers_unlike(connection, wiring, now):
        return (
            f"The {shown(process)} has another release, or other handlers or sources, than run {run['id']} was "
            "planned with: restart it with the same ones, or plan again with the settings that it has."
        )
    return None


def plan_command(run: Mapping[str, Any]) -> str | None:
    """The command that plans a run like this one; None if the run does not record all that was selected."""
    kind, arguments = run["kind"], run["arguments"]
    if damage_of(arguments) is not None:
        return None
    words = ["hookmirror", "runs", "plan"]
    if kind == "reconcile":
        words += [kind, str(arguments.get("source")), *(["--force"] if arguments.get("force") else [])]
    elif kind == "prune":
        words.append(kind)
    elif kind == "replay" and "ids" in arguments:
        if len(arguments["ids"]) != arguments.get("deliveries"):
            return None
        words += arguments["ids"]
    elif kind == "replay" and arguments:
        words += _options(arguments)
    else:
        return None
    return shlex.join(words)


def _options(filters: Mapping[str, Any]) -> Iterator[str]:
    for name, value in filters.items():
        option = OPTIONS_OF_FIELDS.get(name, name).replace("_", "-")
        if isinstance(value, bool):
            yield f"--{option}" if value else f"--no-{option}"
        else:
            # In one word, because a value may begin with a hyphen.
            yield f"--{option}={value}"
