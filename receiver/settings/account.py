"""One account of one system: the settings of a source, and its secrets from the settings or a file."""

from __future__ import annotations

import codecs
import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, PrivateAttr, SecretStr, field_validator, model_validator

from receiver.errors import ConfigurationError
from receiver.http_urls import flaw_for_calls, url_flaw
from receiver.settings import files
from receiver.settings.files import read_bounded
from receiver.settings.timetable import Timetable, read_timetable
from receiver.verify.verifiers import Credentials, Secret

SOURCE_NAME = re.compile(r"[a-z0-9](?:[a-z0-9_-]{0,62}[a-z0-9])?")


class SourceSettings(BaseModel):
    """One account of one system: the table `[sources.<name>]`."""

    model_config = ConfigDict(extra="forbid", hide_input_in_errors=True)

    #: The source's name, from the table's heading. The URL that the sender posts to ends with it.
    name: str = Field(exclude=True)
    #: The name of the source's dialect; by default the name of the source.
    dialect: str = ""
    #: The secrets that verify its bodies, newest first. All are valid at once.
    secrets: list[SecretStr] = []
    #: A file with one secret in each line, newest first, in addition to `secrets`. Blanks around a line do not count.
    secrets_file: Path | None = None
    #: Secrets by the id of the webhook record at the sender, for senders with a secret for each record.
    webhook_secrets: dict[str, SecretStr] = {}
    #: Accept bodies without a signature.
    allow_unsigned: bool = False
    #: The application key inside encrypted bodies.
    app_key: SecretStr | None = None
    #: The token in a sender's challenge.
    challenge_token: SecretStr | None = None
    #: The origins whose challenges are answered with consent to send here, such as "eventgrid.azure.net".
    allowed_origins: list[str] = []
    #: The layout of encrypted bodies.
    cipher: str = "auto"
    #: The address of this source as registered at its sender, if it is not the address that `public_url` gives.
    registered_url: str | None = None
    #: The dialect's own settings: the table `[sources.<name>.settings]`, which the dialect's model checks.
    settings: dict[str, Any] = Field(default={}, repr=False)
    #: The source's own API, for hydrating and reconciling.
    api_url: str | None = None
    #: The API's key or user name.
    api_key: SecretStr | None = None
    #: The API's secret or password, for APIs that need both.
    api_secret: SecretStr | None = None
    #: Seconds after a webhook's arrival in which the API may not show its change yet.
    api_lag_seconds: float = Field(default=60.0, ge=0, le=3_600)
    #: The timetable in UTC by which workers reconcile the source, such as "daily 02:10"; never, unless set.
    reconcile: str | None = None

    _own: Any = PrivateAttr(None)
    #: The secrets in `secrets_file` once it was read, so that a copy of these settings in another process has the same.
    _in_file: list[bytes] | None = PrivateAttr(None)

    @field_validator("*", mode="before")
    @classmethod
    def _is_text(cls, given: Any) -> Any:
        check_texts(given)
        return given

    @field_validator("secrets_file")
    @classmethod
    def _is_a_path(cls, file: Path | None) -> Path | None:
        if file is not None and "\0" in str(file):
            raise ValueError("takes the path of a file, and no path has a NUL in it")
        return file

    @field_validator("secrets", "webhook_secrets", "app_key", "challenge_token", "api_key", "api_secret")
    @classmethod
    def _ends_in_no_line_end(cls, given: Any) -> Any:
        if any(text.strip("\r\n") != text for _, text in _texts(given)):
            raise ValueError("begins or ends with a line end, which is never a part of a secret: remove it")
        return given

    @field_validator("api_url")
    @classmethod
    def _can_be_called(cls, url: str | None) -> str | None:
        if url and flaw_for_calls(url) is not None:
            raise ValueError('takes the URL of an API, such as "https://pim.example/api/v1"')
        # A template leaves it empty if its variable was not set.
        return url or None

    @field_validator("registered_url")
    @classmethod
    def _can_be_signed(cls, url: str | None) -> str | None:
        if url:
            check_public_url(url)
        return url or None

    @field_validator("reconcile")
    @classmethod
    def _is_a_timetable(cls, text: str | None) -> str | None:
        if text:
            read_timetable(text)
        return text or None

    @property
    def own(self) -> Any:
        """`settings` as the dialect's model; None if the dialect declares no model, or before the wiring."""
        return self._own

    @property
    def reconcile_timetable(self) -> Timetable | None:
        return None if self.reconcile is None else read_timetable(self.reconcile)

    @model_validator(mode="after")
    def _default_dialect(self) -> SourceSettings:
        if not SOURCE_NAME.fullmatch(self.name):
            raise ValueError("a source's name has 1 to 64 letters a–z, digits, `-` and `_`, because it stands in a URL")
        self.dialect = self.dialect or self.name
        return self

    @property
    def doubts(self) -> list[str]:
        """Warnings, a sentence each, about blanks around secrets, which are allowed and hardly ever intended."""
        return [
            f"{name} of the source {self.name} has blanks around it, which count as part of it: remove them, unless "
            "the sender has them, too."
            for field in ("secrets", "webhook_secrets", "app_key", "challenge_token", "api_key", "api_secret")
            for name, text in _texts(getattr(self, field), field)
            if text.strip() != text and text.strip()
        ]

    def credentials(self) -> Credentials:
        """The credentials that verify this source's bodies. The first call reads the file of secrets.

        Raises `ConfigurationError` for an unreadable file.
        """
        return Credentials(
            secrets=(
                *(Secret(secret.get_secret_value().encode()) for secret in self.secrets),
                *(Secret(line) for line in self._lines_of_secrets_file()),
                *(Secret(value.get_secret_value().encode(), name) for name, value in self.webhook_secrets.items()),
            ),
            allow_unsigned=self.allow_unsigned,
            app_key=self.app_key.get_secret_value() if self.app_key else None,
            cipher=self.cipher,
            public_url=self.registered_url or "",
        )

    def _lines_of_secrets_file(self) -> Iterable[bytes]:
        if self.secrets_file is None:
            return []
        if self._in_file is None:
            named = f"The source {self.name} names secrets_file = {str(self.secrets_file)!r}"
            self._in_file = lines_of_secrets(self.secrets_file, named=named, setting="secrets_file")
        return self._in_file


