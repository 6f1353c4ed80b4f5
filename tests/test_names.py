"""One name for one thing: the names in the code, and the glossary that explains them."""

from __future__ import annotations

import ast
import re
from collections import defaultdict
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

#: Names that two modules of `receiver` define, and the reason why that is not misleading.
ALLOWED = {
    "Action": "the API's schema of an action: OpenAPI shows the name of the class",
    "Attempt": "the API's schema of an attempt: OpenAPI shows the name of the class",
    "Change": "the API's schema of a change",
    "Round": "the API's schema of a round",
    "BUTTONS": "each module of pages has its own, and `contents` gathers them",
    "PAGES": "each module of pages has its own, and `contents` gathers them",
    "Run": "the API's schema of a run",
    "Delivery": "the API's schema of a delivery",
}

#: Modules whose names are another form of a word in the glossary.
FORMS = {
    "admission": "admit",
    "asking": "ask",
    "handling": "handler",
    "hydration": "hydrate",
    "settlement": "settle",
    "reconciling": "reconcile",
    "reverifying": "verify",
    "replayable": "replay",
    "hooks": "delivery",
    "feed": "change feed",
    "tailing": "arrival",
    "counting": "tally",
    "gathering": "situation",
    "watching": "duty",
    "standing": "finding",
    "upkeep": "retention",
    "challenging": "challenge",
    "shadowing": "shadow",
    "replies": "reply",
    "reclaiming": "reclaim",
    "pruning": "prune",
    "pressing": "button",
    "remedies": "remedy",
    "drafting": "draft",
    "capturing": "capture",
    "new_dialect": "dialect",
    "supervised": "supervisor",
    "plan_filters": "plan",
}

