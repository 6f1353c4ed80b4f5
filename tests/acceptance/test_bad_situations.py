"""Bad settings, secrets, databases and arguments get one line that says what to do, without a traceback."""

from __future__ import annotations

import socket
import sqlite3
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path

import pytest
from commanding import SECRET_KEY, SETTINGS, Folder, Forks, free_port, lines

Situation = tuple[Callable[[Path], "Folder | contextmanager"], tuple[str, ...], str]

TWO_HANDLERS = """
from receiver import Dialect, Envelope, Event, HmacSha256, Mirror

shop = Dialect("shop", verify=HmacSha256(header="X-Signature"))

@shop.on("product.*")
def one(event: Event, mirror: Mirror) -> None: ...

@shop.on("product.*")
def two(event: Event, mirror: Mirror) -> None: ...
"""

NO_COMPOSE = """
from receiver import Dialect, Envelope, HmacSha256

shop = Dialect("shop", verify=HmacSha256(header="X-Signature"))

@shop.envelope
def read(body: dict) -> Envelope:
    raise KeyError("kind")
"""

NUMBERED = """
from receiver import Dialect, Envelope, HmacSha256

shop = Dialect("shop", verify=HmacSha256(header="X-Signature"))

@shop.envelope
def read(body: dict) -> Envelope:
    return Envelope(event_type=body["what"], entity=("product", str(body["number"])))

@shop.compose
def write(event_type, entity_id, at, data):
    return {"what": event_type, "number": int(entity_id)}
"""

TAKEN_NAME = """
from receiver import MirrorRow

class Item(MirrorRow, table=True):
    __tablename__ = "products"
"""


def plain(path: Path) -> Folder:
    return Folder(path)


def with_database(path: Path) -> Folder:
    """Use the usual settings and an empty database of this release; `migrate` runs first."""
    return Folder(path)


def setting(text: str) -> Callable[[Path], Folder]:
    """Add a line at the top of the usual settings."""
    return lambda path: Folder(path, text + "\n" + SETTINGS)


def instead(text: str, *, log: str = "info") -> Callable[[Path], Folder]:
    """Use other settings."""
    return lambda path: Folder(path, f'secret_key = "{SECRET_KEY}"\nlog_level = "{log}"\n{text}')


def variable(name: str, value: str | None) -> Callable[[Path], Folder]:
    return lambda path: Folder(path, environment={name: value})


def module(content: str) -> Callable[[Path], Folder]:
    def make(path: Path) -> Folder:
        (path / "shopping_mall.py").write_text(content)
        listening = 'dialects = ["shopping_mall:shop"]\n[sources.shop]\nsecrets = ["x"]'
        return Folder(path, f'secret_key = "{SECRET_KEY}"\n{listening}')

    return make


def without_secret_key(path: Path) -> Folder:
    return Folder(path, SETTINGS.replace("secret_key", "# secret_key"))


def short_secret_key(path: Path) -> Folder:
    """Use two keys, one of which is too short by itself."""
    return Folder(path, SETTINGS.replace(SECRET_KEY, f"{SECRET_KEY} fifteen-letters"))


def no_file(path: Path) -> Folder:
    return Folder(path, settings="")


def nonsense_in_the_file(path: Path) -> Folder:
    return Folder(path, f'database_url = "mysql://x/y"\n{SETTINGS}', environment={"HOOKMIRROR_DATABASE_URL": None})


def a_folder_as_settings(path: Path) -> Folder:
    (path / "hookmirror.toml").mkdir()
    return no_file(path)


def latin_settings(path: Path) -> Folder:
    (path / "hookmirror.toml").write_bytes(b"# \xe9")
    return no_file(path)


def a_folder_as_database(path: Path) -> Folder:
    (path / "hookmirror.db").mkdir()
    return Folder(path)


def a_picture_as_database(path: Path) -> Folder:
    (path / "hookmirror.db").write_bytes(b"\x89PNG" * 1_000)
    return Folder(path)


def a_full_disk(path: Path) -> Folder:
    """Bound the size of every file that the process writes, far below the size of the tables."""
    return Folder(path, before="import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))")


@contextmanager
def a_locked_database(path: Path) -> Iterator[Folder]:
    with closing(sqlite3.connect(path / "hookmirror.db", isolation_level=None, check_same_thread=False)) as other:
        other.execute("BEGIN EXCLUSIVE")
        # The command gives up.
        yield Folder(path, patience=False)


def taken(port: int) -> Callable[[Path], Folder]:
    @contextmanager
    def a_taken_port(path: Path) -> Iterator[Folder]:
        with socket.create_server(("127.0.0.1", port)):
            yield Folder(path)

    return a_taken_port


