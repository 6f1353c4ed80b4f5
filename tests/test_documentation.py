"""The docs are complete, name nothing that does not exist, and their examples run (docs/testing.md has the rules)."""

from __future__ import annotations

import ast
import json
import os
import re
import shlex
import subprocess
import sys
import tomllib
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import click
import httpx
import pytest
import typer
from api_alone import api_of
from forked import Forked
from ports import free_port
from pydantic.fields import FieldInfo
from sqlmodel import SQLModel
from starlette.routing import Route
from users_pytest import FORKED, USERS_PYTEST
from waiting import wait_until

import receiver
from receiver import cli, testing
from receiver.api.openapi import describe
from receiver.database.database import Database
from receiver.dialects.sources import READY_DIALECTS, find_dialects
from receiver.envelope import Bundle
from receiver.errors import Refused
from receiver.fixtures import headers_beside
from receiver.inbox.tables import State
from receiver.metrics import metrics
from receiver.mirror.rows import BOOKKEEPING, mirror_tables, own_columns, sql_table
from receiver.mirror.versions import Outcome
from receiver.server.renewal import TAKEN
from receiver.settings.environment import CONFIG_VARIABLE, FOLLOW_TO_VARIABLE, VARIABLE_PREFIX
from receiver.settings.settings import Settings, SourceSettings, load
from receiver.testing import EXPECTED, Webhooks, fixture_files
from receiver.verify.ciphers import CIPHERS

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"

#: Every page, by its path from the root.
PAGES = {
    str(path.relative_to(ROOT)): path
    for path in [*ROOT.glob("*.md"), *DOCS.rglob("*.md"), *ROOT.glob("examples/*/README.md")]
}

#: The words of the project, one for each concept. Each has an entry of its own in the glossary.
WORDS = [
    *("dialect", "source", "event", "event type", "body", "envelope", "data", "delivery", "duplicate", "verify"),
    *("accept", "ack", "claim", "lease", "attempt", "handler", "hydrate", "mirror", "upsert", "deactivate"),
    *("tombstone", "stale", "reconcile", "replay", "change feed"),
]

#: Names of the test kit that look like metrics.
TEST_KIT_NAMES = {"hookmirror_dialects", "hookmirror_database_url"}

#: A role of the examples, which owns the tables.
ROLES = {"hookmirror_owner"}

#: Most seconds for the server of the README's example to start.
TIMEOUT = 30


def text_of(page: str) -> str:
    return PAGES[page].read_text("utf-8")


OPERATIONS, API, GLOSSARY = (text_of(f"docs/{name}.md") for name in ("operations", "api", "glossary"))
ARCHITECTURE, TESTING = (text_of(f"docs/{name}.md") for name in ("architecture", "testing"))


# ── settings ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def table_rows(text: str) -> list[list[str]]:
    """Return the rows of every table, with blanks around their cells removed."""
    lines = [line for line in text.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in line[1:].rstrip("|").split("|")] for line in lines]


def row_of(text: str, first: str) -> list[str]:
    """Return the only table row that begins with this name."""
    found = [row for row in table_rows(text) if row[0].strip() == f"`{first}`"]
    assert len(found) == 1, f"{first} needs exactly one row in a table, and has {len(found)}"
    return found[0]


def shown_default(default: Any) -> str:
    if default in (None, ""):
        return ""
    return f"`{json.dumps(default) if not isinstance(default, str) else default}`"


@pytest.mark.parametrize("name", Settings.model_fields)
def test_every_setting_is_documented_with_its_variable_and_default(name: str) -> None:
    row = row_of(OPERATIONS, name)
    assert row[1] == f"`{VARIABLE_PREFIX}{name.upper()}`"
    default = shown_default(Settings.model_fields[name].get_default())
    assert row[2] == (default or "none")


