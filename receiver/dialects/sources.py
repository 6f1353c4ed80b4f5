"""Sources: a dialect with the settings of one account. Building the sources checks the wiring of the whole program."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from importlib.metadata import EntryPoint
from pathlib import Path

import httpx
from pydantic import SecretStr

from receiver.dialects.capturing import CAPTURE_DIALECT, capturing
from receiver.dialects.compression import decompressed, is_compressed
from receiver.dialects.dialect import Dialect
from receiver.dialects.forks import ending_forks
from receiver.dialects.own_settings import adopt_own_settings
from receiver.envelope import ReadBody
from receiver.errors import ConfigurationError, HookmirrorError, WiringError
from receiver.header_values import KeptBody
from receiver.http_calls import unsendable_header, usable_environment
from receiver.loading import entry_points, foreign_code, import_foreign, is_of_the_code, package_of, place_of
from receiver.logs.safe_text import name_of
from receiver.mirror.rows import MirrorRow, mirror_tables
from receiver.settings.limits import Limits
from receiver.settings.settings import Settings, SourceSettings
from receiver.shadowing import add_folder, shadowed, stolen_name, taken_name
from receiver.verify.secret_marks import secret_marks
from receiver.verify.verifiers import Credentials

#: The entry point group by which installed packages offer dialects.
DIALECT_ENTRY_POINTS = "hookmirror.dialects"

#: The ready dialects by name. An installation names those that it uses, so that it has only their tables.
READY_DIALECTS = {
    "akeneo": "vendors.akeneo:akeneo",
    "akeneo-events": "vendors.akeneo:akeneo_events",
    "bigcommerce": "vendors.bigcommerce:bigcommerce",
    "github": "vendors.github:github",
    "shopify": "vendors.shopify:shopify",
    "standard": "vendors.standard:standard",
    "stripe": "vendors.stripe:stripe",
    "woocommerce": "vendors.woocommerce:woocommerce",
}

DEFAULT_LIMITS = Limits()


@dataclass(frozen=True, slots=True)
class Source:
    """One account of a system, with the dialect and the credentials to receive its webhooks."""

    name: str
    dialect: Dialect
    credentials: Credentials
    settings: SourceSettings
    #: The most bytes of a body, before and after decompression.
    max_body_bytes: int = DEFAULT_LIMITS.max_body_bytes
    #: The most events of a body.
    max_events: int = DEFAULT_LIMITS.max_events_per_body

    def open(self, content: bytes) -> bytes:
        """Decompress the content if it is compressed and the dialect allows that. Raises `Unreadable`."""
        if not self.dialect.decompress or not is_compressed(content):
            return content
        return decompressed(content, largest=self.max_body_bytes)

    def read(self, verified: bytes) -> ReadBody:
        """Read the envelope of a verified body, which depends on these bytes alone. Raises `Unreadable`."""
        if not self.dialect.decompress:
            return self.dialect.read(verified, most_events=self.max_events)
        opened = self.open(verified)
        if opened is not verified and isinstance(verified, KeptBody):
            opened = KeptBody.of(opened, verified.headers)
        return self.dialect.read(opened, most_events=self.max_events)

    def client(self) -> httpx.Client | None:
        """Make a client of the source's API; None without an API.

        Raises `ConfigurationError` if the environment or a header of the client allows no calls, and whatever the
        dialect's code raises.
        """
        fails = f"The API of the source {self.name} cannot be called"
        with usable_environment(fails):
            client = self.dialect.client(self.settings)
        header = unsendable_header(client) if isinstance(client, httpx.Client) else None
        if client is None or header is None:
            return client
        client.close()
        raise ConfigurationError(
            f"{fails}: the value of the header {header} begins or ends with a blank, or has a control character, which "
            f"HTTP does not allow. Set `api_key` without blanks around it, or let the connect function of "
            f"{self.dialect.name} leave the header out."
        )

    def can_look_up(self, table: type[MirrorRow]) -> bool:
        """Whether the dialect can ask the source's API for one row of the table."""
        lookup = self.dialect.lookup_of
        return self.settings.api_url is not None and lookup is not None and table in lookup.tables

    def can_list(self) -> bool:
        """Whether the dialect can list all rows by the source's API, as a reconcile does."""
        return self.settings.api_url is not None and self.dialect.listing_of is not None


