"""Settings: environment variables `HOOKMIRROR_…` over a TOML file named by `HOOKMIRROR_CONFIG`.

Every setting is described in docs/operations.md. Secrets are kept as pydantic's secret types: never printed or logged.
"""

from __future__ import annotations

import os
import re
import tomllib
from collections.abc import Iterable, Mapping
from datetime import timedelta
from difflib import get_close_matches
from pathlib import Path
from typing import Any, Literal
from urllib.parse import urlsplit

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    PrivateAttr,
    SecretStr,
    ValidationError,
    field_validator,
    model_validator,
)
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict, SettingsError

from receiver.errors import ConfigurationError
from receiver.retries import RetrySchedule
from receiver.signatures import Credentials, Secret

PREFIX = "HOOKMIRROR_"
CONFIG_VARIABLE = PREFIX + "CONFIG"

#: No setting: where clients of the API, the simulator among them, look for a token.
TOKEN_VARIABLE = PREFIX + "TOKEN"

#: Characters of a secret key: a shorter one could be guessed, and with it every token forged.
SHORTEST_SECRET_KEY = 16

#: In the environment these are JSON.
JSON_VARIABLES = (PREFIX + "DIALECTS", PREFIX + "SOURCES")

#: By pydantic's kind of error, whose own words are for programmers: what the setting takes.
TAKES = {
    "bool_parsing": "takes true or false",
    "bool_type": "takes true or false",
    "dict_type": "takes a table",
    "finite_number": "takes a number",
    "float_parsing": "takes a number",
    "float_type": "takes a number",
    "greater_than": "must be more than {gt:.0f}",
    "greater_than_equal": "must be at least {ge:.0f}",
    "int_from_float": "takes a whole number",
    "int_parsing": "takes a whole number",
    "int_type": "takes a whole number",
    "less_than_equal": "must be at most {le:.0f}",
    "list_type": 'takes a list: write {name} = ["…"]',
    "literal_error": "takes {expected}",
    "model_type": "takes a table",
    "path_type": "takes text in quotes",
    "string_type": "takes text in quotes",
    "value_error": "{error}",
}

SOURCE_NAME = re.compile(r"[a-z0-9](?:[a-z0-9_-]{0,62}[a-z0-9])?")


class SourceSettings(BaseModel):
    """One account of one system: the table `[sources.<name>]`."""

    model_config = ConfigDict(extra="forbid", hide_input_in_errors=True)

    #: The source's name, from the table's heading; it is the last part of the URL that the sender posts to.
    name: str = Field(exclude=True)
    #: How the source speaks; by default the dialect of the source's own name.
    dialect: str = ""
    #: What verifies its bodies, newest first; all are valid at once.
    secrets: list[SecretStr] = []
    #: A file with one secret a line, newest first, read at start, in addition to `secrets`.
    secrets_file: Path | None = None
    #: Where each webhook record at the sender has a secret of its own: the secrets by the record's id.
    webhook_secrets: dict[str, SecretStr] = {}
    #: Take bodies that carry no signature.
    allow_unsigned: bool = False
    #: The application key inside the bodies (sticky.io).
    app_key: SecretStr | None = None
    #: The layout of encrypted bodies (sticky.io).
    cipher: str = "auto"
    #: The source's own API, for hydrating and reconciling.
    api_url: str | None = None
    #: The API's key or user name.
    api_key: SecretStr | None = None
    #: The API's secret or password, where it wants two.
    api_secret: SecretStr | None = None

    @field_validator("api_url")
    @classmethod
    def _can_be_called(cls, url: str | None) -> str | None:
        if url and not _is_http_url(url):
            raise ValueError('takes the URL of an API, such as "https://pim.example/api/v1"')
        # Empty, as a template leaves it whose variable was not set.
        return url or None

    @model_validator(mode="after")
    def _default_dialect(self) -> SourceSettings:
        if not SOURCE_NAME.fullmatch(self.name):
            raise ValueError("a source's name is 1 to 64 of a–z, 0–9, `-` and `_`, because it stands in a URL")
        self.dialect = self.dialect or self.name
        return self

    def credentials(self) -> Credentials:
        """What verifies this source's bodies. Raises `ConfigurationError` if the secrets file cannot be read."""
        return Credentials(
            secrets=(
                *(Secret(secret.get_secret_value().encode()) for secret in self.secrets),
                *(Secret(line) for line in self._lines_of_secrets_file()),
                *(Secret(value.get_secret_value().encode(), name) for name, value in self.webhook_secrets.items()),
            ),
            allow_unsigned=self.allow_unsigned,
            app_key=self.app_key.get_secret_value() if self.app_key else None,
            cipher=self.cipher,
        )

    def _lines_of_secrets_file(self) -> Iterable[bytes]:
        if self.secrets_file is None:
            return []
        try:
            lines = [line.strip() for line in self.secrets_file.read_bytes().splitlines()]
        except OSError as error:
            raise ConfigurationError(
                f"The source {self.name} names secrets_file = {str(self.secrets_file)!r}, which cannot be read "
                f"({error.strerror}): create it with one secret a line, or correct the path."
            ) from None
        return [line for line in lines if line]