def shown_range(field: FieldInfo) -> str:
    """Write a number's range as the table of settings does; empty for a setting without bounds."""
    bounds = {type(bound).__name__: bound for bound in field.metadata}
    most = f"{bounds['Le'].le:,}" if "Le" in bounds else None
    if "Gt" in bounds:
        return f"more than {bounds['Gt'].gt:,}, up to {most}"
    if "Ge" not in bounds:
        return ""
    least = f"{bounds['Ge'].ge:,}"
    return f"{least} or more" if most is None else f"{least} to {most}"


@pytest.mark.parametrize("name", Settings.model_fields)
def test_the_range_of_every_setting_is_documented(name: str) -> None:
    assert row_of(OPERATIONS, name)[3] == shown_range(Settings.model_fields[name])


def test_the_settings_that_a_reload_applies_are_documented_and_no_other() -> None:
    _, _, text = OPERATIONS.partition("- **Applied while running**: ")
    listed, _, _ = text.partition("\n- **Needs a restart**")
    assert sorted(re.findall(r"`(\w+)`", listed)) == sorted(TAKEN)


@pytest.mark.parametrize("name", sorted(SourceSettings.model_fields.keys() - {"name"}))
def test_every_setting_of_a_source_is_documented_with_its_default(name: str) -> None:
    stated = row_of(OPERATIONS, name)[1]
    default = shown_default(SourceSettings.model_fields[name].get_default())
    assert stated == (default or "none") or name == "dialect"


@pytest.mark.parametrize("page", PAGES)
def test_no_page_names_a_variable_that_does_not_exist(page: str) -> None:
    known = {f"{VARIABLE_PREFIX}{name.upper()}" for name in Settings.model_fields}
    known |= {CONFIG_VARIABLE, FOLLOW_TO_VARIABLE}
    of_commands = {variable for command in commands().values() for variable in _variables(command)}
    assert set(re.findall(rf"{VARIABLE_PREFIX}[A-Z_]*[A-Z]", text_of(page))) - known - of_commands == set()


# ── commands ──────────────────────────────────────────────────────────────────────────────────────────────────────────


@cache
def commands() -> dict[str, click.Command]:
    """Return the commands of `hookmirror` by name, including those of entry points."""
    group: Any = typer.main.get_command(cli.compose("--"))
    return dict(group.commands)


def options(command: click.Command) -> set[str]:
    names = {name for parameter in command.params for name in [*parameter.opts, *parameter.secondary_opts]}
    return {name for name in names if name.startswith("-")}


def _variables(command: click.Command) -> Iterator[str]:
    for parameter in command.params:
        named = parameter.envvar
        yield from [named] if isinstance(named, str) else named or []


def test_every_command_is_documented() -> None:
    rows = {row[0].split()[1].strip("`"): row for row in table_rows(OPERATIONS) if row[0].startswith("`hookmirror ")}
    assert rows.keys() == commands().keys()


@pytest.mark.parametrize("name", commands())
def test_every_option_of_a_command_is_documented(name: str) -> None:
    of_simulator = {point.name for point in entry_points(group=cli.COMMAND_ENTRY_POINTS)}
    cells = [row[1] for row in table_rows(OPERATIONS) if row[0].startswith(f"`hookmirror {name}")]
    place = " ".join(cells) + (text_of("docs/simulator.md") if name in of_simulator else "")
    assert options(commands()[name]) - {"--help"} - set(re.findall(r"--[a-z][a-z-]*", place)) == set()


@pytest.mark.parametrize("page", PAGES)
def test_no_page_names_a_command_or_an_option_that_does_not_exist(page: str) -> None:
    for line in command_lines(text_of(page)):
        words = [word for word in line.split() if not word.startswith("-")]
        if len(words) < 2:
            continue
        name = words[1].rstrip(".,:;")
        assert name in commands(), f"{line!r} in {page}"
        unknown = set(re.findall(r"(?<![\w-])--[a-z][a-z-]*", line)) - options(commands()[name]) - {"--help"}
        assert unknown == set(), f"{line!r} in {page}"


