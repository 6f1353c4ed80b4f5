"""Challenges: requests by which a sender asks whether an address is its receiver's, before it sends webhooks there.

They are answered by pure functions of a dialect, and never stored. What a request says comes back only in bounds: one
short line of printable ASCII without markup, as plain text or inside JSON.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

from receiver import codec
from receiver.dialects.forms import fields_of
from receiver.dialects.replies import SenderReply
from receiver.errors import ChallengeRefused, Unreadable
from receiver.settings.settings import SourceSettings
from receiver.verify.verifiers import Credentials

#: Characters of a value that comes back.
LONGEST_ECHO = 1_024

#: The methods of requests that are challenges with some sender.
METHODS = frozenset({"GET", "OPTIONS", "POST"})


@dataclass(frozen=True)
class ChallengeRequest:
    """A request that may be a challenge. `verified` says whether its body is proved to come from the source."""

    method: str
    #: The parameters of the address; of repeated ones the first.
    query: Mapping[str, str]
    #: By name in lower case. No signature covers them.
    headers: Mapping[str, str]
    #: Empty for GET and OPTIONS.
    body: bytes
    verified: bool
    settings: SourceSettings = field(repr=False)
    credentials: Credentials = field(repr=False)

    @property
    def document(self) -> Any:
        """The body's JSON; None if it is not JSON."""
        try:
            return codec.decode(self.body)
        except Unreadable:
            return None

    def echo(self, name: str) -> SenderReply | None:
        """The value of a parameter of the address as plain text; None without it. Raises `ChallengeRefused`."""
        value = self.query.get(name)
        return None if value is None else self.text(value)

    def text(self, value: str) -> SenderReply:
        """A 200 with this value as plain text. Raises `ChallengeRefused` if it is long, or holds markup."""
        return SenderReply(200, harmless(value))

    def json(self, **members: str) -> SenderReply:
        """A 200 with these members as JSON. Raises `ChallengeRefused` if one is long, or holds markup."""
        checked = {name: harmless(value) for name, value in members.items()}
        return SenderReply(200, codec.encode(checked).decode(), content_type="application/json")

    def is_token(self, given: str) -> bool:
        """Whether it is the source's `challenge_token`, compared in constant time."""
        token = self.settings.challenge_token
        if token is None or not token.get_secret_value().strip():
            return False
        return hmac.compare_digest(given.encode("utf-8", "replace"), token.get_secret_value().encode())

    def hmac_sha256(self, text: str) -> str:
        """The HMAC-SHA256 of the text with the source's newest secret, in hexadecimal digits."""
        if not self.credentials.secrets:
            raise ChallengeRefused("This source has no secret to answer a challenge with: set `secrets`.")
        return hmac.new(self.credentials.secrets[0].value, text.encode(), hashlib.sha256).hexdigest()


#: Answers a challenge; None for a request that is none.
ChallengeFunction = Callable[[ChallengeRequest], SenderReply | None]


@dataclass(frozen=True, slots=True)
class Challenge:
    """A function that answers challenges, and which requests it is asked about."""

    function: ChallengeFunction
    methods: frozenset[str]
    #: Whether a POST is put to it before it is verified.
    before_verifying: bool

    def about(self, method: str, *, verified: bool) -> bool:
        """Whether a request with this method is put to it at this point."""
        return method in self.methods and (method != "POST" or verified is not self.before_verifying)


@dataclass(frozen=True, slots=True)
class EchoQuery:
    """Answers with the value of a parameter of the address, as Business Central, Graph, Adobe and Meta ask for.

    With `token`, only if that parameter is the source's `challenge_token`; else no secret is shown by the answer, and
    anybody gets it: it is one line of plain text that the caller knew before.
    """

    name: str
    token: str | None = None
    methods: ClassVar[frozenset[str]] = frozenset({"GET", "POST"})
    before_verifying: ClassVar[bool] = True

    def check(self, settings: SourceSettings) -> str | None:
        """An error message about the settings of a source; None if it can answer."""
        if self.token is not None and settings.challenge_token is None:
            return "its sender asks for a token before it sends: set `challenge_token` to the one that you gave it"
        return None

    def __call__(self, asked: ChallengeRequest) -> SenderReply | None:
        if self.name not in asked.query:
            return None
        if self.token is not None and not asked.is_token(asked.query.get(self.token, "")):
            raise ChallengeRefused(f"{self.token} is not the challenge_token of this source. Compare both sides.")
        return asked.echo(self.name)


