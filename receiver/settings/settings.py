"""Settings: environment variables `HOOKMIRROR_…` over a TOML file named by `HOOKMIRROR_CONFIG`.

docs/operations.md describes every setting. Secrets have pydantic's secret types, so they are never printed or logged.
"""

from __future__ import annotations

import os
import tomllib
from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, PrivateAttr, SecretStr, ValidationError, ValidationInfo, field_validator, model_validator
from pydantic_settings import (
    BaseSettings,
    EnvSettingsSource,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    SettingsError,
)

from receiver.errors import ConfigurationError
from receiver.settings import environment, files, mistakes
from receiver.settings.account import SourceSettings as SourceSettings
from receiver.settings.account import check_public_url, check_texts
from receiver.settings.console import ConsoleSettings
from receiver.settings.environment import (
    CONFIG_VARIABLE,
    FOLLOW_TO_VARIABLE,
    TOKEN_VARIABLE,
    VARIABLE_PREFIX,
    VITALS_VARIABLE,
)
from receiver.settings.files import read_bounded
from receiver.settings.limits import Limits
from receiver.verify.request import HOOKS_PATH

#: Fewest characters of a secret key. A person who guessed a shorter key could forge every token.
SHORTEST_SECRET_KEY = 16

#: Variables whose values are JSON.
JSON_VARIABLES = tuple(
    VARIABLE_PREFIX + name for name in ("DIALECTS", "SOURCES", "CONSOLE_HOSTS", "CONSOLE_TRUSTED_PROXIES")
)