def command_lines(text: str) -> list[str]:
    """Find the commands `hookmirror …` that the text shows: in code, and in shell examples, including `$(…)`."""
    in_line = re.findall(r"(?<!`)`(hookmirror [^`]+)`(?!`)", without_blocks(text))
    in_blocks = [line for block in blocks_in(text) if block.language == "sh" for line in block.text.splitlines()]
    # Read to a comment or to the bracket that ends a `$(…)`, but not inside quotes.
    found = [
        part for line in in_blocks for part in re.findall(r"(?:^|[(;&]\s*)(hookmirror(?: '[^']*'| [^)#;&' ]+)*)", line)
    ]
    return [*in_line, *found]


@pytest.mark.parametrize("page", PAGES)
def test_no_page_installs_hookmirror_by_its_name(page: str) -> None:
    """No index of packages has it, so that the command would fail, or install what a stranger put there."""
    assert re.findall(r"pip install (?:[^\n`]* )?hookmirror\b", text_of(page)) == []


def test_every_target_of_make_that_a_page_names_exists() -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text("utf-8"), re.MULTILINE))
    named = {name for page in PAGES for name in re.findall(r"(?:`|^)make ([a-z-]+)", text_of(page), re.MULTILINE)}
    assert named - targets == set()
    assert {"demo", "test"} <= named


def test_the_pages_name_the_pythons_that_the_package_declares() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    versions = re.findall(r"Python :: (3\.\d+)", "\n".join(project["classifiers"]))
    assert project["requires-python"] == f">={versions[0]}"
    for page, last in (("README.md", "or"), ("CONTRIBUTING.md", "or"), ("docs/testing.md", "and")):
        assert f"Python {', '.join(versions[:-1])} {last} {versions[-1]}" in text_of(page), page


def demo_of_make(**variables: str) -> subprocess.CompletedProcess[str]:
    """Ask what `make demo` would run, with these variables on its command line, in an environment with a Python."""
    given = [f"{name}={value}" for name, value in variables.items()]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("MAKE")}
    return subprocess.run(
        ["make", "--dry-run", "demo", *given],
        cwd=ROOT,
        env=environment | {"PYTHON": sys.executable},
        capture_output=True,
        text=True,
        timeout=60,
    )


def test_a_python_that_the_command_line_names_has_an_environment_called_by_its_release(tmp_path: Path) -> None:
    python = tmp_path / "python"
    python.symlink_to(sys.executable)
    release = "{}.{}".format(*sys.version_info)
    assert f"\n.venv-python{release}/bin/hookmirror demo" in "\n" + demo_of_make(PYTHON=str(python)).stdout
    assert "\n.venv/bin/hookmirror demo" in "\n" + demo_of_make().stdout


def test_a_named_python_that_does_not_run_is_reported_with_what_to_write() -> None:
    done = demo_of_make(PYTHON="no-python")
    assert done.returncode == 2
    assert "PYTHON=no-python is not a Python: name a command or a path" in done.stderr


# ── states, outcomes, codes, metrics, words ───────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("word", [*State, *Outcome])
def test_every_state_and_outcome_is_explained(word: str) -> None:
    row_of(OPERATIONS, word)
    assert f"\n**{word}**: " in GLOSSARY
    assert word in ARCHITECTURE.partition("## States of a delivery")[2].partition("## The tables")[0]


@pytest.mark.parametrize("word", WORDS)
def test_every_word_of_the_project_has_its_entry_in_the_glossary(word: str) -> None:
    assert f"\n**{word}**: " in GLOSSARY


def test_the_glossary_has_one_entry_for_a_word() -> None:
    entries = re.findall(r"^\*\*([^*]+)\*\*: ", GLOSSARY, re.MULTILINE)
    assert sorted(entries) == sorted(set(entries))