class Settings(BaseSettings):
    """All settings of one installation."""

    model_config = SettingsConfigDict(env_prefix=PREFIX, extra="forbid", hide_input_in_errors=True)

    #: Where everything is kept: sqlite:///path or postgresql://…
    database_url: str = "sqlite:///hookmirror.db"
    #: Signs the API's tokens; several, separated by spaces, newest first, while one is being replaced.
    secret_key: SecretStr | None = None
    #: Dialects of your own, besides those of installed packages: "module:name".
    dialects: list[str] = []
    #: Bytes of the largest body that is read.
    max_body_bytes: int = Field(default=1_048_576, ge=1_024)
    #: Bytes of bodies that may wait in memory for their commit; past it the answer is 503.
    max_waiting_bytes: int = Field(default=67_108_864, ge=1_048_576)
    #: Seconds that a sender may take to send a body.
    body_timeout: float = Field(default=30.0, gt=0, le=3_600)
    #: Deliveries that one worker claims at once.
    batch_size: int = Field(default=200, ge=1, le=1_000)
    #: Seconds after which a claimed delivery may be taken over from a worker that has not been heard of.
    lease_seconds: float = Field(default=60.0, ge=1, le=86_400)
    #: How often a handler is run before its delivery is dead.
    max_attempts: int = Field(default=10, ge=1, le=100)
    #: Days after their arrival that bodies are kept; those of deliveries that are not done stay.
    body_retention_days: int = Field(default=30, ge=1)
    #: Days that dedup keys are kept.
    dedup_retention_days: int = Field(default=400, ge=1)
    #: The oldest pending delivery, in seconds, with which /readyz still answers that all is well.
    max_backlog_seconds: float = Field(default=300.0, gt=0, le=31_536_000)
    #: Questions to the API that are answered at the same time; the others wait for their turn, and not for long.
    api_reads_at_once: int = Field(default=4, ge=1, le=100)
    #: Seconds that one statement of such an answer may take.
    api_read_seconds: float = Field(default=10.0, gt=0, le=600)
    #: Bytes after which a page of the API ends, although more was asked for.
    api_page_bytes: int = Field(default=4_194_304, ge=1_024)
    #: How much of what happens is logged.
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    #: Lines for people or JSON for machines.
    log_format: Literal["console", "json"] = "console"
    #: The sources, by name.
    sources: dict[str, SourceSettings] = {}

    _file: Path | None = PrivateAttr(None)

    @model_validator(mode="before")
    @classmethod
    def _name_sources(cls, values: Any) -> Any:
        if isinstance(values, dict) and isinstance(values.get("sources"), dict):
            named = {
                name: {**table, "name": name} if isinstance(table, dict) else table
                for name, table in values["sources"].items()
            }
            return values | {"sources": named}
        return values

    @model_validator(mode="after")
    def _keys_outlive_bodies(self) -> Settings:
        if self.dedup_retention_days < self.body_retention_days:
            raise ValueError("dedup_retention_days must not be shorter than body_retention_days")
        return self

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],  # noqa: ARG003 (the signature is pydantic-settings')
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,  # noqa: ARG003
        file_secret_settings: PydanticBaseSettingsSource,  # noqa: ARG003
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """The environment first, then what `load` read from the file."""
        return env_settings, init_settings

    def place_of(self, name: str) -> str:
        """What to change where it is wrong: the variable that says it, or the file."""
        variable = f"{PREFIX}{name.upper()}"
        if self._file is None or variable in os.environ or name not in self.model_fields_set:
            return variable
        return f"`{name}` in {self._file}"

    @property
    def retry_schedule(self) -> RetrySchedule:
        return RetrySchedule(attempts=self.max_attempts)

    @property
    def lease(self) -> timedelta:
        return timedelta(seconds=self.lease_seconds)

    @property
    def secret_keys(self) -> list[str]:
        """Oldest first, as itsdangerous wants them. Raises `ConfigurationError` if there is none, or a short one."""
        keys = self.secret_key.get_secret_value().split() if self.secret_key else []
        mend = (
            "Set it to 32 random characters, as printed by: "
            'python -c "import secrets; print(secrets.token_urlsafe(32))"'
        )
        if not keys:
            raise ConfigurationError(
                f"HOOKMIRROR_SECRET_KEY is not set, and the API's tokens are signed with it. {mend}"
            )
        if min(map(len, keys)) < SHORTEST_SECRET_KEY:
            raise ConfigurationError(
                f"{self.place_of('secret_key')} holds a key of less than {SHORTEST_SECRET_KEY} characters, which could "
                f"be guessed, and tokens forged with it. {mend}"
            )
        return keys[::-1]


