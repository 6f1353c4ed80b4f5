"""Entry points of installed packages: looked for once, and again when a package was installed."""

from __future__ import annotations

from importlib import metadata

import pytest

from receiver.loading import entry_points


@pytest.fixture
def looked(monkeypatch) -> list[int]:
    """Note each search through all installed packages."""
    seen, search = [], metadata.entry_points

    def noted():
        seen.append(1)
        return search()

    monkeypatch.setattr(metadata, "entry_points", noted)
    return seen


def install(folder, name: str) -> None:
    """Make a package with an entry point, as pip installs it."""
    about = folder / f"{name}-1.0.dist-info"
    about.mkdir()
    (about / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
    (about / "entry_points.txt").write_text(f"[hookmirror.dialects]\n{name} = {name}:dialect\n")


def names() -> set[str]:
    return {point.name for point in entry_points("hookmirror.dialects")}


def test_packages_are_searched_once_even_for_several_groups_and_with_another_folder_of_modules(
    tmp_path, monkeypatch, looked
):
    entry_points("hookmirror.dialects")
    looked.clear()
    monkeypatch.syspath_prepend(tmp_path)
    assert "sigma" in names()
    assert {point.name for point in entry_points("hookmirror.migrations")} >= {"catalog"}
    assert looked == []


def test_a_package_that_is_installed_while_the_process_runs_is_found(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(tmp_path)
    before = names()
    install(tmp_path, "acme")
    assert names() - before == {"acme"}
    install(tmp_path, "zenith")
    assert names() - before == {"acme", "zenith"}