@dataclass(frozen=True, slots=True)
class Reference:
    """A reference to a dialect, "module:name", and the place that names it."""

    text: str
    #: The installed package with this entry point; None for a reference in the settings or a command.
    package: str | None = None
    #: The other place of the reference, such as a command; None for the settings.
    named: str | None = None

    @classmethod
    def of(cls, point: EntryPoint) -> Reference:
        return cls(point.value, package_of(point))

    def __str__(self) -> str:
        if self.package is not None:
            return f"{self.text!r} of the installed package {self.package}"
        return f"{self.text!r} {self.named or 'in `dialects`'}"

    @property
    def module(self) -> str:
        return self.text.partition(":")[0]

    @property
    def name(self) -> str:
        return self.text.partition(":")[2] or "dialect"

    def load(self, beside: Path | None = None) -> Dialect:
        """Import the dialect; its module may be in the folder `beside`. Raises `WiringError` with advice."""
        try:
            module = import_foreign(self.module)
        except ModuleNotFoundError:
            wrong = taken_name(self.module, beside) if self.package is None else stolen_name(self.module)
            wrong = wrong or f"there is no module {self.module!r}. {self._where_modules_are()}"
            raise self._refusal(wrong) from None
        except WiringError as error:
            raise self._refusal(str(error)) from error
        found = getattr(module, self.name, None)
        if isinstance(found, Dialect):
            return found
        hidden = shadowed(self.module, beside)
        if hidden is not None:
            raise self._refusal(hidden)
        wrong = f"its `{self.name}` is not a Dialect" if hasattr(module, self.name) else f"it has no `{self.name}`"
        there = sorted(f"{self.module}:{name}" for name, value in vars(module).items() if isinstance(value, Dialect))
        if there:
            raise self._refusal(f"{wrong}. Name the object made by Dialect(…): {' or '.join(there)}")
        raise self._refusal(f'{wrong}, nor any other. Make one there: {self.name} = Dialect("{self.name}", verify=…)')

    def _where_modules_are(self) -> str:
        if self.package is None:
            return 'Write it as "module:name", with the module in an installed package or beside the settings file'
        return "List the module in the package's pyproject.toml, and install it again"

    def _refusal(self, wrong: str) -> WiringError:
        unneeded = f" If you do without it: pip uninstall {self.package}." if self.package is not None else ""
        return WiringError(f"The dialect {self} cannot be used: {wrong.rstrip('.')}.{unneeded}")


def find_dialects(references: Iterable[str] = (), *, beside: Path | None = None) -> dict[str, Dialect]:
    """Import the dialects of installed packages and those of `references`, each "module:name", and return them by name.

    Modules may be in the folder `beside`. Raises `WiringError` that names the first dialect that cannot be used.
    """
    dialects, refused = survey_dialects(references, beside=beside)
    if refused:
        raise refused[0]
    return dialects


def survey_dialects(
    references: Iterable[str] = (), *, beside: Path | None = None
) -> tuple[dict[str, Dialect], list[WiringError]]:
    """Import all dialects. Returns the usable ones by name, and an error for each of the others."""
    if beside is not None:
        add_folder(beside)
    installed = sorted(entry_points(group=DIALECT_ENTRY_POINTS), key=lambda point: point.name)
    dialects: dict[str, Dialect] = {}
    refused: list[WiringError] = []
    failed: set[str] = set()
    for reference in [*map(Reference.of, installed), *map(Reference, references)]:
        if reference.module in failed:
            # A second import would fail for another reason, because the tables of the first one exist already.
            continue
        try:
            dialect = reference.load(beside)
        except WiringError as error:
            refused.append(error)
            if reference.module not in sys.modules:
                failed.add(reference.module)
            continue
        if dialects.setdefault(dialect.name, dialect) is not dialect:
            refused.append(WiringError(f"There are two dialects named {dialect.name}: rename {reference}."))
    return dialects, refused


def build_sources(settings: Settings, dialects: Mapping[str, Dialect]) -> dict[str, Source]:
    """Build the sources of the settings, and return them by name.

    Raises `ConfigurationError` or `WiringError` for a source without its secret, an unknown dialect, conflicting
    handlers, or an invalid mirror table.
    """
    mirror_tables()
    for dialect in dialects.values():
        dialect.check()
    return {
        name: build_source(source, dialects, limits=settings, secret_key=settings.secret_key)
        for name, source in settings.sources.items()
    }