@cache
def error_codes() -> frozenset[str]:
    """Return every error code in the source: those of error classes, and those given where an error is raised."""
    return frozenset(
        code for path in (ROOT / "receiver").rglob("*.py") for code in _codes(ast.parse(path.read_text("utf-8")))
    )


def _codes(tree: ast.Module) -> Iterator[str]:
    for node in ast.walk(tree):
        match node:
            case ast.Assign(targets=[ast.Name(id="code")], value=ast.Constant(value=str(code))):
                yield code
            case ast.Call(func=ast.Name(id="NotVerified"), args=[ast.Constant(value=str(code)), *_]):
                yield code
            case ast.Dict(keys=[ast.Constant(value="error"), *_], values=[ast.Constant(value=str(code)), *_]):
                yield code


def test_every_error_code_is_documented_and_no_other() -> None:
    documented = {row[0].strip("`"): row[1] for row in table_rows(API.partition("## Error codes")[2])[2:]}
    assert documented.keys() == error_codes()


def test_every_error_code_is_in_the_openapi_document_and_no_other() -> None:
    shown = describe([])["components"]["schemas"]["Error"]["properties"]["error"]["enum"]
    assert sorted(shown) == sorted(error_codes())


@pytest.mark.parametrize("kind", Refused.__subclasses__())
def test_every_error_code_stands_beside_its_status(kind: type[Refused]) -> None:
    documented = table_rows(API.partition("## Error codes")[2])[2:]
    if "code" in vars(kind):
        assert [f"`{kind.code}`", str(kind.status)] in [row[:2] for row in documented]


def test_every_metric_is_documented_with_its_labels_and_no_other() -> None:
    section = OPERATIONS.partition("## Metrics")[2].partition("\n## ")[0]
    documented = {row[0].strip("`"): row[1] for row in table_rows(section) if row[0].startswith("`")}
    collectors: list[Any] = list(metrics.REGISTRY._collector_to_names)
    expected = {
        metric.name + ("_total" if metric.type == "counter" else ""): ", ".join(
            f"`{label}`" for label in collector._labelnames
        )
        for collector in collectors
        for metric in collector.describe()
    }
    assert documented == expected


@pytest.mark.parametrize("page", PAGES)
def test_no_page_names_a_metric_that_does_not_exist(page: str) -> None:
    names = set(metrics.REGISTRY._names_to_collectors) | TEST_KIT_NAMES | ROLES
    assert set(re.findall(r"\bhookmirror_[a-z_]*[a-z]", text_of(page))) - names == set()


# ── the API, the tables, the test kit ─────────────────────────────────────────────────────────────────────────────────


def test_every_address_of_the_api_is_documented_and_no_other(tmp_path: Path) -> None:
    api = api_of(Database(f"sqlite:///{tmp_path / 'hookmirror.db'}"))
    served = {
        ("POST" if "POST" in (route.methods or ()) else "GET", re.sub(r":\w+}", "}", route.path))
        for route in api.routes()
        if isinstance(route, Route)
    }
    documented = set(re.findall(r"`(GET|POST) (/[^`?]*)`", API))
    assert documented == served | {("POST", "/hooks/{source}")}


@pytest.mark.parametrize("page", PAGES)
def test_no_page_names_an_address_of_the_api_that_does_not_exist(page: str) -> None:
    addresses = [path for _, path in re.findall(r"`(GET|POST) (/[^`?]*)`", API)] + ["/hooks"]
    known = [re.sub(r"\\{\w+\\}", "[^`?/]+", re.escape(path)) for path in addresses]
    for path in re.findall(r"(?:GET |POST |127\.0\.0\.1:8000)(/[^`?\s\"]+)", text_of(page)):
        assert any(re.fullmatch(pattern, path) for pattern in known), path