#: Names of modules that a newcomer knows, because the words mean the same elsewhere; by reason.
PLAIN = {
    "Python's and the shell's own": [
        "__init__",
        "__main__",
        "cli",
        "app",
        "server",
        "thread",
        *("interpreter", "interrupts", "signals", "sockets", "system_limits", "daemon_threads", "lifespan"),
        "testing",
        "errors",
        "logs",
        "annotations",
        *("code", "naming", "members", "examples"),
    ],
    "what one types as a command, in docs/operations.md": [
        *(
            "commands",
            "copy",
            "doctor",
            "follow",
            "tail",
            "top",
            "migrate",
            "prune",
            "reload",
            "retry",
            "rehearse",
            "send",
            "serve",
            "serving",
            "show",
            "row",
            "options",
            "progress",
            "worker",
            "client",
            *("client_protocol", "local_client", "remote_client"),
            "selection",
        ),
    ],
    "of HTTP and its APIs": [
        *(
            "api",
            "request",
            "endpoint",
            "headers",
            "openapi",
            "routes",
            "schemas",
            "parameters",
            "pages",
            "queries",
            "paths",
            "tokens",
            "urls",
        ),
        *(
            "token",
            *("connections", "heads", "parser"),
            "line",
            "docs_page",
            "resources",
            "etags",
            "pagination",
            "numbers",
            "compression",
            "health",
            "probes",
            "readiness",
            "lookup",
            "operations",
        ),
        *(
            "reads",
            "limits",
            "cursors",
            "filters",
            "arguments",
            "search",
            "hits",
            "statistics",
            "stats",
            "windows",
            "window",
            "catalog",
        ),
    ],
    "of sites that people look at": [
        *(
            "answers",
            "asked_source",
            "charts",
            "contents",
            "downloads",
            "footers",
            "forms",
            "hosts",
            "lists",
            "overview",
            "periods",
            "system",
            "rendering",
        ),
        *(
            "console_link",
            "live",
            "page_reads",
            "timeline",
            "sign_in",
            "site",
            "static_files",
            "console_app",
            "api_parts",
        ),
    ],
    "of databases": [
        *("database", "columns", "tables", "rows", "changes", "bulk", "insert", "postgresql", "sqlite", "wal", "files"),
        "locks",
        *(
            "checkpoints",
            "unit_of_work",
            "sequences",
            "slices",
            "conversions",
            "normalizers",
            "digests",
            "record",
            "keeping",
            "identity",
            "byte_arrays",
            "temporary",
            *("own_tables", "usable_tables", "foreign_tables", "foreign_keys", "rebuilt_tables", "page_sizes"),
            "search_paths",
            "calendar",
            "stored_types",
        ),
        *(
            "snapshots",
            "shared_results",
            "engines",
            *("statement_timeouts", "lock_timeouts"),
            "row_shapes",
            "delivery_shapes",
            "leases",
            "formatting",
        ),
    ],
    "of queues and services": [
        *(
            "backpressure",
            "batch_sizes",
            "wake_ups",
            "breaker",
            "due",
            "retries",
            "ids",
            "results",
            "liveness",
            "listener",
            "registry",
            "acceptor_starts",
            "runtime",
            "metrics",
            "few_names",
            "states",
        ),
        *("exposition", "rates", "group_commit", "fast_path", "ingest", "sharing", "work", "runs", "findings", "rules"),
        *(
            "tallies",
            "forecast",
            "report",
            "repair",
            "walk",
            "actions",
            "refused",
            "refusals",
            "following",
            "lag",
            "addresses",
            "http_urls",
            "http_calls",
            "provenance",
        ),
    ],
    "of security": [
        "signatures",
        "composed",
        "signature_plan",
        "key_sets",
        "web_signatures",
        "header_values",
        "taking_headers",
        "own_settings",
        "bodies",
        "secret_forms",
        "diagnosis",
        "doubts",
        "algorithms",
        "freshness",
        "encodings",
        "templates",
        "places",
        "ciphers",
        "layouts",
        "permissions",
        "redaction",
        "escapes",
        "standard_error",
        "safe_text",
        "sniffing",
        "codec",
        "decoders",
    ],
    "of settings": ["settings", "environment", "account", "loading", "reloading", "renewal", "mistakes", "release"],
    "English nouns and verbs for what the module's first line says": [
        "advice",
        *(
            "bounded",
            "closing",
            "copying",
            "incoming",
            "moments",
            "outages",
            "patterns",
            "preconditions",
            "reading",
            "repeats",
        ),
        *("sending", "soundness", "unfinished", "planning", "wording"),
        *(
            "candidates",
            "differences",
            "disk_room",
            "newest_deliveries",
            "times",
            "outcomes",
            "forks",
            "isolation",
            "kept",
            "origins",
            "recomputation",
            "recorded",
            "scratch",
        ),
        *("added_columns", "arrival_watch", "bundles", "huge_numbers", "proofs", "remarks"),
        *("outcomes", "stored", "telling", "traces", "trial", "why"),
    ],
}


def modules(package: str) -> list[Path]:
    """Return the package's modules, without migrations, which keep the names of their time."""
    return [path for path in sorted((ROOT / package).rglob("*.py")) if "migrations" not in path.parts]


def public_names(path: Path) -> set[str]:
    """Return the public classes, aliases and constants that a module defines at its top level.

    Type variables and loggers are local to their module by convention.
    """
    return {name for node in ast.parse(path.read_text("utf-8")).body for name in _defined(node)} - {"log"}


def _defined(node: ast.stmt) -> Iterator[str]:
    if isinstance(node, ast.ClassDef):
        names = [node.name]
    elif isinstance(node, ast.Assign) and not _is_type_variable(node.value):
        names = [name for target in node.targets for name in _targets(target)]
    elif isinstance(node, ast.AnnAssign):
        names = list(_targets(node.target))
    else:
        names = []
    yield from (name for name in names if not name.startswith("_"))


def _targets(target: ast.expr) -> Iterator[str]:
    if isinstance(target, ast.Name):
        yield target.id
    elif isinstance(target, ast.Tuple):
        for each in target.elts:
            yield from _targets(each)


