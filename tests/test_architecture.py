"""The import rules of docs/architecture.md ("Who may import whom"), checked in the source."""

from __future__ import annotations

import ast
import re
from collections.abc import Callable, Iterable, Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

#: The folders and modules of `receiver`, from the bottom up: each may import from its own row and from earlier rows.
LAYERS = (
    (
        *("errors", "moments", "sniffing", "likeness", "codec", "release", "schemas", "fixtures", "http_urls"),
        *("interrupts", "system_limits", "daemon_threads", "huge_numbers"),
    ),
    ("logs", "metrics"),
    ("header_values",),
    ("envelope", "loading", "shadowing", "http_calls"),
    ("verify",),
    ("senders", "settings"),
    ("database",),
    ("inbox",),
    ("mirror",),
    ("dialects",),
    ("search",),
    ("ingest", "worker", "reconcile"),
    ("provenance", "runs"),
    ("rehearsal", "findings", "sessions"),
    ("following",),
    ("api",),
    ("console",),
    ("server",),
    ("copying", "drafting"),
    ("commands",),
    ("cli", "__main__", "testing"),
)

#: Names of the systems whose dialects are in `handlers`; "indexed" counts only in quotes, because it is also a word.
VENDOR = re.compile(r"sigma|iimmpact|sticky|[\"'`]indexed[\"'`]", re.IGNORECASE)

#: Most lines.
LONGEST_MODULE, LONGEST_FUNCTION = 350, 40

HEIGHT = {room: height for height, layer in enumerate(LAYERS) for room in layer}

#: Modules that do no I/O and read no clock: data and times come in as arguments.
PURE = (
    *(
        "errors",
        "moments",
        "sniffing",
        "likeness",
        "huge_numbers",
        "codec",
        "schemas",
        "envelope",
        "verify.signatures",
        "verify.ciphers",
    ),
    *("verify.request", "verify.verifiers", "verify.encodings", "verify.templates", "verify.places"),
    *(
        "verify.algorithms",
        "verify.freshness",
        "verify.composed",
        "verify.signature_plan",
        "verify.secret_forms",
        "verify.diagnosis",
        "header_values",
        "http_urls",
        "dialects.taking_headers",
        "senders",
    ),
    *("logs.escapes", "logs.rates", "logs.safe_text", "settings.settings", "settings.account", "settings.environment"),
    *(
        "settings.limits",
        "settings.mistakes",
        "settings.timetable",
        "inbox.retries",
        "dialects.patterns",
        "dialects.compression",
        "dialects.headers",
    ),
    *("inbox.states", "mirror.versions", "ingest.paths", "api.tokens"),
)

#: Modules that a pure module must not import, because they do I/O, wait, or read a clock.
IMPURE = {
    *("asyncio", "httpx", "logging", "random", "socket", "sqlalchemy", "sqlite3", "sqlmodel", "starlette"),
    *("subprocess", "threading", "time", "uvicorn"),
}

#: Functions that a pure module must not call, for the same reason.
IMPURE_CALLS = {"now", "utcnow", "open", "read_bytes", "read_text", "write_bytes", "write_text"}

#: Modules that read the environment, the settings file, and the secrets files that it names.
READ_SETTINGS = {"settings.settings", "settings.account"}


def files(package: str) -> list[Path]:
    return sorted((ROOT / package).rglob("*.py"))