def test_every_table_and_column_is_documented() -> None:
    section = ARCHITECTURE.partition("## The tables")[2].partition("\n## ")[0]
    for model in SQLModel.__subclasses__():
        # Tests declare models, too.
        if hasattr(model, "__table__") and model.__module__.startswith("receiver."):
            paragraph = next(part for part in section.split("\n\n") if part.startswith(f"**`{model.__tablename__}`**"))
            missing = {name for name in model.model_fields if f"`{name}`" not in paragraph}
            assert missing == set(), model.__tablename__
    catalog = [table for table in mirror_tables() if table.__module__ == "handlers.catalog"]
    for table in catalog:
        assert f"`{sql_table(table).name}`" in section
        assert f"`{sql_table(table).name}`" in API
        for column in [*BOOKKEEPING, *own_columns(table)]:
            assert f"`{column}`" in section, f"{column} of {table.__name__}"


@pytest.mark.parametrize("name", receiver.__all__)
def test_every_public_name_is_explained(name: str) -> None:
    table = text_of("docs/python-reference.md").partition("| to | use |")[2].partition("\n\n")[0]
    assert [row for row in table_rows(table) if f"`{name}`" in row[1]]


@pytest.mark.parametrize(
    "name", sorted(name for name, kind in vars(testing.Webhooks).items() if callable(kind) and not name.startswith("_"))
)
def test_every_verb_of_the_test_kit_is_documented(name: str) -> None:
    assert f"webhooks.{name}(" in without_blocks(TESTING) or name == "close"


def test_the_rule_for_fixtures_is_documented_and_our_fixtures_follow_it() -> None:
    assert "`<dialect>/<event type>[.<variant>].json`" in TESTING
    assert f"`{EXPECTED}`" in TESTING
    dialects = find_dialects(READY_DIALECTS.values(), beside=ROOT)
    found = fixture_files(ROOT / "fixtures")
    assert {path.parent.name for path in found} <= dialects.keys()
    for path in found:
        dialect = dialects[path.parent.name]
        read = dialect.read(dialect.as_kept(path.read_bytes(), {"webhook-id": "example", **headers_beside(path)}))
        event_type = (read.item(0) if isinstance(read, Bundle) else read).event_type
        assert f"{path.name}".startswith(f"{event_type.replace('/', '-')}."), path
        expected = json.loads(path.with_name(path.name.removesuffix(".json") + EXPECTED).read_bytes())
        assert expected.keys() <= {"state", "rows"}
        assert all({"table", "external_id"} <= row.keys() for row in expected["rows"])


# ── pages ─────────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("page", PAGES)
def test_links_between_pages_have_a_target(page: str) -> None:
    for target in re.findall(r"\]\(([^)\s]+)\)", without_blocks(text_of(page))):
        if urlsplit(target).scheme:
            continue
        path, _, anchor = target.partition("#")
        file = (PAGES[page].parent / path).resolve() if path else PAGES[page]
        assert file.exists(), f"{target} in {page}"
        if anchor:
            assert anchor in anchors(file.read_text("utf-8")), f"{target} in {page}"


def anchors(text: str) -> set[str]:
    """Return the anchors of the headings: lower case, without punctuation, hyphens for blanks."""
    headings = re.findall(r"^#+ (.+)$", without_blocks(text), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES)
def test_no_page_says_payload(page: str) -> None:
    # Some senders use this word as the name of a form's field.
    said = text_of(page).lower().replace('form="payload"', "")
    assert "payload" not in said, "say body, data or event"


@pytest.mark.parametrize("page", PAGES)
def test_files_that_a_page_names_exist(page: str) -> None:
    for name in re.findall(
        r"`((?:receiver|handlers|simulator|vendors|tests|benchmarks|docs)/[\w./-]*)`", text_of(page)
    ):
        assert (ROOT / name).exists(), f"{name} in {page}"


@pytest.mark.parametrize("page", PAGES)
def test_tests_that_a_page_names_exist(page: str) -> None:
    for file, test in re.findall(r"`(tests/[\w./]+\.py)::(\w+)`", text_of(page)):
        assert f"def {test}(" in (ROOT / file).read_text("utf-8"), f"{test} in {page}"


