"""A rotated secret, in the browser: requests refused meanwhile are accepted as soon as the settings are read again."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from browsing import Browsing, sign_in
from commanding import SECRETS, Folder
from senders import sent
from waiting import wait_until

NEW_SECRET = "the-new-secret-of-these-tests"


@pytest.fixture
def rotating(tmp_path: Path) -> Iterator[tuple[Folder, httpx.Client]]:
    """An installation of its own, since its settings change."""
    folder = Folder(tmp_path)
    with folder.serving("--console") as (_, client):
        yield folder, client


@pytest.mark.parametrize("scripts", [True, False], ids=["with scripts", "without scripts"])
def test_a_new_secret_is_read_by_the_second_click_and_nothing_is_lost(chromium, rotating, scripts):
    folder, client = rotating
    site = str(client.base_url).rstrip("/")
    for number in range(3):
        content, headers = sent("indexed", b'{"event": "product.updated", "number": %d}' % number, NEW_SECRET)
        assert client.post("/hooks/indexed", content=content, headers=headers).status_code == 401
    wait_until(lambda: folder.count(table="refused") == 3, "the keeper")
    link = folder.run("console-link", "--role", "operator", "--name", "mia", "--url", site).stdout.strip()
    browsing = Browsing(chromium, site, sign_in(chromium, site, link))
    page = browsing.open("/console/refused", scripts=scripts)
    page.get_by_text("indexed: 3 kept").wait_for()

    # A person writes it into the file of settings, which the console never does.
    old = f'secrets = ["{SECRETS["indexed"]}"]'
    folder.settings = folder.settings.replace(old, f'secrets = ["{NEW_SECRET}", "{SECRETS["indexed"]}"]')
    folder.surroundings()

    page.get_by_role("link", name="System").click()
    page.get_by_role("button", name="Read the settings again").click()
    page.get_by_text("1 process has the present settings.").wait_for()
    wait_until(lambda: folder.count(table="refused") == 0, "the kept requests to be verified")
    page.get_by_role("link", name="Refused").click()
    page.get_by_text("No refused request is kept").wait_for()
    assert folder.count("source = 'indexed'") == 3
    told = {(each["what"], each["who"], each["via"]) for each in folder.ask("actions")}
    assert ("reload settings", "mia", "console") in told
    assert ("verify refused", "settings", "schedule") in told
    browsing.close()
    browsing.watch.check()