def module_name(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


@cache
def imports(path: Path) -> frozenset[str]:
    """Return every module that the file imports, anywhere in it and for any purpose.

    `from package import module` counts as that module. Imports for type checkers count, too.
    """
    return frozenset(_imports(ast.parse(path.read_text("utf-8"))))


def _imports(tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute, so that they can be read"
            assert node.module is not None
            for alias in node.names:
                inner = f"{node.module}.{alias.name}"
                yield inner if is_module(inner) else node.module


def is_module(name: str) -> bool:
    path = ROOT.joinpath(*name.split("."))
    return path.with_suffix(".py").exists() or (path / "__init__.py").exists()


def room(name: str) -> str:
    """Return the folder or top module of `receiver` that contains a module: `receiver.inbox.leases` is in `inbox`."""
    return name.partition(".")[2].partition(".")[0]


def receiver_imports(path: Path) -> set[str]:
    return {name for name in imports(path) if name.partition(".")[0] == "receiver"}


def closure(module: str) -> set[str]:
    """Return the module and everything that its import brings in through our packages, other packages by name."""
    found: set[str] = set()
    waiting = [module]
    while waiting:
        name = waiting.pop()
        if name not in found:
            found.add(name)
            waiting.extend(imports(path_of(name)) if is_module(name) else ())
    return found


def path_of(name: str) -> Path:
    path = ROOT.joinpath(*name.split("."))
    return path.with_suffix(".py") if path.with_suffix(".py").exists() else path / "__init__.py"


def test_every_folder_of_the_receiver_has_a_layer() -> None:
    present = {room(module_name(path)) for path in files("receiver")} - {""}
    assert present - HEIGHT.keys() == set(), "add the folder to LAYERS and to docs/architecture.md"
    assert HEIGHT.keys() - present == set(), "LAYERS names a folder that does not exist: remove it"


def test_the_docs_show_the_same_layers() -> None:
    shown = (ROOT / "docs" / "architecture.md").read_text("utf-8").partition("## Who may import whom")[2]
    table = shown.partition("```\n")[2].partition("```")[0]
    assert [tuple(line.split()) for line in table.splitlines()] == list(LAYERS)


def those(paths: Iterable[Path], is_wrong: Callable[[Path], object]) -> dict[str, object]:
    """Return the mistakes by module, without the modules that have none."""
    return {module_name(path): wrong for path in paths if (wrong := is_wrong(path))}


def test_imports_point_one_way() -> None:
    def upwards(path: Path) -> set[str]:
        own = room(module_name(path))
        # `receiver` re-exports the names with which dialects are written.
        highest = HEIGHT[own] if own else HEIGHT["dialects"]
        return {name for name in receiver_imports(path) if room(name) and HEIGHT[room(name)] > highest}

    assert those(files("receiver"), upwards) == {}


def test_functions_are_small_enough_to_read() -> None:
    def long(path: Path) -> list[str]:
        return [
            f"{node.name}: {size} lines"
            for node in ast.walk(ast.parse(path.read_text("utf-8")))
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
            and (size := (node.end_lineno or 0) - node.lineno + 1) > LONGEST_FUNCTION
            and "migrations" not in path.parts
        ]

    assert those(files("receiver"), long) == {}


def test_modules_are_small_enough_to_read() -> None:
    def lines_too_many(path: Path) -> int:
        return max(0, len(path.read_text("utf-8").splitlines()) - LONGEST_MODULE)

    assert those(files("receiver"), lines_too_many) == {}, "divide the module in two"


def test_no_module_of_the_receiver_imports_its_public_names_from_the_package() -> None:
    found = those(files("receiver"), lambda path: "receiver" in receiver_imports(path))
    assert found == {}, "import the module that defines the name"


def packages_in(names: Iterable[str], *packages: str) -> set[str]:
    """Return those of the packages to which the names belong."""
    return {name.partition(".")[0] for name in names} & set(packages)


def test_the_receiver_knows_neither_handlers_nor_the_simulator() -> None:
    known = those(files("receiver"), lambda path: packages_in(imports(path), "handlers", "simulator", "vendors"))
    assert known == {}


def test_the_receiver_knows_no_vendor() -> None:
    def named(path: Path) -> list[str]:
        return [line for line in path.read_text("utf-8").splitlines() if VENDOR.search(line)]

    assert those(files("receiver"), named) == {}, "move the vendor's part into its dialect"


def test_the_simulator_shares_only_pure_modules_with_the_receiver() -> None:
    def shared(path: Path) -> set[str]:
        return {name.removeprefix("receiver.") for name in receiver_imports(path)} - set(PURE)

    assert those(files("simulator"), shared) == {}
    assert those(files("simulator"), lambda path: packages_in(imports(path), "handlers")) == {}


def test_handlers_use_nothing_above_the_dialects() -> None:
    def above(path: Path) -> set[str]:
        used = {room(name) for name in receiver_imports(path)} - {""}
        return {name for name in used if HEIGHT[name] > HEIGHT["dialects"]}

    assert those(files("handlers"), above) == {}
    assert those(files("handlers"), lambda path: packages_in(imports(path), "simulator")) == {}


#: Modules that the ready dialects may import, because they are examples: those that the docs name for users.
FOR_USERS = {"receiver", "receiver.senders", "receiver.codec"}


def test_ready_dialects_import_only_what_users_may() -> None:
    assert those(files("vendors"), lambda path: set(receiver_imports(path)) - FOR_USERS) == {}
    assert those(files("vendors"), lambda path: packages_in(imports(path), "simulator")) == {}


def test_no_module_of_the_endpoint_imports_the_mirror_even_through_others() -> None:
    def rooms(path: Path) -> set[str]:
        return {room(name) for name in closure(module_name(path)) if name.startswith("receiver.")}

    assert those(files("receiver/ingest"), lambda path: rooms(path) & {"mirror", "worker"}) == {}


def test_no_module_of_the_worker_imports_starlette_even_through_others() -> None:
    def servers(path: Path) -> set[str]:
        return packages_in(closure(module_name(path)), "starlette", "uvicorn")

    assert those([*files("receiver/worker"), *files("receiver/reconcile")], servers) == {}


def test_the_tables_of_every_module_are_declared_together() -> None:
    sources = {module_name(path): path.read_text("utf-8") for path in files("receiver")}
    declaring = {name for name, source in sources.items() if re.search(r"\btable=True\b", source)}
    missing = declaring - imports(path_of("receiver.server.own_tables"))
    assert missing == set(), "import them in receiver/server/own_tables.py, for the schema and for copies"


@pytest.mark.parametrize("module", PURE)
def test_pure_modules_do_no_io_and_read_no_clock(module: str) -> None:
    path = path_of(f"receiver.{module}")
    assert {name.partition(".")[0] for name in imports(path)} & IMPURE == set()
    if module in READ_SETTINGS:
        return
    calls = [node.func for node in ast.walk(ast.parse(path.read_text("utf-8"))) if isinstance(node, ast.Call)]
    called = {call.attr if isinstance(call, ast.Attribute) else getattr(call, "id", "") for call in calls}
    assert called & IMPURE_CALLS == set()


@pytest.mark.parametrize("package", ["receiver", "handlers", "simulator", "vendors"])
def test_no_import_goes_in_a_circle(package: str) -> None:
    graph = {
        module_name(path): {name for name in imports(path) if name.startswith(f"{package}.")} for path in files(package)
    }
    done: set[str] = set()

    def visit(module: str, above: tuple[str, ...]) -> None:
        assert module not in above, " → ".join([*above[above.index(module) :], module])
        if module in done:
            return
        for name in sorted(graph.get(module, ())):
            visit(name, (*above, module))
        done.add(module)

    for module in sorted(graph):
        visit(module, ())


def test_the_path_of_a_webhook_leads_through_at_most_sixteen_files() -> None:
    listed = re.findall(r"^\d+\. `(\S+\.py)`: (.*)$", (ROOT / "docs/architecture.md").read_text(), re.MULTILINE)
    missing = [
        f"{file}: {name}"
        for file, step in listed
        for name in re.findall(r"`(?:\w+\.)?(\w+)`", step)
        if not re.search(rf"(def|class) {name}\b", (ROOT / file).read_text())
    ]
    assert (0 < len(listed) <= 16, missing) == (True, [])