def test_every_bad_input_of_a_dialect_has_its_answer_and_its_test() -> None:
    table = text_of("docs/writing-a-dialect.md").partition("## Bad input")[2].partition("\n## ")[0]
    rows = table_rows(table)[2:]
    assert len(rows) >= 15
    for row in rows:
        assert "`tests/" in row[2], f"{row[0]} has no test"


def test_the_path_of_a_webhook_names_modules_that_exist() -> None:
    table = ARCHITECTURE.partition("| step | in `receiver` |")[2].partition("\n\n")[0]
    places = [name for row in table_rows(table)[1:] for name in re.findall(r"`([\w/.]+)`", row[1])]
    assert len(places) >= 9
    assert [name for name in places if not (ROOT / "receiver" / name).exists()] == []


def test_every_folder_of_the_receiver_is_explained() -> None:
    table = ARCHITECTURE.partition("| folder | contents |")[2].partition("\n\n")[0]
    explained = {name for row in table_rows(table)[1:] for name in re.findall(r"`(\w+)/`", row[0])}
    assert explained == {path.parent.name for path in (ROOT / "receiver").glob("*/__init__.py")}


def test_every_ready_dialect_is_named_by_the_page_that_lists_them_and_by_our_tests() -> None:
    options = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["tool"]["pytest"]["ini_options"]
    assert sorted(options["hookmirror_dialects"]) == sorted(READY_DIALECTS.values())
    for name, reference in READY_DIALECTS.items():
        assert f"`{reference}`" in text_of("docs/senders/index.md")
        assert find_dialects([reference], beside=ROOT)[name] is not None


def test_the_index_names_every_page() -> None:
    links = re.findall(r"\]\(([\w-]+\.md)[)#]", text_of("docs/index.md").partition("## Page by page")[2])
    assert sorted(links) == sorted({path.name for path in DOCS.glob("*.md")} - {"index.md"})


#: Names of pages in text. A name in quotes is only a part of a path.
PAGE_NAMES = re.compile(r"(?<![\w./\"-])(?:docs/decisions/\d{4}|(?:docs/)?(?:senders/)?[\w-]+\.md\b)")


def test_pages_that_the_source_names_exist() -> None:
    for package in ("receiver", "handlers", "simulator", "vendors", "benchmarks", "tests"):
        for path in (ROOT / package).rglob("*.py"):
            for name in PAGE_NAMES.findall(path.read_text("utf-8")):
                found = list(DOCS.glob(f"decisions/{name[-4:]}-*.md")) if "decisions" in name else [ROOT / name]
                assert [page for page in found if page.exists()], f"{name} in {path}"


def test_decisions_are_numbered_without_gaps_and_fit_a_page() -> None:
    records = sorted((DOCS / "decisions").glob("*.md"))
    assert [path.name[:4] for path in records] == [f"{number:04}" for number in range(1, len(records) + 1)]
    for path in records:
        text = path.read_text("utf-8")
        assert text.startswith(f"# {path.name[:4]} ")
        assert len(text.splitlines()) <= 60, path.name
        assert re.findall(r"^## (.+)$", text, re.MULTILINE) == [
            "Why it comes up",
            "Decision",
            "Reasons",
            "Consequences",
        ]


def test_the_changelog_has_this_version() -> None:
    version = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]["version"]
    newest = re.search(r"^## \[([^\]]+)\]", text_of("CHANGELOG.md"), re.MULTILINE)
    assert newest is not None
    assert newest[1] == version


def test_the_changelog_has_each_line_once() -> None:
    """A merge of two branches that both append lines may leave some of them twice."""
    times = Counter(line for line in text_of("CHANGELOG.md").splitlines() if line and not line.startswith("#"))
    assert [line for line, count in times.items() if count > 1] == []


