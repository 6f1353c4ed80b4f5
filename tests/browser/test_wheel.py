"""The console from the wheel: templates, style sheet and scripts are in it, and files that only tests need are not."""

from __future__ import annotations

import os
import subprocess
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import quote

import httpx
import pytest
from browsing import Browsing, sign_in
from installing import ROOT, install_wheel, wheel_of
from ports import free_port
from serving import SECRET_KEY
from visiting import new_link
from waiting import wait_until

SETTINGS = f"""
secret_key = "{SECRET_KEY}"
console = true

[sources.iimmpact]
secrets = ["secret-of-these-tests-only"]
"""


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> Path:
    return wheel_of(ROOT, tmp_path_factory.mktemp("wheel"))


@contextmanager
def serving_from(python: Path, folder: Path) -> Iterator[tuple[str, str]]:
    """Serve from this folder with this Python; give the address, and a link that signs in."""
    (folder / "hookmirror.toml").write_text(SETTINGS)
    (folder / "hookmirror.toml").chmod(0o600)
    site = f"http://127.0.0.1:{free_port()}"
    given = {"HOOKMIRROR_CONFIG": "hookmirror.toml", "HOOKMIRROR_DATABASE_URL": "sqlite:///hookmirror.db"}
    around = {"cwd": folder, "env": {**os.environ, **given}}
    serve = [str(python), "-m", "receiver", "serve", "--port", site.rpartition(":")[2]]
    with subprocess.Popen(serve, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, **around) as process:
        try:
            wait_until(lambda: process.poll() is not None or is_there(site), "the server of the wheel")
            yield site, f"{site}/console/sign-in?link={quote(new_link())}"
        finally:
            process.kill()


def is_there(site: str) -> bool:
    try:
        return httpx.get(f"{site}/readyz").status_code == 200
    except httpx.TransportError:
        return False


def test_a_page_opens_from_the_installed_wheel(wheel, chromium, tmp_path):
    python = install_wheel(wheel, tmp_path / "environment")
    with serving_from(python, tmp_path) as (site, link):
        browsing = Browsing(chromium, site, sign_in(chromium, site, link))
        page = browsing.open("/console/")
        assert "Nothing needs you." in page.locator("main").inner_text()
        # The style sheet and the script have taken effect.
        assert page.evaluate("() => getComputedStyle(document.body).marginTop") == "0px"
        page.keyboard.press("/")
        assert page.evaluate("() => document.activeElement.name") == "q"
        browsing.close()
        browsing.watch.check()


def test_the_wheel_contains_no_file_that_only_tests_need(wheel):
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
        (metadata,) = [name for name in names if name.endswith("METADATA")]
        wanted = [line for line in archive.read(metadata).decode().splitlines() if line.startswith("Requires-Dist:")]
    assert not [name for name in names if "axe" in name or name.startswith("tests/")]
    assert not [line for line in wanted if "playwright" in line or "axe" in line]