def _is_type_variable(value: ast.expr) -> bool:
    return isinstance(value, ast.Call) and getattr(value.func, "id", "") in {"TypeVar", "ParamSpec"}


def shared(places: dict[str, set[str]]) -> dict[str, list[str]]:
    """Return the names that more than one place defines, with the places."""
    found = defaultdict(list)
    for place, names in places.items():
        for name in names:
            found[name].append(place)
    return {name: where for name, where in sorted(found.items()) if len(where) > 1}


def names_of(package: str) -> dict[str, set[str]]:
    return {str(path.relative_to(ROOT)): public_names(path) for path in modules(package)}


def test_no_two_modules_of_the_receiver_define_the_same_name() -> None:
    found = shared(names_of("receiver"))
    assert {name: where for name, where in found.items() if name not in ALLOWED} == {}, (
        "rename one of them, so that the name says what it belongs to"
    )
    assert ALLOWED.keys() - found.keys() == set(), "only one module defines the name: remove it from ALLOWED"


@pytest.mark.parametrize(("package", "kin"), [("simulator", "simulator/systems/"), ("handlers", "handlers/")])
def test_only_systems_and_dialects_of_one_vendor_each_share_names(package: str, kin: str) -> None:
    """Each simulated system has its `Api`, and each dialect its `Body`.

    They are alike on purpose, and not imported together.
    """
    common = {"handlers/api.py", "handlers/catalog.py", "handlers/values.py", "simulator/systems/base.py"}
    places = names_of(package)
    own = {path: names for path, names in places.items() if path.startswith(kin) and path not in common}
    rest = {path: names for path, names in places.items() if path not in own}
    together = {name: where for name, where in shared(places).items() if any(path in rest for path in where)}
    assert together == {}, "rename one of them, so that the name says what it belongs to"


@pytest.mark.parametrize(
    "system", sorted(path.name for path in (ROOT / "simulator/systems").iterdir() if path.is_dir())
)
def test_no_two_modules_of_a_simulated_system_define_the_same_name(system: str) -> None:
    assert shared(names_of(f"simulator/systems/{system}")) == {}


# ── the glossary ──────────────────────────────────────────────────────────────────────────────────────────────

GLOSSARY = (ROOT / "docs" / "glossary.md").read_text("utf-8")

WORDS = re.findall(r"^\*\*([^*]+)\*\*:", GLOSSARY, re.M)

PLAIN_WORDS = {word for words in PLAIN.values() for word in words}


@cache
def prose_and_code() -> str:
    """Return the text in which a word counts as used: the code with its comments and messages, and the docs."""
    docs = [path for path in (ROOT / "docs").rglob("*.md") if path.name != "glossary.md"]
    code = [path for package in ("receiver", "handlers") for path in (ROOT / package).rglob("*.py")]
    return "\n".join(path.read_text("utf-8") for path in [ROOT / "README.md", *docs, *code])


def test_every_word_of_the_glossary_is_used() -> None:
    text = prose_and_code()
    used = {word: re.escape(word).replace("\\ ", r"[\s_]+") for word in WORDS}
    unused = [word for word, pattern in used.items() if not re.search(rf"(?<![a-z]){pattern}", text, re.I)]
    assert unused == [], "no code and no page uses the words: remove them from the glossary"


def test_every_module_is_named_by_a_word_of_the_glossary_or_of_the_field() -> None:
    unknown = {
        part
        for path in modules("receiver")
        for part in path.relative_to(ROOT / "receiver").with_suffix("").parts
        if not is_known(part)
    }
    assert unknown == set(), "explain the words in docs/glossary.md, or choose names that are known elsewhere"


def is_known(module: str) -> bool:
    words = {FORMS.get(module, module), module.removesuffix("s"), module.removesuffix("es"), f"{module[:-3]}y"}
    return module in PLAIN_WORDS or any(word.replace("_", " ") in WORDS for word in words)