# ── examples ──────────────────────────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True, slots=True)
class Block:
    """A fenced block of code."""

    language: str
    text: str
    #: The block's file, named in its first line or in a comment above it.
    file: str | None


FENCE = re.compile(
    r"(?:<!-- file: (?P<above>\S+) -->\n)?^```(?P<language>\w*)\n(?P<text>.*?)^```$", re.MULTILINE | re.DOTALL
)
FIRST_LINE = re.compile(r"# (?P<file>[\w/.-]+\.\w+)\n")


def blocks_in(text: str) -> list[Block]:
    return list(_blocks(text))


def _blocks(text: str) -> Iterator[Block]:
    for found in FENCE.finditer(text):
        named = FIRST_LINE.match(found["text"])
        yield Block(found["language"], found["text"], found["above"] or (named["file"] if named else None))


def without_blocks(text: str) -> str:
    return FENCE.sub("", text)


def written(page: str, folder: Path) -> list[Path]:
    """Write the files of a page's examples into this folder, and return them."""
    found = []
    for block in blocks_in(text_of(page)):
        if block.file is not None:
            path = folder / block.file
            path.parent.mkdir(parents=True, exist_ok=True)
            assert not path.exists(), f"{block.file} stands in {page} twice"
            path.write_text(block.text, "utf-8")
            found.append(path)
    return found


def environment(**settings: str) -> dict[str, str]:
    """Return this process's environment with these settings and no others; our commands come first in the path."""
    kept = {
        name: value for name, value in os.environ.items() if not name.startswith((VARIABLE_PREFIX, "PYTEST_", "COV_"))
    }
    beside = str(Path(sys.executable).parent)
    return kept | {"PATH": f"{beside}{os.pathsep}{kept.get('PATH', '')}", **settings}


def run(folder: Path, *arguments: str, python: bool = False, **settings: str) -> str:
    """Run `hookmirror` or `python`, which must succeed, with its imports already done, and return its output."""
    with Forked(arguments, folder, environment(**settings), python=python) as process:
        try:
            printed, errors = process.communicate(timeout=120)
        except BaseException:
            process.kill()
            raise
    assert process.returncode == 0, f"{shlex.join(arguments)} failed:\n{printed}\n{errors}"
    return printed


#: Pages whose Python is run by another test, with its own set-up.
RUN_ELSEWHERE = {"docs/simulator.md": ROOT / "tests" / "integration" / "test_fixtures.py"}

WITH_PYTHON = {page for page in PAGES if any(block.language == "python" for block in blocks_in(text_of(page)))}
PYTHON_PAGES = sorted(WITH_PYTHON - RUN_ELSEWHERE.keys())
SETTINGS_PAGES = [page for page in PAGES if any(block.file == "hookmirror.toml" for block in blocks_in(text_of(page)))]


@pytest.mark.parametrize("page", RUN_ELSEWHERE)
def test_python_left_out_here_is_run_by_another_test(page: str) -> None:
    assert Path(page).name in RUN_ELSEWHERE[page].read_text("utf-8")


@pytest.mark.parametrize("page", sorted(PAGES.keys() - RUN_ELSEWHERE.keys()))
def test_every_example_names_its_file(page: str) -> None:
    for block in blocks_in(text_of(page)):
        assert block.file or block.language in ("", "sh"), f"a {block.language} block in {page} has no file name"


@pytest.mark.parametrize("page", PYTHON_PAGES)
def test_the_python_of_a_page_runs(page: str, tmp_path: Path) -> None:
    modules = [path for path in written(page, tmp_path) if path.suffix == ".py"]
    tests = [path for path in modules if path.name.startswith("test_")]
    imported = {
        name for path in modules for name in re.findall(r"^(?:from|import) (\w+)", path.read_text("utf-8"), re.M)
    }
    for path in modules:
        if path not in tests and path.stem not in imported:
            run(tmp_path, path.name, python=True)
    if tests:
        # Run the tests as a user would, without the settings and plugins of this repository. Warnings are still errors.
        printed = run(tmp_path, *USERS_PYTEST[1:], "-W", "error", *FORKED, python=True)
        assert " passed" in printed
        assert "skipped" not in printed