def source_settings(name: str, table: Mapping[str, Any]) -> SourceSettings:
    """The settings of one source, from a table like those of the file. Raises `ConfigurationError` as `load` does."""
    try:
        return SourceSettings(**{**table, "name": name})
    except ValidationError as error:
        raise ConfigurationError(
            f"The settings are wrong: {_wrong(error, 'sources', name)}. docs/operations.md lists them all."
        ) from None


def _is_http_url(url: str) -> bool:
    try:
        parts = urlsplit(url)
        return parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        return False


def settings_folder() -> Path:
    """Where the settings file lies, and modules of one's own dialects may; without one, where the program starts."""
    named = os.environ.get(CONFIG_VARIABLE)
    return Path(named).resolve().parent if named else Path.cwd()


def load(path: Path | None = None) -> Settings:
    """The settings in force: the environment's over the file's.

    `path` defaults to what `HOOKMIRROR_CONFIG` names. Raises `ConfigurationError` naming each setting that is wrong.
    """
    _refuse_unknown_variables()
    named = os.environ.get(CONFIG_VARIABLE)
    path = path or (Path(named) if named else None)
    content = _read(path) if path is not None else {}
    try:
        settings = Settings(**content)
    except ValidationError as error:
        where = str(path) if path is not None else "the environment"
        raise ConfigurationError(
            f"The settings in {where} are wrong: {_wrong(error)}. docs/operations.md lists them all."
        ) from None
    except SettingsError:
        variables = " or ".join(name for name in os.environ if name.upper() in JSON_VARIABLES)
        raise ConfigurationError(
            f'The settings in the environment are wrong: {variables} is no JSON: write a list as ["…"], and the '
            'sources as {"sigma": {"secrets": ["…"]}}.'
        ) from None
    settings._file = path
    return settings


def _wrong(error: ValidationError, *table: str) -> str:
    """Everything that is wrong, below the table that was looked at."""
    return "; ".join(_told((*table, *each["loc"]), each["type"], each.get("ctx", {})) for each in error.errors())


def _told(location: tuple[int | str, ...], kind: str, context: Mapping[str, Any]) -> str:
    """What is wrong with one setting, under the name that it was given by."""
    name = ".".join(map(str, location)) or "settings"
    variable = f"{PREFIX}{name.upper()}"
    if kind == "extra_forbidden":
        known = Settings.model_fields if len(location) == 1 else SourceSettings.model_fields
        wrong = f"there is no such setting{_perhaps(str(location[-1]), known)}"
    else:
        wrong = TAKES.get(kind, "cannot have this value").format(name=location[-1] if location else name, **context)
    return f"{variable if variable in os.environ else name}: {wrong}"


def _perhaps(name: str, known: Iterable[str], prefix: str = "") -> str:
    """The setting that was meant, if one is close."""
    close = get_close_matches(name, known, n=1)
    return f" (perhaps `{prefix}{close[0]}`)" if close else ""


def _refuse_unknown_variables() -> None:
    known = {CONFIG_VARIABLE, TOKEN_VARIABLE} | {f"{PREFIX}{name.upper()}" for name in Settings.model_fields}
    unknown = sorted(name for name in os.environ if name.startswith(PREFIX) and name.upper() not in known)
    if unknown:
        meant = _perhaps(unknown[0].removeprefix(PREFIX), map(str.upper, Settings.model_fields), PREFIX)
        raise ConfigurationError(
            f"{unknown[0]} is set in the environment and is no setting: correct its name{meant}. "
            "docs/operations.md lists all."
        )


def _read(path: Path) -> dict[str, Any]:
    try:
        content = tomllib.loads(path.read_text("utf-8"))
    except IsADirectoryError:
        raise ConfigurationError(
            f"{CONFIG_VARIABLE} names {str(path)!r}, which is a folder: name a file, such as "
            f"{str(path / 'hookmirror.toml')!r}."
        ) from None
    except PermissionError:
        raise ConfigurationError(
            f"{CONFIG_VARIABLE} names {str(path)!r}, which this user may not read: give it the right to."
        ) from None
    except OSError as error:
        raise ConfigurationError(
            f"{CONFIG_VARIABLE} names {str(path)!r}, which cannot be read ({error.strerror}): "
            "create it, or correct the path."
        ) from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"{path} is not TOML: {error}.") from None
    sources = content.get("sources")
    for name, table in sources.items() if isinstance(sources, dict) else ():
        if isinstance(table, dict) and isinstance(table.get("secrets_file"), str):
            # Relative to the file that names it, so that it means the same from wherever the program starts.
            content["sources"][name]["secrets_file"] = str(path.parent / table["secrets_file"])
    return content
