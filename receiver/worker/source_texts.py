"""Source texts: hashes of the modules whose code decides the result of a delivery."""

from __future__ import annotations

import ast
import hashlib
import inspect
import sys
from collections.abc import Callable, Iterable, Iterator
from functools import cache
from importlib.machinery import ModuleSpec
from importlib.util import find_spec, resolve_name
from typing import Any

#: Parts of a path below which libraries are installed.
INSTALLED = ("site-packages", "dist-packages")

#: The words between the name of a module and the hash of its text.
HAS_TEXT = " has the source text "


def source_texts(functions: Iterable[Callable[..., Any]]) -> Iterator[str]:
    """Yield a line for each module behind these functions, sorted by name."""
    for module in modules_behind(functions):
        if digest := source_digest(module):
            yield f"module {module}{HAS_TEXT}{digest}"


def texts_by_module(lines: Iterable[str]) -> dict[str, str]:
    """The hashes by module, from the lines of `source_texts`; other lines are skipped."""
    named = (line.removeprefix("module ").partition(HAS_TEXT) for line in lines if line.startswith("module "))
    return {module: digest for module, _, digest in named if digest}


def modules_behind(functions: Iterable[Callable[..., Any]]) -> list[str]:
    """List the modules of these functions, and the modules that they import directly or indirectly, sorted by name.

    Imported modules count only if they belong to the same package, or are not installed as a library: Python and
    libraries are not edited, and Hookmirror has its release.
    """
    waiting = sorted({inspect.unwrap(function).__module__ for function in functions})
    packages = {_package(module) for module in waiting}
    found: set[str] = set()
    while waiting:
        module = waiting.pop()
        if module not in found:
            found.add(module)
            waiting += (each for each in _imports(module) if _is_own(each, packages))
    return sorted(found)


@cache
def source_digest(module: str) -> str:
    """Hash a module's source text; empty if there is none, as for compiled code."""
    text = _text(module)
    return hashlib.blake2s(text.encode("utf-8", "surrogatepass"), digest_size=8).hexdigest() if text else ""


@cache
def _text(module: str) -> str:
    """Read a module's source text, once per process, because later edits do not run in this process."""
    loader = getattr(sys.modules.get(module), "__loader__", None) or getattr(_spec(module), "loader", None)
    try:
        return loader.get_source(module) or "" if loader is not None else ""
    except (AttributeError, ImportError, OSError, SyntaxError, UnicodeError):
        return ""


@cache
def _imports(module: str) -> tuple[str, ...]:
    """The modules that a module imports at any place in its text."""
    try:
        tree = ast.parse(_text(module))
    except (SyntaxError, ValueError, RecursionError):
        return ()
    loaded = sys.modules.get(module)
    package = str(getattr(loaded, "__package__", None) or module.rpartition(".")[0])
    return tuple(sorted({name for node in _statements(tree) for name in _named(node, package)}))


def _statements(tree: ast.Module) -> Iterator[ast.AST]:
    """Yield the statements of a module at any depth. Expressions, most of the tree, hold none and are skipped."""
    waiting: list[ast.AST] = [tree]
    while waiting:
        node = waiting.pop()
        yield node
        for field in ("body", "orelse", "finalbody", "handlers", "cases"):
            waiting += getattr(node, field, ())


def _named(node: ast.AST, package: str) -> Iterator[str]:
    if isinstance(node, ast.Import):
        yield from (alias.name for alias in node.names)
    elif isinstance(node, ast.ImportFrom):
        try:
            base = resolve_name("." * node.level + (node.module or ""), package)
        except ImportError:
            return
        yield base
        # A name that is imported from a package may be a module.
        yield from (f"{base}.{alias.name}" for alias in node.names)


def _is_own(module: str, packages: Iterable[str]) -> bool:
    package = _package(module)
    if package == "receiver" or package in sys.stdlib_module_names:
        return False
    spec = _spec(module)
    file = None if spec is None else spec.origin
    return file is not None and (package in packages or not any(part in file for part in INSTALLED))


@cache
def _spec(module: str) -> ModuleSpec | None:
    """Find a module; None for a name that is not a module, or whose package has not been imported."""
    parent = module.rpartition(".")[0]
    if parent and parent not in sys.modules:
        return None
    try:
        return find_spec(module)
    except (ImportError, ValueError, AttributeError):
        return None


def _package(module: str) -> str:
    return module.partition(".")[0]
