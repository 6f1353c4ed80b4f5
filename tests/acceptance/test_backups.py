"""The backups of docs/deployment.md, made and restored with the commands of that page."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
from contextlib import closing
from pathlib import Path

import pytest
from commanding import Folder, post, product, wait_until
from composing import POSTGRESQL_PROGRAMS, ROOT
from sqlalchemy import make_url

from receiver.database.database import Database
from receiver.inbox.tables import DELIVERIES

PAGE = (ROOT / "docs" / "deployment.md").read_text("utf-8").partition("## Backup and restore")[2]


def documented(program: str) -> list[str]:
    """Return the words of the page's only command with this program."""
    (line,) = re.findall(rf"^{program} .+$", PAGE, re.MULTILINE)
    return shlex.split(line)


def steps_with(program: str) -> str:
    """Return the page's block of commands in which this program is."""
    (block,) = (
        each for each in re.findall(r"```sh\n(.*?)```", PAGE, re.DOTALL) if re.search(f"^{program} ", each, re.M)
    )
    return block


def post_some(folder: Folder, key: str, *, numbers: range) -> list[str]:
    """Post some webhooks, wait until they are processed, and return the ids of their deliveries."""
    with folder.serving() as (_, client):
        acked = [post(client, product(number, key=key, name="Lamp")).json()["delivery"] for number in numbers]
        wait_until(lambda: set(states(folder, acked).values()) == {"processed"}, "the worker")
    return acked


def states(folder: Folder, wanted: list[str]) -> dict[str, str]:
    database = Database(folder.url)
    try:
        with database.read() as connection:
            found = {str(row.id): row.state for row in connection.execute(DELIVERIES.select())}
    finally:
        database.close()
    return {each: found[each] for each in wanted if each in found}


def check_that_it_goes_on(folder: Folder, kept: list[str]) -> None:
    """Check that the restored copy knows the earlier webhooks, and accepts the later ones as new."""
    assert set(states(folder, kept).values()) == {"processed"}
    with folder.serving() as (_, client):
        again = post(client, product(1, key="before", name="Lamp")).json()
        assert (again["status"], again["delivery"] in kept) == ("duplicate", True)
        sent_again = post(client, product(1, key="after", name="Lamp")).json()
        assert sent_again["status"] == "accepted"
        wait_until(lambda: set(states(folder, [sent_again["delivery"]]).values()) == {"processed"}, "the worker")


@pytest.mark.skipif(shutil.which("sqlite3") is None, reason="the sqlite3 shell is not installed")
def test_a_copy_of_the_file_made_while_the_server_runs_can_replace_the_file(tmp_path):
    folder = Folder(tmp_path)
    kept = post_some(folder, "before", numbers=range(20))
    with folder.serving():
        subprocess.run(documented("sqlite3"), cwd=tmp_path, check=True, timeout=300)
    lost = post_some(folder, "after", numbers=range(5))
    for ending in ("-wal", "-shm"):
        (tmp_path / f"hookmirror.db{ending}").unlink(missing_ok=True)
    (tmp_path / "backup.db").replace(folder.database)
    assert states(folder, lost) == {}
    check_that_it_goes_on(folder, kept)


@pytest.mark.skipif(shutil.which("sqlite3") is None, reason="the sqlite3 shell is not installed")
def test_a_backup_and_the_file_restored_from_it_are_readable_for_their_owner_only(tmp_path):
    with closing(Database(f"sqlite:///{tmp_path / 'hookmirror.db'}")) as database:
        database.create_tables()
    for program, made in (("sqlite3", "backup.db"), ("cp", "hookmirror.db")):
        subprocess.run(["sh", "-ec", f"umask 022\n{steps_with(program)}"], cwd=tmp_path, check=True, timeout=300)
        assert (tmp_path / made).stat().st_mode & 0o777 == 0o600


def test_a_dump_of_postgresql_can_be_restored_into_an_empty_database(tmp_path, new_postgresql_url):
    old, new = new_postgresql_url(), new_postgresql_url()
    folder = Folder(tmp_path, database_url=old)
    folder.migrate()
    kept = post_some(folder, "before", numbers=range(20))
    with folder.serving():
        postgresql(old, documented("pg_dump"), tmp_path)
    assert steps_with("pg_dump").startswith("umask 077\n")
    lost = post_some(folder, "after", numbers=range(5))
    postgresql(new, documented("pg_restore"), tmp_path)
    restored = Folder(tmp_path, database_url=new)
    assert "MEND" not in restored.run("doctor").stdout
    assert states(restored, lost) == {}
    check_that_it_goes_on(restored, kept)


def postgresql(url: str, command: list[str], folder: Path) -> None:
    """Replace the program's database in a documented command by this one."""
    where = make_url(url)
    command = [re.sub(r"^(--dbname=)?hookmirror$", rf"\1{where.database}", word) for word in command]
    surroundings = {
        "PATH": f"{POSTGRESQL_PROGRAMS}{os.pathsep}{os.environ['PATH']}",
        "PGHOST": where.host or str(where.query.get("host", "")),
        "PGPORT": str(where.port or 5432),
        "PGUSER": where.username or "",
        "PGPASSWORD": str(where.password or ""),
    }
    subprocess.run(command, cwd=folder, env=surroundings, check=True, timeout=300)
