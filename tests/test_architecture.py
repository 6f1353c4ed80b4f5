"""Who may import whom, read from the source: docs/architecture.md, "Who may import whom"."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

#: From the bottom up: a module may import from its own layer and from those before it.
LAYERS = {
    "pure": "errors escapes paths likeness compression codec telling patterns retries rates signatures ciphers "
    "moments envelope limits environment mistakes account settings versions tokens",
    "tables": "arrivals columns addresses database_url sqlite wal soundness checkpoints trouble postgresql "
    "database importing revisions unfinished migrations schema bulk pages deliveries intake filing "
    "claims endings inbox mirror changes workspace carriers slices digests sequences",
    "dialects": "dialects sources",
    "pipelines": "sharing metrics repeats incoming connections admission acceptor endpoint listener liveness "
    "processes retention reconcile attempts reading breaker hydration handling settlement worker premises copying",
    "surface": "queries parameters answers openapi exposition reads readiness api",
    "app": "renewal asking app line closing bounded protocol server supervisor vitals worker_thread sender "
    "permissions doctor logs copy_command options",
    "top": "cli __main__ testing",
}

LAYER_OF = {module: layer for layer, modules in LAYERS.items() for module in modules.split()}
HEIGHT = {layer: height for height, layer in enumerate(LAYERS)}

#: What a pure module must not import, because it does I/O, waits, or reads a clock.
IMPURE = {
    *("asyncio", "httpx", "logging", "random", "socket", "sqlalchemy", "sqlite3", "sqlmodel", "starlette"),
    *("subprocess", "threading", "time", "uvicorn"),
}

#: What a pure module must not call, for the same reason.
IMPURE_CALLS = {"now", "utcnow", "open", "read_bytes", "read_text", "write_bytes", "write_text"}

#: Read the environment, the settings file, and the files of secrets that it names.
READ_SETTINGS = {"settings", "account"}


def files(package: str) -> list[Path]:
    return sorted((ROOT / package).rglob("*.py"))


def module_name(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


@cache
def imports(path: Path) -> frozenset[str]:
    """Every module that the file imports, wherever in it and for whatever purpose.

    `from package import module` counts as that module. What only type checkers see counts, too.
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


def part(name: str) -> str:
    """The module of `receiver` in a layer: `receiver.console.pages` is `console`, `receiver` itself is empty."""
    return name.partition(".")[2].partition(".")[0]


def height(module: str) -> int:
    """How high the module's layer lies; what has no layer yet is above all."""
    return HEIGHT[LAYER_OF[module]] if module in LAYER_OF else len(HEIGHT)


def receiver_imports(path: Path) -> set[str]:
    return {name for name in imports(path) if name.partition(".")[0] == "receiver"}


def closure(module: str) -> set[str]:
    """The module and everything that its import brings in, by way of our own packages; names of others too."""
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


def test_every_module_of_the_receiver_has_its_layer() -> None:
    present = {part(module_name(path)) for path in files("receiver")} - {""}
    assert present - LAYER_OF.keys() == set(), "place the new module in LAYERS, and in docs/architecture.md"
    assert LAYER_OF.keys() - present == set(), "LAYERS names a module that is gone"


@pytest.mark.parametrize("layer", LAYERS)
def test_the_docs_show_the_same_layers(layer: str) -> None:
    shown = (ROOT / "docs" / "architecture.md").read_text("utf-8").partition("## Who may import whom")[2]
    line = next(line for line in shown.splitlines() if line.startswith(f"{layer} "))
    words = line.replace(",", " ").replace("(and", " ").replace(")", " ").split()[1:]
    assert sorted(words) == sorted(LAYERS[layer].split())


@pytest.mark.parametrize("path", files("receiver"), ids=module_name)
def test_imports_point_one_way(path: Path) -> None:
    own = part(module_name(path))
    # What `receiver` itself re-exports is what dialects are written with.
    highest = height(own) if own else HEIGHT["dialects"]
    upwards = {name for name in receiver_imports(path) if part(name) and height(part(name)) > highest}
    assert upwards == set()


@pytest.mark.parametrize("path", files("receiver"), ids=module_name)
def test_the_receiver_never_imports_its_own_front_door(path: Path) -> None:
    assert "receiver" not in receiver_imports(path), "import the module that has the name"


@pytest.mark.parametrize("path", files("receiver"), ids=module_name)
def test_the_receiver_knows_neither_handlers_nor_the_simulator(path: Path) -> None:
    assert {name.partition(".")[0] for name in imports(path)} & {"handlers", "simulator"} == set()


@pytest.mark.parametrize("path", files("simulator"), ids=module_name)
def test_the_simulator_shares_only_pure_modules_with_the_receiver(path: Path) -> None:
    shared = {part(name) or "the front door" for name in receiver_imports(path)}
    assert {name for name in shared if LAYER_OF.get(name) != "pure"} == set()
    assert {name for name in imports(path) if name.partition(".")[0] == "handlers"} == set()


@pytest.mark.parametrize("path", files("handlers"), ids=module_name)
def test_handlers_use_nothing_above_the_dialects(path: Path) -> None:
    used = {part(name) for name in receiver_imports(path)} - {""}
    assert {name for name in used if height(name) > HEIGHT["dialects"]} == set()
    assert {name for name in imports(path) if name.partition(".")[0] == "simulator"} == set()


@pytest.mark.parametrize("module", ["endpoint", "admission", "acceptor", "incoming", "connections"])
def test_the_endpoint_never_imports_the_mirror(module: str) -> None:
    used = {part(name) for name in receiver_imports(ROOT / "receiver" / f"{module}.py")}
    assert used & {"mirror", "workspace", "versions", "changes", "worker"} == set()


@pytest.mark.parametrize("module", ["receiver.worker.worker", "receiver.reconcile", "receiver.ingest.endpoint"])
def test_the_pipelines_never_import_starlette_by_any_way(module: str) -> None:
    assert {name.partition(".")[0] for name in closure(module)} & {"starlette", "uvicorn"} == set()


@pytest.mark.parametrize("module", LAYERS["pure"].split())
def test_pure_modules_do_no_io_and_read_no_clock(module: str) -> None:
    path = ROOT / "receiver" / f"{module}.py"
    assert {name.partition(".")[0] for name in imports(path)} & IMPURE == set()
    if module in READ_SETTINGS:
        return
    calls = [node.func for node in ast.walk(ast.parse(path.read_text("utf-8"))) if isinstance(node, ast.Call)]
    called = {call.attr if isinstance(call, ast.Attribute) else getattr(call, "id", "") for call in calls}
    assert called & IMPURE_CALLS == set()


@pytest.mark.parametrize("package", ["receiver", "handlers", "simulator"])
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