@pytest.mark.parametrize("page", SETTINGS_PAGES)
def test_the_settings_of_a_page_start(page: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    written(page, tmp_path)
    for name in [name for name in os.environ if name.startswith(VARIABLE_PREFIX)]:
        monkeypatch.delenv(name)
    assert load(tmp_path / "hookmirror.toml").sources
    settings = {CONFIG_VARIABLE: "hookmirror.toml", f"{VARIABLE_PREFIX}SECRET_KEY": "k" * 32}
    assert "MEND" not in run(tmp_path, "doctor", **settings)


def test_the_bodies_of_the_four_systems_leave_the_rows_beside_them(webhooks: Webhooks, tmp_path: Path) -> None:
    written("docs/sources.md", tmp_path)
    fixtures = fixture_files(tmp_path)
    assert {fixture.parent.name for fixture in fixtures} == {"sigma", "indexed", "iimmpact", "sticky"}
    for fixture in sorted(fixtures, reverse=True):
        webhooks.check_fixture(fixture)


@pytest.mark.parametrize("cipher", CIPHERS)
def test_every_cipher_is_explained(cipher: str) -> None:
    assert row_of(text_of("docs/sources.md"), cipher)[1]


def test_the_readme_makes_files_private_before_the_first_secret_is_written() -> None:
    text = text_of("README.md")
    assert 0 < text.index("umask 077") < text.index("# hookmirror.toml") < text.index("> secret-key")


def test_the_page_about_capturing_names_its_settings_file_to_the_commands() -> None:
    _, _, capturing = text_of("docs/operations.md").partition("## Capturing an unknown sender")
    assert "HOOKMIRROR_CONFIG=capture.toml" in capturing


def test_the_two_minutes_of_the_readme_work_as_written(tmp_path: Path) -> None:
    written("README.md", tmp_path)
    shell = [block.text for block in blocks_in(text_of("README.md")) if block.language == "sh"]
    send, ask = next(text for text in shell if "hookmirror send" in text).splitlines()
    url = re.search(r"http://\S+", ask)
    assert url is not None
    settings = {CONFIG_VARIABLE: "hookmirror.toml", f"{VARIABLE_PREFIX}SECRET_KEY": "k" * 32}
    port = free_port()
    base = f"http://127.0.0.1:{port}"
    serving = subprocess.Popen(
        ["hookmirror", "serve", "--port", str(port)],
        cwd=tmp_path,
        env=environment(**settings),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        wait_for(f"{base}/readyz", serving)
        hookmirror, *arguments = shlex.split(send)
        assert hookmirror == "hookmirror"
        assert run(tmp_path, *arguments, "--to", base, **settings).startswith("200 ")
        headers = {"Authorization": f"Bearer {run(tmp_path, 'token', **settings).strip()}"}
        wait_for(base + urlsplit(url[0]).path, serving, headers=headers)
        answer = httpx.get(base + urlsplit(url[0]).path, headers=headers, timeout=TIMEOUT).text
        assert '"price":"19.90"' in answer
        assert '"price":"19.90"' in text_of("README.md")
    finally:
        serving.terminate()
        serving.wait(TIMEOUT)


def wait_for(url: str, process: subprocess.Popen[bytes], headers: dict[str, str] | None = None) -> None:
    """Wait until this URL answers with 200."""

    def answers() -> bool:
        assert process.poll() is None, "the server has ended"
        try:
            return client.get(url, headers=headers).status_code == 200
        except httpx.TransportError:
            return False

    with httpx.Client(timeout=TIMEOUT) as client:
        wait_until(answers, url)