#: One port for each situation, because they run at the same time.
TAKEN = [str(free_port()) for _ in range(3)]


#: By name: the situation, the command, and the text that its line must contain.
SITUATIONS: dict[str, Situation] = {
    "no settings file": (no_file, ("serve",), "which cannot be read (No such file or directory): create it"),
    "a folder as settings file": (a_folder_as_settings, ("worker",), "which is a folder: name a file, such as"),
    "settings that are not TOML": (instead("[["), ("serve",), "hookmirror.toml is not TOML"),
    "settings that are not UTF-8": (latin_settings, ("doctor",), "hookmirror.toml is not TOML"),
    "an unknown setting": (setting("colour = 1"), ("serve",), "colour: there is no such setting"),
    "an unknown setting of a source": (
        instead('[sources.sigma]\nsecret = "x"'),
        ("serve",),
        "sources.sigma.secret: there is no such setting (perhaps `secrets`). docs/operations.md lists them all.",
    ),
    "a setting of the wrong kind": (setting('batch_size = "many"'), ("worker",), "batch_size: takes a whole number"),
    "a setting out of bounds": (setting("max_attempts = 0"), ("token",), "max_attempts: must be at least 1"),
    "settings that contradict": (setting("dedup_retention_days = 1"), ("prune",), "must not be shorter than"),
    "a source's name that no URL takes": (instead('[sources."Ä"]\nsecrets = ["x"]'), ("serve",), "a source's name has"),
    "an unknown variable": (variable("HOOKMIRROR_COLOUR", "1"), ("serve",), "HOOKMIRROR_COLOUR is set in the env"),
    "a variable of the wrong kind": (variable("HOOKMIRROR_BATCH_SIZE", "many"), ("worker",), "HOOKMIRROR_BATCH_SIZE: "),
    "a variable that is not JSON": (
        variable("HOOKMIRROR_DIALECTS", "shop"),
        ("serve",),
        "DIALECTS is not JSON",
    ),
    "no secret": (instead("[sources.sigma]"), ("serve",), 'set `secrets = ["…"]` or `secrets_file`'),
    "no secrets file": (instead('[sources.sigma]\nsecrets_file = "gone"'), ("serve",), "create it with one secret a"),
    "no application key": (instead("[sources.sticky]"), ("serve",), "set `app_key` to the application key"),
    "a key phrase of the wrong length": (
        instead('[sources.sticky]\napp_key = "x"\nsecrets = ["short"]'),
        ("serve",),
        "a key phrase is exactly 32 characters",
    ),
    "a setting for another kind of source": (
        instead('[sources.sigma]\nsecrets = ["x"]\ncipher = "none"'),
        ("serve",),
        "`cipher` is for encrypted bodies, and its dialect takes none: remove it",
    ),
    "no secret key": (without_secret_key, ("serve",), "HOOKMIRROR_SECRET_KEY is not set"),
    "no secret key for a token": (without_secret_key, ("token",), "HOOKMIRROR_SECRET_KEY is not set"),
    "a short secret key": (short_secret_key, ("serve",), "a key of less than 16 characters"),
    "a short secret key for a token": (short_secret_key, ("token",), "a key of less than 16 characters"),
    "no source": (instead(""), ("serve",), "[sources.<name>]"),
    "an unknown dialect": (instead('[sources.shop]\nsecrets = ["x"]'), ("serve",), "choose one of iimmpact, indexed"),
    "a dialect that cannot be imported": (
        setting('dialects = ["nowhere:shop"]'),
        ("worker",),
        'Write it as "module:name"',
    ),
    "a dialect that fails on import": (module("1 / 0"), ("serve",), "shopping_mall.py, line 1: ZeroDivisionError: div"),
    "a table of a name that is taken": (module(TAKEN_NAME), ("send", "shop", "a.b"), "give it another `__tablename__`"),
    "two handlers for one event type": (module(TWO_HANDLERS), ("serve",), "override=True in one of them"),
    "a dialect without an envelope": (
        module(TWO_HANDLERS.replace("product.*", "product.a", 1)),
        ("serve",),
        "write one with @shop.envelope",
    ),
    "a port in use": (taken(int(TAKEN[0])), ("serve", "--port", TAKEN[0]), "choose another --port"),
    "a port in use for several processes": (
        taken(int(TAKEN[1])),
        ("serve", "--processes", "2", "--port", TAKEN[1]),
        "choose another --port",
    ),
    "a port in use for a worker's metrics": (
        taken(int(TAKEN[2])),
        ("worker", "--metrics-port", TAKEN[2]),
        "choose another --metrics-port",
    ),
    "a file descriptor that is not a socket": (plain, ("serve", "--fd", "0"), "File descriptor 0 is not a socket"),
    "no secret key for several processes": (
        without_secret_key,
        ("serve", "--processes", "2"),
        "HOOKMIRROR_SECRET_KEY is not set",
    ),
    **{
        f"listening on {host!r}, which is not of this machine": (
            plain,
            ("serve", "--host", host),
            "--host takes an address of this machine",
        )
        for host in ("203.0.113.1", "nowhere.invalid", "::zz", "a..b")
    },
    "a worker's metrics on a name that is not an address": (
        plain,
        ("worker", "--metrics-port", "0", "--metrics-host", "nowhere.invalid"),
        "--metrics-host takes an address of this machine",
    ),
    "a folder as database": (
        a_folder_as_database,
        ("serve",),
        "This path is a folder: name a file in HOOKMIRROR_DATA",
    ),
    "a database in no folder": (
        variable("HOOKMIRROR_DATABASE_URL", "sqlite:////nowhere/at/all.db"),
        ("worker",),
        "unable to open database file",
    ),
    "a file that is not a database": (
        a_picture_as_database,
        ("migrate",),
        "The file is not an SQLite database: name another",
    ),
    "a database in memory": (variable("HOOKMIRROR_DATABASE_URL", "sqlite://"), ("serve",), "name a file"),
    "a database of a kind unknown here": (
        variable("HOOKMIRROR_DATABASE_URL", "mysql://x/y"),
        ("serve",),
        "use sqlite:///",
    ),
    "a database URL of nonsense": (
        variable("HOOKMIRROR_DATABASE_URL", "over there"),
        ("serve",),
        "HOOKMIRROR_DATABASE_URL",
    ),
    "a database URL of nonsense in the file": (
        nonsense_in_the_file,
        ("migrate",),
        ".toml names `mysql`: use",
    ),
    "a full disk": (a_full_disk, ("migrate",), "Check its disk: is there space left"),
    "a locked database": (a_locked_database, ("migrate",), "Another program holds the file: stop that program, or"),
    "sending for an unknown source": (
        plain,
        ("send", "nobody", "x.y"),
        "choose one of iimmpact, indexed, sigma, sticky",
    ),
    "sending a file that is not there": (plain, ("send", "sigma", "gone.json"), "'gone.json' cannot be read"),
    "sending data that is not JSON": (plain, ("send", "sigma", "entity.updated", "--data", "{"), "--data takes JSON"),
    "sending what its dialect cannot compose": (module(NO_COMPOSE), ("send", "shop", "a.b"), "write @shop.compose"),
    "sending to a port without a server": (
        plain,
        ("send", "sigma", "entity.updated", "--to", f"http://127.0.0.1:{free_port()}"),
        "start `hookmirror serve`, or name its address with --to",
    ),
    **{
        f"sending to {url}, which is not a URL": (
            plain,
            ("send", "sigma", "a.b", "--to", url),
            f"--to {flaw}: it takes",
        )
        for url, flaw in {
            "over there": "contains a blank or a control character",
            "127.0.0.1:8000": "does not begin with http:// or https://",
            "localhost:8000": "does not begin with http:// or https://",
            "http://": "names no host",
            "http://[::1": "names a host that cannot exist",
            "http://a..b": "names a host that cannot exist",
        }.items()
    },
    "sending without any source": (instead(""), ("send", "sigma", "a.b"), "with a table [sources.sigma]"),
    "sending about the default id, which no body takes": (
        module(NUMBERED),
        ("send", "shop", "product.updated"),
        "The id is TEST-1 unless --id gives another.",
    ),
    **{
        f"sending at {time}": (plain, ("send", "sigma", "a.b", "--at", time), "such as 2026-11-21T12:00:00Z or")
        for time in ("2026-11-21T12:00:00", "2026-11-21", "noon", "0001-01-01T00:00:00+14:00")
    },
    "replaying nothing": (with_database, ("replay",), "at least one filter, such as --source"),
    "replaying both by id and by option": (
        with_database,
        ("replay", "1", "--state", "dead"),
        "Ids and filters exclude each other: leave one of them out.",
    ),
    "replaying an unknown id": (with_database, ("replay", "1"), "No delivery has the id 1"),
    "replaying an unknown source": (
        with_database,
        ("replay", "--source", "nosuch"),
        "the settings name iimmpact, indexed, sigma",
    ),
    "replaying an unfinished delivery": (
        with_database,
        ("replay", "--state", "pending"),
        "one of processed, ignored, dead",
    ),
    "replaying where no database is": (plain, ("replay", "1"), "start `hookmirror serve`, which creates it"),
    "looking into no database": (plain, ("deliveries",), "There is no database at "),
    "pruning no database": (plain, ("prune",), "There is no database at "),
    "reconciling an unknown source": (plain, ("reconcile", "nobody"), "There is no source 'nobody' in the settings"),
    "reconciling without an API": (plain, ("reconcile", "sigma"), "has no `api_url`: set it"),
    "dating back and believing a list at once": (
        plain,
        ("reconcile", "indexed", "--misdated", "--force"),
        "so --force has no effect: leave one of them out",
    ),
    "reconciling a source without a list": (plain, ("reconcile", "indexed"), "has no list of its source"),
    "reconciling with an API but no key": (
        instead('[sources.sigma]\nsecrets = ["x"]\napi_url = "http://127.0.0.1:1"'),
        ("reconcile", "sigma"),
        "has an api_url but no api_key: set both",
    ),
    "reconciling with an API at no URL": (
        instead('[sources.sigma]\nsecrets = ["x"]\napi_key = "x"\napi_url = "127.0.0.1:1"'),
        ("reconcile", "sigma"),
        "takes the URL of an API, such as",
    ),
    "reconciling with an API that is away": (
        instead('[sources.sigma]\nsecrets = ["x"]\napi_key = "x"\napi_url = "http://127.0.0.1:1"', log="error"),
        ("reconcile", "sigma"),
        "cannot be reached: ConnectError. Repeated attempts failed: check `api_url` in the settings",
    ),
}

