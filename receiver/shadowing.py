"""Shadowing: finds modules of the user with the name of another module, which hides one of the two.

Hookmirror's packages take precedence over files beside the settings. A file that hides an installed package or a module
of Python's causes a warning, because all other code that imports the name gets the file.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Sequence
from importlib.machinery import ModuleSpec, PathFinder
from pathlib import Path
from types import ModuleType

#: The packages of this distribution, and their folder.
OWN_PACKAGES = ("receiver", "handlers", "simulator", "vendors")
HOME = Path(__file__).parent.parent

#: The folders that `add_folder` has put on the path.
_added: set[str] = set()


class _OwnPackages:
    """Finds the packages of this distribution in their folder, whatever precedes it on the path."""

    @staticmethod
    def find_spec(name: str, path: Sequence[str] | None = None, target: ModuleType | None = None) -> ModuleSpec | None:
        if path is not None or name not in OWN_PACKAGES:
            return None
        return PathFinder.find_spec(name, [str(HOME)], target)


def add_folder(folder: Path) -> None:
    """Allow imports of modules from this folder, except in place of a package of this distribution."""
    if _OwnPackages not in sys.meta_path:
        sys.meta_path.insert(0, _OwnPackages)
    if str(folder) not in sys.path:
        sys.path.insert(0, str(folder))
        _added.add(str(folder))


def path_of_packages() -> list[str]:
    """The folders of Python's own modules, and then those of all other modules in their order, without added folders.

    Another interpreter with this path finds every other module where this process finds it. Python's own come first,
    because a folder that came onto the path after their import hides none of them here. The folder of our packages is
    among the others.
    """
    standard = os.path.dirname(os.__file__)
    own = [standard, os.path.join(standard, "lib-dynload")]
    path = map(os.path.abspath, sys.path)
    others = [each for each in path if each not in _added and each not in own]
    return [*own, *others] if str(HOME) in others else [*own, *others, str(HOME)]


def taken_name(module: str, folder: Path | None) -> str | None:
    """An error message for a module in the folder whose name is that of a package of ours; None for any other."""
    top = module.partition(".")[0]
    file = _file(top, folder)
    if file is None or top not in OWN_PACKAGES or folder is None or folder.resolve() == HOME:
        return None
    return f"the name {top!r} is taken by a package of Hookmirror, which hides {file}. Rename yours, such as my_{top}"


def stolen_name(module: str) -> str | None:
    """An error message for a module of ours whose package was imported from elsewhere before; None if it was not."""
    top = module.partition(".")[0]
    found = getattr(sys.modules.get(top), "__file__", None)
    if top not in OWN_PACKAGES or found is None or Path(found).resolve().is_relative_to(HOME):
        return None
    return (
        f"{found} was imported under the name {top!r} before, which is that of a package of Hookmirror's own: rename it"
    )


def shadowed(module: str, folder: Path | None) -> str | None:
    """A warning for a module in the folder with the name of another module; None for a module without a namesake."""
    top = module.partition(".")[0]
    file = _file(top, folder)
    if file is None or folder is None or top in OWN_PACKAGES:
        return None
    if top in sys.stdlib_module_names:
        other = "a module of Python's own"
    else:
        elsewhere = [entry for entry in sys.path if os.path.realpath(entry or ".") != os.path.realpath(folder)]
        found = PathFinder.find_spec(top, elsewhere)
        if found is None or found.origin is None:
            return None
        other = f"the installed {found.origin}"
    return f"{file} has the name of {other}, and hides it or is hidden: rename yours, such as my_{top}."


def doubts_about(references: Iterable[str], folder: Path | None) -> list[str]:
    """List warnings, a sentence each, about modules and packages in the folder with the names of others."""
    found = [shadowed(reference.partition(":")[0], folder) for reference in references]
    if folder is not None and folder.resolve() != HOME:
        # Any code may import a module of Python's own, so that files that no dialect names hide it, too.
        found += [shadowed(name, folder) for name in sorted(_modules_in(folder) & sys.stdlib_module_names)]
        taken = [taken_name(name, folder) for name in OWN_PACKAGES]
        found += [f"{message[0].upper()}{message[1:]}." for message in taken if message is not None]
    return list(dict.fromkeys(doubt for doubt in found if doubt is not None))


def _modules_in(folder: Path) -> set[str]:
    """The names of the files and folders that may be modules or packages; empty for an unreadable folder."""
    try:
        return {name.removesuffix(".py") for name in os.listdir(folder)}
    except OSError:
        return set()


def _file(top: str, folder: Path | None) -> Path | None:
    """The path of the package or module of this name in the folder."""
    if folder is None or not top.isidentifier():
        return None
    package, module = folder / top, folder / f"{top}.py"
    if package.is_dir() and any(package.rglob("*.py")):
        return package
    return module if module.is_file() else None
