"""`hookmirror new-dialect`: drafts the module, a fixture and a test of a dialect from a captured request."""

from __future__ import annotations

import keyword
import os
import re
import sys
from collections.abc import Iterable, Mapping
from contextlib import suppress
from functools import partial
from importlib.machinery import PathFinder
from pathlib import Path
from typing import Annotated, Any

import typer

from receiver.codec import encode
from receiver.commands.options import JsonFlag
from receiver.dialects.sources import DIALECT_ENTRY_POINTS
from receiver.drafting.captures import Capture, capture_of, read_capture
from receiver.drafting.draft import Draft, draft
from receiver.drafting.naming import snake_case
from receiver.errors import ConfigurationError
from receiver.fixtures import headers_beside
from receiver.loading import entry_points
from receiver.logs.escapes import visible
from receiver.settings.account import lines_of_secrets
from receiver.shadowing import OWN_PACKAGES

#: Names that a drafted module uses, or that pytest treats specially.
_USED = frozenset({"read", "write", "each", "read_change", "conftest", "test", "tests", "fixtures"})

_NAME = re.compile(r"[a-z][a-z0-9_]{0,39}")

#: The mode of a new file for everybody whom the umask lets read it.
USUAL_MODE = 0o666

#: The way to other files, for a message.
OTHER_FILES = "another name or another folder with --into"


def new_dialect(
    name: Annotated[str, typer.Argument(help="The name of the dialect and of its module.")],
    capture: Annotated[
        Path | None,
        typer.Option(
            "--from", metavar="FILE", help="The body of a captured webhook, with its headers in a file beside."
        ),
    ] = None,
    header: Annotated[
        list[str] | None, typer.Option(metavar="NAME:VALUE", help="A header of that webhook; can be repeated.")
    ] = None,
    secrets_file: Annotated[
        Path | None, typer.Option(metavar="FILE", help="A file with the secret, which confirms the signature.")
    ] = None,
    into: Annotated[
        Path, typer.Option(metavar="FOLDER", help="The folder for the files; by default, this one.")
    ] = Path(),
    as_json: JsonFlag = False,
) -> None:
    """Draft a dialect with a fixture and a test, guessed from a captured webhook."""
    refuse_name(name, into)
    if capture is None:
        captured, origin = example_of(name, header or []), "an invented webhook"
    else:
        captured = read_capture(capture, headers_beside(capture), header or [])
        origin = f"the captured webhook {capture.name}" if capture.name.isprintable() else "a captured webhook"
    named = f"--secrets-file names {str(secrets_file)!r}"
    secrets = lines_of_secrets(secrets_file, named=named, setting="--secrets-file") if secrets_file is not None else []
    made = draft(name, captured, origin=origin, secrets=secrets, secrets_file=repr(str(secrets_file)))
    write_files(into, made.files)
    if as_json:
        typer.echo(encode({"files": list(made.files), "guessed": made.guessed, "unknown": made.unknown}))
    else:
        # Whoever sent the captured request chose the names of its members and headers.
        typer.echo("\n".join(map(visible, _told(name, made, into, is_invented=capture is None))))


def refuse_name(name: str, folder: Path) -> None:
    """Raise `ConfigurationError` for a name that a module or a dialect should not have."""
    if not _NAME.fullmatch(name) or keyword.iskeyword(name) or keyword.issoftkeyword(name):
        likely = snake_case(name)
        perhaps = f", such as {likely}" if likely != name and _NAME.fullmatch(likely) else ""
        raise ConfigurationError(
            "A dialect has the name of its module: a small letter, then up to 39 small letters, digits and "
            f"`_`{perhaps}."
        )
    if name in _USED or name in OWN_PACKAGES or name.startswith("test_"):
        raise ConfigurationError(f"The name {name} has a special meaning: choose another, such as my_{name}.")
    taken = name in sys.stdlib_module_names or PathFinder.find_spec(name, _elsewhere(folder)) is not None
    if taken:
        raise ConfigurationError(
            f"There is an installed module {name} already, and one would shadow the other: choose another name, "
            f"such as my_{name}."
        )
    if name in {point.name for point in entry_points(group=DIALECT_ENTRY_POINTS)}:
        raise ConfigurationError(
            f"There is an installed dialect {name} already: choose another name, such as my_{name}."
        )


def write_files(folder: Path, files: Mapping[str, bytes], *, others: str = OTHER_FILES, mode: int = USUAL_MODE) -> None:
    """Write these files below the folder with this mode, from which the umask takes, all or none.

    Raises `ConfigurationError` if that is not possible; `others` is the way to other files by options of the command.
    """
    there = [name for name in files if os.path.exists(folder / name)]
    if there:
        raise ConfigurationError(
            f"{' and '.join(there)} exist{'s' if len(there) == 1 else ''}, and nothing is overwritten: choose {others}"
            ", or move the existing files."
        )
    written: list[Path] = []
    try:
        for name, content in files.items():
            path = folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            with open(path, "xb", opener=partial(os.open, mode=mode)) as file:
                written.append(path)
                file.write(content)
    except OSError as error:
        for path in written:
            with suppress(OSError):
                path.unlink()
        raise ConfigurationError(
            f"{str(path)!r} cannot be written ({error.strerror}): mend it, or choose {others}. Nothing was written."
        ) from None


def _elsewhere(folder: Path) -> list[str]:
    """The folders of installed modules."""
    ours = {os.path.realpath(folder), os.path.realpath("")}
    return [entry for entry in sys.path if entry and os.path.realpath(entry) not in ours]


def example_of(name: str, given: Iterable[str]) -> Capture:
    """Invent a webhook in the usual form, for a draft without a capture."""
    if list(given):
        raise ConfigurationError("--header belongs to the webhook in --from: give --from, too.")
    body = {
        "id": "m-1",
        "type": "product.updated",
        "timestamp": "2026-06-01T12:00:00Z",
        "data": {"id": "A1", "name": "Lamp", "price": "19.90"},
    }
    header = f"x-{name.replace('_', '-')}-signature"
    return capture_of(encode(body), {header: f"sha256={'0' * 64}"}, name="the example")


def _told(name: str, made: Draft, into: Path, *, is_invented: bool) -> Iterable[Any]:
    yield f"Wrote {', '.join(str(into / file) for file in made.files)}."
    if is_invented:
        yield "They are made for an invented webhook: adapt them, or give a captured webhook with --from."
    else:
        yield "Guessed from one webhook. Compare it with the documentation of the sender:"
        yield from (f"  {line}" for line in made.guessed)
        yield "The webhook does not show:"
        yield from (f"  {line}" for line in made.unknown)
    yield f"Next: pytest {into / f'test_{name}.py'}; then, in the settings,"
    yield f'  dialects = ["{name}:{name}"]'
    yield f"  [sources.{name.replace('_', '-')}]"
    yield f'  dialect = "{name}"'
    signed = not any(line.startswith("proof:") for line in made.unknown)
    yield '  secrets = ["…"]' if signed else "  allow_unsigned = true"
