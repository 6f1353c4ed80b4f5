"""`hookmirror rehearse`: runs new handler code over the last kept deliveries before it is deployed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict
from typing import Annotated, Any

import typer

from receiver.codec import encode, shortened
from receiver.commands.closing import closed_at_the_end
from receiver.commands.options import JsonFlag
from receiver.commands.selection import source_named
from receiver.dialects.sources import Source
from receiver.errors import ConfigurationError
from receiver.interrupts import EndingTidily
from receiver.logs.escapes import visible
from receiver.logs.safe_text import quoted
from receiver.rehearsal.differences import Differences, Took
from receiver.rehearsal.outcomes import NOT_REACHED, THIN, WITH_SESSION
from receiver.rehearsal.rehearsal import MOST_REHEARSED
from receiver.rehearsal.rehearsal import rehearse as compare
from receiver.server.runtime import install

#: The most differences of either kind printed as text.
SHOWN_DIFFERENCES = 50

#: The longest value printed as text, in characters.
SHOWN_VALUE = 200

#: The reasons for which deliveries were not run.
WHY_NOT_RUN = {
    THIN: "thin, and the answers of the source's API are not kept: --hydrate asks it again",
    WITH_SESSION: "whose handlers take mirror.session: the scratch mirror has no tables of yours, so test them with "
    "the pytest fixture (docs/testing.md)",
    NOT_REACHED: "not reached: the code hung three times, the time limit passed, or the source's API failed",
}


def rehearse(
    reference: Annotated[
        str | None,
        typer.Argument(metavar="[MODULE:DIALECT]", help="The new code; by default, the code in the settings."),
    ] = None,
    source: Annotated[
        str | None, typer.Option(help="The source whose deliveries to run; needed if the settings have several.")
    ] = None,
    last: Annotated[
        int, typer.Option(min=1, max=MOST_REHEARSED, help="The number of the newest deliveries to run.")
    ] = 1_000,
    hydrate: Annotated[
        bool, typer.Option("--hydrate", help="Fetch thin events from the source's API, at the cost of calls.")
    ] = False,
    as_json: JsonFlag = False,
) -> None:
    """Run code over kept deliveries into a scratch mirror, and show the differences. Exit code 1 if there are any.

    MODULE:DIALECT is compared with the code in the settings, over the same deliveries. Without it, the code in the
    settings is compared with the mirror and the inbox. Nothing is written to the database.
    """
    runtime = closed_at_the_end(install(quiet=True))
    runtime.open_to_read()
    name = _source(runtime.sources, source)
    named = None if reference is None else _module_and_name(reference)
    # Its temporary files have bodies, and its processes may run for minutes.
    with EndingTidily():
        found = compare(runtime.database, name, last=last, reference=named, hydrate=hydrate)
    if as_json:
        typer.echo(encode(_as_json(found)))
    else:
        for line in _lines(found):
            typer.echo(visible(line))
    if found.found:
        raise typer.Exit(1)


def _source(sources: Mapping[str, Source], name: str | None) -> str:
    """The source that is named, or the only one. Raises `ConfigurationError`."""
    if name is None and len(sources) > 1:
        raise ConfigurationError(f"The source is missing: --source takes one of {', '.join(sorted(sources))}.")
    return source_named(sources, next(iter(sources), "shop") if name is None else name).name


def _module_and_name(reference: str) -> str:
    """Strip the suffix of a file from a reference. Raises `ConfigurationError` for a path."""
    module, colon, name = reference.partition(":")
    module = module.removesuffix(".py")
    if not module or "/" in module:
        raise ConfigurationError(
            f"{quoted(reference)} names no module: write it as module:name, with the module beside the settings file."
        )
    return f"{module}{colon}{name}"


def _as_json(found: Differences) -> dict[str, Any]:
    rows = [row._asdict() for row in found.rows]
    ends = [{**end._asdict(), "delivery": str(end.delivery)} for end in found.ends]
    took = {name: None if took is None else took._asdict() for name, took in _times(found)}
    return {**asdict(found), **took, "rows": rows, "ends": ends, "differs": found.found}


def _times(found: Differences) -> list[tuple[str, Took | None]]:
    return [("old_took", found.old_took), ("new_took", found.new_took)]


def _lines(found: Differences) -> Iterator[str]:
    for row in found.rows[:SHOWN_DIFFERENCES]:
        yield f"{row.table} {row.external_id}" + (f" ({row.kind})" if row.kind != "differs" else "")
        for name, (old, new) in row.columns.items():
            yield f"    {name}: {shortened(old, SHOWN_VALUE)} -> {shortened(new, SHOWN_VALUE)}"
    for end in found.ends[:SHOWN_DIFFERENCES]:
        yield f"delivery {end.delivery} ({end.event_type or 'unreadable'}, {end.entity or 'no entity'})"
        yield f"    {end.old} -> {end.new}"
    if max(len(found.rows), len(found.ends)) > SHOWN_DIFFERENCES:
        yield f"Only the first {SHOWN_DIFFERENCES} of each kind are shown; --json has them all."
    for state, number in found.skipped.items():
        yield f"Not run: {number} deliveries, {WHY_NOT_RUN[state]}."
    yield from _told_times(found)
    yield f"{found.new} compared with {found.old}, over {found.deliveries} ended deliveries of {found.source}: " + (
        f"{len(found.rows)} rows differ, {len(found.ends)} deliveries end differently."
        if found.found
        else "no difference."
    )


def _told_times(found: Differences) -> Iterator[str]:
    for name, took in ((found.old, found.old_took), (found.new, found.new_took)):
        if took is not None:
            yield (
                f"Handlers of {name}: {took.total:.1f} ms for {took.handlers} deliveries, {took.median:.3f} ms at the "
                f"median, {took.longest:.3f} ms at most."
            )