def lines_of_secrets(file: Path, *, named: str, setting: str) -> list[bytes]:
    """Read the secrets in a file, one in each line. Messages describe the file's origin by `named` and `setting`.

    Raises `ConfigurationError` if the file is unreadable or has no secret.
    """
    try:
        content = read_bounded(file, timeout=files.WRITER_TIMEOUT)
    except OSError as error:
        raise ConfigurationError(
            f"{named}, which cannot be read ({error.strerror}): create it with one secret a line, or correct the path."
        ) from None
    if content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        raise ConfigurationError(f"{named}, which is written in UTF-16: save it as UTF-8.")
    stripped = [line.strip() for line in content.removeprefix(codecs.BOM_UTF8).splitlines()]
    if not any(stripped):
        raise ConfigurationError(f"{named}, which has no secret: write one secret a line, or remove `{setting}`.")
    return [line for line in stripped if line]


def _texts(given: Any, name: str = "") -> Iterator[tuple[str, str]]:
    """The secrets in the value of a setting, each under its name."""
    if isinstance(given, SecretStr):
        yield name, given.get_secret_value()
    elif isinstance(given, dict):
        for key, each in given.items():
            yield from _texts(each, f"{name}.{key}")
    elif isinstance(given, list):
        for position, each in enumerate(given, start=1):
            yield from _texts(each, f"{name}[{position}]")


def check_texts(given: Any) -> None:
    """Raise `ValueError` for a text, anywhere in the value of a setting, that cannot be written in UTF-8."""
    if isinstance(given, Mapping):
        for name, each in given.items():
            check_texts(name)
            check_texts(each)
    elif isinstance(given, list):
        for each in given:
            check_texts(each)
    elif isinstance(given, str):
        try:
            given.encode()
        except UnicodeEncodeError:
            # A variable of the environment may have any bytes, and JSON may have halves of characters.
            raise ValueError("is not text in UTF-8: write it in UTF-8, without random bytes") from None


def check_public_url(url: str) -> None:
    """Raise `ValueError` for a text that is not a URL which a sender could call, or has a query."""
    if url_flaw(url) is not None or "?" in url or "#" in url:
        raise ValueError('takes the address that senders call, without a query, such as "https://hooks.shop.example"')