def _unknown_dialect(settings: SourceSettings, dialects: Mapping[str, Dialect]) -> ConfigurationError:
    wrong = f"The source {settings.name} has the unknown dialect `{settings.dialect}`: "
    # A reader may take the last part of `vendors.shopify:shopify` for the dialect, or all of it.
    name = re.split("[.:]", settings.dialect.lower())[-1].replace("_", "-")
    if name in READY_DIALECTS and name not in dialects:
        return ConfigurationError(
            f'{wrong}{name} is a ready dialect, which an installation has to name. Add "{READY_DIALECTS[name]}" to '
            f'`dialects` above the first table of the settings, as in dialects = ["{READY_DIALECTS[name]}"], and write '
            f'dialect = "{name}" in this source.'
        )
    return ConfigurationError(
        f"{wrong}choose one of {', '.join(sorted(dialects))}, or name your own under `dialects` (for pytest, "
        "`hookmirror_dialects` in its settings), or install the package that has it."
    )


def build_source(
    settings: SourceSettings,
    dialects: Mapping[str, Dialect],
    *,
    limits: Limits = DEFAULT_LIMITS,
    secret_key: SecretStr | None = None,
) -> Source:
    """Build one source with the limits of its installation, whose `secret_key` makes the marks of its secrets.

    Raises `ConfigurationError`.
    """
    dialect = dialects.get(settings.dialect)
    if dialect is None and settings.dialect == CAPTURE_DIALECT:
        dialect = capturing
    if dialect is None:
        raise _unknown_dialect(settings, dialects)
    credentials = replace(settings.credentials(), own=adopt_own_settings(settings, dialect.settings_model))
    with foreign_code(f"The verifier of {dialect.name}, asked about the source {settings.name},", holds_secrets=True):
        wrong = dialect.verifier.check(credentials)
    if wrong is not None:
        raise ConfigurationError(f"The source {settings.name} cannot be listened to: {wrong}.")
    _check_challenges(settings, dialect)
    source = Source(
        settings.name,
        dialect,
        _marked(settings.name, credentials, secret_key),
        settings,
        max_body_bytes=limits.max_body_bytes,
        max_events=limits.max_events_per_body,
    )
    _try_client(source)
    return source


def _check_challenges(settings: SourceSettings, dialect: Dialect) -> None:
    for challenge in dialect.challenges:
        check = getattr(challenge.function, "check", None)
        asked = f"A challenge of {dialect.name}, asked about the source {settings.name},"
        with foreign_code(asked, holds_secrets=True):
            missing = None if check is None else check(settings)
        if missing is not None:
            raise ConfigurationError(f"The source {settings.name} cannot answer its sender: {missing}.")


def _marked(name: str, credentials: Credentials, key: SecretStr | None) -> Credentials:
    """These credentials with the marks of the secrets by each key, of which there are several during a rotation."""
    marks = [secret_marks(each, name, credentials.secrets) for each in (key.get_secret_value() if key else "").split()]
    return replace(credentials, marks=marks[0], former_marks=tuple(marks[1:])) if marks else credentials


def begin_fetching(sources: Iterable[Source]) -> None:
    """Let verifiers begin to fetch their key sets before the first webhook. Does not block."""
    for source in sources:
        begin = getattr(source.dialect.verifier, "begin", None)
        if begin is not None:
            with foreign_code(f"The verifier of {source.dialect.name}", holds_secrets=True):
                begin(source.credentials)


def _try_client(source: Source) -> None:
    """Make a client of the source's API once, so that a missing setting is found at start and not at a webhook."""
    try:
        with ending_forks():
            client = source.client()
    except HookmirrorError:
        raise
    except BaseException as error:
        if not is_of_the_code(error):
            raise
        raise ConfigurationError(
            f"The API of the source {source.name} cannot be called with these settings "
            f"({place_of(error)}{name_of(error)}): "
            "check api_url, api_key and api_secret, which must be ASCII."
        ) from None
    if client is not None:
        client.close()