#: Mistyped commands, and the line that each must print.
MISTYPED: dict[tuple[str, ...], str] = {
    ("tokn",): "No such command 'tokn'. Did you mean 'token'? --help explains.",
    ("token", "--scop", "read"): "No such option: --scop (Possible options: --scope). --help explains.",
    ("token", "--scope", "admin"): "Invalid value for '--scope': 'admin' is not one of 'read', 'operate'.",
    ("token", "--days", "0"): "Invalid value for '--days': it must be greater than or equal to 0.001.",
    ("token", "--days", "many"): "Invalid value for '--days': it must be a valid number.",
    ("replay", "abc"): "Invalid value for 'ids': it must be a valid integer.",
    ("send",): "Missing argument 'source'.",
    ("demo", "--events", "none"): "Invalid value for '--events': it must be a valid integer.",
}


#: This one starts a fresh interpreter. The others are forked from one that has done the imports, ten times faster.
IN_FULL = "no settings file"


@pytest.fixture(scope="module")
def forks():
    with Forks(4) as running:
        yield running


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory, forks):
    """Run all situations, several at a time, because some of them wait."""
    folders = {name: tmp_path_factory.mktemp("situation") for name in SITUATIONS}

    def come_about(name: str):
        make, arguments, _ = SITUATIONS[name]
        with ExitStack() as stack:
            made = make(folders[name])
            folder = made if isinstance(made, Folder) else stack.enter_context(made)
            folder.fresh = name == IN_FULL
            if make is with_database:
                folder.migrate()
            return forks.run(folder, *arguments)

    with ThreadPoolExecutor(6) as pool:
        return dict(zip(SITUATIONS, pool.map(come_about, SITUATIONS), strict=True))


@pytest.mark.parametrize("name", SITUATIONS)
def test_one_line_says_what_to_do(outcomes, name: str):
    outcome, (_, arguments, says) = outcomes[name], SITUATIONS[name]
    assert outcome.returncode == 1, outcome
    told, silent = (outcome.stdout, outcome.stderr) if arguments == ("doctor",) else (outcome.stderr, outcome.stdout)
    assert len(lines(told)) == 1, told
    assert says in told
    assert silent == ""


@pytest.mark.parametrize("arguments", MISTYPED, ids=" ".join)
def test_a_mistyped_command_is_answered_with_one_line(forks, tmp_path, arguments: tuple[str, ...]):
    outcome = forks.run(Folder(tmp_path), *arguments)
    assert (outcome.returncode, outcome.stdout) == (2, "")
    assert len(lines(outcome.stderr)) == 1, outcome.stderr
    assert outcome.stderr.startswith(f"hookmirror: {MISTYPED[arguments]}")


def test_without_a_command_the_help_is_shown(forks, tmp_path):
    outcome = forks.run(Folder(tmp_path))
    assert (outcome.returncode, outcome.stderr) == (0, "")
    assert "reconcile" in outcome.stdout