@dataclass(frozen=True, slots=True)
class EchoBody:
    """Answers with a value of a verified body, as Slack and Event Grid ask for.

    `path` leads to it, such as "challenge" or "0.data.validationCode"; `where` says which bodies are challenges, and
    `answer` under which name it comes back.
    """

    path: str
    where: Mapping[str, str]
    answer: str
    methods: ClassVar[frozenset[str]] = frozenset({"POST"})
    before_verifying: ClassVar[bool] = False

    def __call__(self, asked: ChallengeRequest) -> SenderReply | None:
        if any(value.encode() not in asked.body for value in self.where.values()):
            # Nearly every body: it need not be parsed here.
            return None
        document = asked.document
        if any(member(document, path) != value for path, value in self.where.items()):
            return None
        value = member(document, self.path)
        if not isinstance(value, str):
            raise ChallengeRefused(f"The challenge has no text at {self.path}.")
        return asked.json(**{self.answer: value})


@dataclass(frozen=True, slots=True)
class Consent:
    """Consents to deliveries from the source's `allowed_origins`, as webhooks of CloudEvents ask by OPTIONS."""

    rate: str = "*"
    methods: ClassVar[frozenset[str]] = frozenset({"OPTIONS"})
    before_verifying: ClassVar[bool] = True

    def check(self, settings: SourceSettings) -> str | None:
        """An error message about the settings of a source; None if it can answer."""
        if not settings.allowed_origins:
            return 'its sender asks for consent: set `allowed_origins`, such as ["eventgrid.azure.net"]'
        return None

    def __call__(self, asked: ChallengeRequest) -> SenderReply | None:
        origin = asked.headers.get("webhook-request-origin")
        if origin is None:
            return None
        allowed = next((each for each in asked.settings.allowed_origins if each.lower() == origin.lower()), None)
        if allowed is None:
            raise ChallengeRefused("WebHook-Request-Origin is not among the allowed_origins of this source.")
        headers = {"Allow": "POST", "WebHook-Allowed-Origin": allowed, "WebHook-Allowed-Rate": self.rate}
        return SenderReply(200, headers=headers)


@dataclass(frozen=True, slots=True)
class SignedToken:
    """Answers with a token of a verified body and its HMAC-SHA256, as Zoom asks for."""

    event: str = "endpoint.url_validation"
    methods: ClassVar[frozenset[str]] = frozenset({"POST"})
    before_verifying: ClassVar[bool] = False

    def __call__(self, asked: ChallengeRequest) -> SenderReply | None:
        document = asked.document if self.event.encode() in asked.body else None
        if not isinstance(document, dict) or document.get("event") != self.event:
            return None
        # In the one object beside the name of the event.
        inside = [each for each in document.values() if isinstance(each, dict)]
        token = inside[0].get("plainToken") if inside else None
        if not isinstance(token, str):
            raise ChallengeRefused("The challenge has no plainToken.")
        return asked.json(plainToken=token, encryptedToken=asked.hmac_sha256(harmless(token)))


@dataclass(frozen=True, slots=True)
class FormPing:
    """Answers 200 to an unsigned form with nothing but this field, a number. WooCommerce sends it on saving."""

    field: str
    methods: ClassVar[frozenset[str]] = frozenset({"POST"})
    before_verifying: ClassVar[bool] = True

    def __call__(self, asked: ChallengeRequest) -> SenderReply | None:
        name, _, number = asked.body[:64].partition(b"=")
        is_ping = len(asked.body) < 64 and name == self.field.encode() and number.isdigit()
        return SenderReply(200) if is_ping else None


def harmless(value: str) -> str:
    """The value, if it may come back to a stranger. Raises `ChallengeRefused`."""
    if type(value) is not str or len(value) > LONGEST_ECHO or not value.isascii() or not value.isprintable():
        raise ChallengeRefused(f"The challenge is not one line of at most {LONGEST_ECHO} printable ASCII characters.")
    if "<" in value or ">" in value:
        raise ChallengeRefused("The challenge holds markup, which is not sent back.")
    return value


def member(document: Any, path: str) -> Any:
    """The value at a path of names and places, such as "0.data.code"; None if there is none."""
    for name in path.split("."):
        if isinstance(document, dict):
            document = document.get(name)
        elif isinstance(document, list) and name.isdigit() and int(name[:9]) < len(document):
            document = document[int(name[:9])]
        else:
            return None
    return document


def query_of(text: bytes) -> dict[str, str]:
    """The parameters in a query; of repeated ones the first. Raises `ChallengeRefused` if they cannot be read."""
    try:
        found = fields_of(text)
    except Unreadable as error:
        raise ChallengeRefused(str(error)) from None
    return {name: values[0] for name, values in found.items()}