class Settings(Limits, ConsoleSettings, BaseSettings):
    """All settings of one installation."""

    model_config = SettingsConfigDict(env_prefix=VARIABLE_PREFIX, extra="forbid", hide_input_in_errors=True)

    #: The database: sqlite:///path or postgresql://…
    database_url: str = "sqlite:///hookmirror.db"
    #: The key that signs the API's tokens; while it is being replaced, several keys, newest first, separated by spaces.
    secret_key: SecretStr | None = None
    #: The URL of this installation for senders, up to /hooks/. Some senders sign the URL that they call.
    public_url: str | None = None
    #: Dialects as "module:name", besides those of installed packages.
    dialects: list[str] = []
    #: Verify, read and store webhooks in a process of its own, so that another core shares the work.
    acceptor_process: bool = False
    #: Most deliveries that one worker claims at once.
    batch_size: int = Field(default=200, ge=1, le=1_000)
    #: Most bytes of bodies that one worker claims at once. A larger body is claimed alone.
    max_batch_bytes: int = Field(default=16_777_216, ge=1)
    #: Seconds after which a claimed delivery may be reclaimed from a worker that gives no sign of life.
    lease_seconds: float = Field(default=60.0, ge=1, le=86_400)
    #: The number of attempts before a delivery is dead.
    max_attempts: int = Field(default=10, ge=1, le=100)
    #: Days after arrival for which bodies are kept; those of unfinished deliveries stay longer.
    body_retention_days: int = Field(default=30, ge=1, le=36_500)
    #: Days that dedup keys are kept.
    dedup_retention_days: int = Field(default=400, ge=1, le=36_500)
    #: The age of the oldest pending delivery, in seconds, up to which /readyz answers `ready`.
    max_backlog_seconds: float = Field(default=300.0, gt=0, le=31_536_000)
    #: Most reads of the API at the same time. Further reads wait a short while for their turn.
    api_reads_at_once: int = Field(default=4, ge=1, le=100)
    #: Seconds that one statement of a read may take.
    api_read_seconds: float = Field(default=10.0, gt=0, le=600)
    #: Bytes after which a page of the API ends, even if it has fewer items than asked for.
    api_page_bytes: int = Field(default=4_194_304, ge=1_024)
    #: The lowest level of log lines.
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    #: Lines for people or JSON for machines.
    log_format: Literal["console", "json"] = "console"
    #: The sources, by name.
    sources: dict[str, SourceSettings] = {}

    _file: Path | None = PrivateAttr(None)
    #: Whether both the environment and the file name sources.
    _names_sources_twice: bool = PrivateAttr(False)

    @model_validator(mode="before")
    @classmethod
    def _name_sources(cls, values: Any) -> Any:
        if isinstance(values, dict) and isinstance(values.get("sources"), dict):
            named = {
                name: _named(name, table) if isinstance(table, dict) else table
                for name, table in values["sources"].items()
            }
            return values | {"sources": named}
        return values

    @field_validator("*", mode="before")
    @classmethod
    def _is_text(cls, given: Any, info: ValidationInfo) -> Any:
        if info.field_name != "sources":
            check_texts(given)
        return given

    @field_validator("public_url")
    @classmethod
    def _can_be_called(cls, url: str | None) -> str | None:
        if url:
            check_public_url(url)
        return url or None

    @model_validator(mode="after")
    def _address_sources(self) -> Settings:
        for name, source in self.sources.items():
            if self.public_url is not None and source.registered_url is None:
                source.registered_url = f"{self.public_url.rstrip('/')}{HOOKS_PATH}{name}"
        return self

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
        if isinstance(env_settings, EnvSettingsSource):
            env_settings.env_vars = environment.stripped(env_settings.env_vars)
        return env_settings, init_settings

    @property
    def file(self) -> Path | None:
        """The file with these settings; None if they come from the environment alone."""
        return self._file

    @property
    def files(self) -> tuple[Path, ...]:
        """The files with these settings, including files of secrets."""
        named = (self._file, *(source.secrets_file for source in self.sources.values()))
        return tuple(dict.fromkeys(file for file in named if file is not None))

    def place_of(self, name: str) -> str:
        """The place of a setting, for error messages: its variable, or the file."""
        variable = f"{VARIABLE_PREFIX}{name.upper()}"
        if self._file is None or environment.value(variable) is not None or name not in self.model_fields_set:
            return variable
        return f"`{name}` in {self._file}"

    def keeping(self, old: Mapping[str, Any]) -> Settings:
        """These settings, with the old values in `old`."""
        return self.model_copy(update=dict(old))

    @property
    def doubts(self) -> list[str]:
        """Warnings, a sentence each, about values that are valid but hardly ever intended."""
        named_twice = [
            f"HOOKMIRROR_SOURCES in the environment wins over `sources` in {self._file}: changes in the file may have "
            "no effect"
        ]
        of_sources = [doubt for source in self.sources.values() for doubt in source.doubts]
        return [*(named_twice if self._names_sources_twice else []), *of_sources]

    @property
    def lease(self) -> timedelta:
        return timedelta(seconds=self.lease_seconds)

    @property
    def secret_keys(self) -> list[str]:
        """The keys, oldest first, as itsdangerous takes them. Raises `ConfigurationError` for no key or a short one."""
        keys = self.secret_key.get_secret_value().split() if self.secret_key else []
        mend = (
            "Set it to 32 random characters, as printed by: "
            'python -c "import secrets; print(secrets.token_urlsafe(32))"'
        )
        if not keys:
            raise ConfigurationError(f"HOOKMIRROR_SECRET_KEY is not set, and it signs the API's tokens. {mend}")
        if min(map(len, keys)) < SHORTEST_SECRET_KEY:
            raise ConfigurationError(
                f"{self.place_of('secret_key')} has a key of less than {SHORTEST_SECRET_KEY} characters. A person who "
                f"guessed it could forge tokens. {mend}"
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


def _named(name: str, table: Mapping[str, Any]) -> dict[str, Any]:
    """The table of a source, with its name, and with the place of its secrets seen from the folder of the settings."""
    if "name" in table:
        raise ValueError(
            f"sources.{name} has a `name`, which is not a setting: remove it, since its heading names the source"
        )
    file = table.get("secrets_file")
    if isinstance(file, str) and file:
        # Relative to the file with the settings, so that the program may start in any folder.
        beside = Path(environment.value(CONFIG_VARIABLE) or ".").parent
        return {**table, "name": name, "secrets_file": str(beside.absolute() / file)}
    return {**table, "name": name}


def settings_folder() -> Path:
    """The folder of the settings file, where a user's dialects may stand; without a file, the working directory."""
    named = environment.value(CONFIG_VARIABLE)
    # Not `resolve`, which raises an error for a link to itself.
    return Path(os.path.realpath(named)).parent if named else Path.cwd()


def load(path: Path | None = None) -> Settings:
    """The settings in force: the environment's over the file's.

    `path` defaults to the file that `HOOKMIRROR_CONFIG` names. Raises `ConfigurationError`, which names each wrong
    setting.
    """
    _refuse_unknown_variables()
    named = environment.value(CONFIG_VARIABLE)
    path = path or (Path(named) if named else None)
    content = _read(path) if path is not None else {}
    try:
        settings = Settings(**content)
    except ValidationError as error:
        raise ConfigurationError(
            f"The settings in {mistakes.place(error, path)} are wrong: {_wrong(error)}. docs/operations.md lists them "
            "all."
        ) from None
    except SettingsError:
        variables = " or ".join(name for name in os.environ if name.upper() in JSON_VARIABLES)
        raise ConfigurationError(
            f'The settings in the environment are wrong: {variables} is not JSON: write a list as ["…"], and the '
            'sources as {"<name>": {"secrets": ["…"]}}.'
        ) from None
    settings._file = path
    settings._names_sources_twice = "sources" in content and environment.value(f"{VARIABLE_PREFIX}SOURCES") is not None
    return settings


def _wrong(error: ValidationError, *table: str) -> str:
    return mistakes.told(error, Settings.model_fields, SourceSettings.model_fields, *table)


def _refuse_unknown_variables() -> None:
    known = {CONFIG_VARIABLE, FOLLOW_TO_VARIABLE, TOKEN_VARIABLE, VITALS_VARIABLE} | {
        f"{VARIABLE_PREFIX}{name.upper()}" for name in Settings.model_fields
    }
    unknown = environment.unknown(known)
    if unknown:
        meant = mistakes.perhaps(
            unknown[0].removeprefix(VARIABLE_PREFIX), map(str.upper, Settings.model_fields), VARIABLE_PREFIX
        )
        raise ConfigurationError(
            f"{unknown[0]} is set in the environment and is not a setting: correct its name{meant}. "
            "docs/operations.md lists all."
        )


def _read(path: Path) -> dict[str, Any]:
    try:
        # Some editors begin a file with a byte order mark, which is not a part of the text.
        content = tomllib.loads(
            read_bounded(path, timeout=files.WRITER_TIMEOUT).decode("utf-8-sig").replace("\r\n", "\n")
        )
    except IsADirectoryError:
        raise ConfigurationError(
            f"{CONFIG_VARIABLE} names {str(path)!r}, which is a folder: name a file, such as "
            f"{str(path / 'hookmirror.toml')!r}."
        ) from None
    except PermissionError:
        raise ConfigurationError(
            f"{CONFIG_VARIABLE} names {str(path)!r}, which this user may not read: give the user the right to read it."
        ) from None
    except OSError as error:
        raise ConfigurationError(
            f"{CONFIG_VARIABLE} names {str(path)!r}, which cannot be read ({error.strerror}): "
            "create it, or correct the path."
        ) from None
    except UnicodeDecodeError as error:
        raise ConfigurationError(
            f"{path} is not TOML: it is not written in UTF-8 ({error.reason} at byte {error.start}): save it as UTF-8."
        ) from None
    except (ValueError, RecursionError) as error:
        # An integer of thousands of digits raises a ValueError of its own.
        raise ConfigurationError(f"{path} is not TOML: {error}.") from None
    sources = content.get("sources")
    for name, table in sources.items() if isinstance(sources, dict) else ():
        if isinstance(table, dict) and isinstance(table.get("secrets_file"), str):
            content["sources"][name]["secrets_file"] = str(path.parent.absolute() / table["secrets_file"])
    return content
