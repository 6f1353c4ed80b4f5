"""Challenges: requests by which a sender asks whether an address is its receiver's, before it sends webhooks there.

Pure functions of a dialect answer challenges, which are never stored. An answer repeats a value of the request only if
the value is one short line of printable ASCII without markup, as plain text or inside JSON.
"""

from __future__ import annotations

import hashlib
import hmac
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

from receiver import codec
from receiver.dialects.forms import fields_of
from receiver.dialects.replies import SenderReply
from receiver.errors import ChallengeRefused, Unreadable
from receiver.settings.settings import SourceSettings
from receiver.verify.verifiers import Credentials

#: The most characters of a value that an answer repeats.
LONGEST_ECHO = 1_024

#: The HTTP methods of challenges, over all senders.
METHODS = frozenset({"GET", "OPTIONS", "POST"})

#: A text that is signed for strangers. Each part of a word is a word or empty, and neither is accepted as a body.
WORD = re.compile(r"[A-Za-z0-9+/_-]{1,256}={0,2}")

_WORD_OR_PART = re.compile(rb"[A-Za-z0-9+/_-]{0,256}={0,2}")


@dataclass(frozen=True)
class ChallengeRequest:
    """A request that may be a challenge. `verified` says whether the body is known to come from the source."""

    method: str
    #: The parameters of the query; the first value of a repeated parameter.
    query: Mapping[str, str]
    #: The values of the headers, by name in lower case. No signature covers them.
    headers: Mapping[str, str]
    #: The body; empty for GET and OPTIONS.
    body: bytes
    verified: bool
    settings: SourceSettings = field(repr=False)
    credentials: Credentials = field(repr=False)
    #: Whether a function of the dialect makes the text that a signature covers. That text may be a word.
    signs_made_text: bool = field(default=False, repr=False)

    @property
    def document(self) -> Any:
        """The parsed JSON of the body; None if the body is not JSON."""
        try:
            return codec.decode(self.body)
        except Unreadable:
            return None

    def echo(self, name: str) -> SenderReply | None:
        """Answer with a parameter of the query as plain text; None if it is missing. Raises `ChallengeRefused`."""
        value = self.query.get(name)
        return None if value is None else self.text(value)

    def text(self, value: str) -> SenderReply:
        """Answer 200 with this value as plain text. Raises `ChallengeRefused` if it is long, or holds markup."""
        return SenderReply(200, harmless(value))

    def json(self, **members: str) -> SenderReply:
        """Answer 200 with these members as JSON. Raises `ChallengeRefused` if a value is long, or holds markup."""
        checked = {name: harmless(value) for name, value in members.items()}
        return SenderReply(200, codec.encode(checked).decode(), content_type="application/json")

    def is_token(self, given: str) -> bool:
        """Compare the text with the source's `challenge_token` in constant time; return whether they are equal."""
        token = self.settings.challenge_token
        if token is None or not token.get_secret_value().strip():
            return False
        return hmac.compare_digest(given.encode("utf-8", "replace"), token.get_secret_value().encode())

    def hmac_sha256(self, text: str) -> str:
        """Compute the HMAC-SHA256 of the text with the source's newest secret, in hexadecimal digits.

        In a request that is not verified, the text must be a `WORD`. Raises `ChallengeRefused`.
        """
        if not self.verified:
            self._check_word(text)
        if not self.credentials.secrets:
            raise ChallengeRefused("This source has no secret to answer a challenge with: set `secrets`.")
        return hmac.new(self.credentials.secrets[0].value, text.encode(), hashlib.sha256).hexdigest()

    def _check_word(self, text: str) -> None:
        """Raises `ChallengeRefused` for a text whose HMAC could be the signature of a webhook."""
        if WORD.fullmatch(text) is None:
            raise ChallengeRefused(
                "Only a word of at most 256 letters, digits and `+/_-`, with up to two `=` behind it, is signed for a "
                "request that is not signed itself. Any other text could be a webhook."
            )
        if self.signs_made_text:
            raise ChallengeRefused(
                "Nothing is signed for a request that is not signed itself, because a function of this dialect makes "
                "the text that signatures cover, and such a text may be a word, too."
            )


#: A function that answers a challenge, and returns None for any other request.
ChallengeFunction = Callable[[ChallengeRequest], SenderReply | None]


@dataclass(frozen=True, slots=True)
class Challenge:
    """A function that answers challenges, and the conditions under which it is called."""

    function: ChallengeFunction
    methods: frozenset[str]
    #: Whether the function is called with a POST before verification.
    before_verifying: bool

    def about(self, method: str, *, verified: bool) -> bool:
        """Whether the function is called for a request with this method before or after verification."""
        return method in self.methods and (method != "POST" or verified is not self.before_verifying)

    @property
    def may_sign_words(self) -> bool:
        """Whether the function may sign words for strangers. The ready-made functions sign none."""
        return getattr(self.function, "may_sign_words", True)


@dataclass(frozen=True, slots=True)
class EchoQuery:
    """Answers with a parameter of the query, as Business Central, Graph, Adobe and Meta require.

    A POST with a body is not a challenge, because webhooks may be sent to an address with this parameter. With `token`,
    it answers only if that parameter equals the source's `challenge_token`. Without `token`, it answers any caller: the
    answer reveals nothing, because it is a line of plain text that the caller sent.
    """

    name: str
    token: str | None = None
    methods: ClassVar[frozenset[str]] = frozenset({"GET", "POST"})
    may_sign_words: ClassVar[bool] = False
    before_verifying: ClassVar[bool] = True

    def check(self, settings: SourceSettings) -> str | None:
        """Check the settings of a source. Returns an error message, or None if the source can answer."""
        if self.token is not None and settings.challenge_token is None:
            return (
                "its sender shows a token in its challenge: set `challenge_token` to the token that you gave the sender"
            )
        return None

    def __call__(self, asked: ChallengeRequest) -> SenderReply | None:
        if self.name not in asked.query or asked.body:
            return None
        if self.token is not None and not asked.is_token(asked.query.get(self.token, "")):
            raise ChallengeRefused(f"{self.token} is not the challenge_token of this source. Compare both sides.")
        return asked.echo(self.name)


@dataclass(frozen=True, slots=True)
class EchoBody:
    """Answers with a value of a verified body, as Slack and Event Grid require.

    `path` is the place of the value, such as "challenge" or "0.data.validationCode". `where` holds the members, with
    their values, by which a challenge is recognised. `answer` is the name of the value in the answer.
    """

    path: str
    where: Mapping[str, str]
    answer: str
    methods: ClassVar[frozenset[str]] = frozenset({"POST"})
    may_sign_words: ClassVar[bool] = False
    before_verifying: ClassVar[bool] = False

    def __call__(self, asked: ChallengeRequest) -> SenderReply | None:
        if any(value.encode() not in asked.body for value in self.where.values()):
            # Nearly all bodies end here without being parsed.
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
    """Consents to deliveries from the source's `allowed_origins`, which senders of CloudEvents request by OPTIONS."""

    rate: str = "*"
    methods: ClassVar[frozenset[str]] = frozenset({"OPTIONS"})
    may_sign_words: ClassVar[bool] = False
    before_verifying: ClassVar[bool] = True

    def check(self, settings: SourceSettings) -> str | None:
        """Check the settings of a source. Returns an error message, or None if the source can answer."""
        if not settings.allowed_origins:
            return 'its sender requests consent: set `allowed_origins`, such as ["eventgrid.azure.net"]'
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
    """Answers with a token of a verified body and the token's HMAC-SHA256, as Zoom requires."""

    event: str = "endpoint.url_validation"
    methods: ClassVar[frozenset[str]] = frozenset({"POST"})
    may_sign_words: ClassVar[bool] = False
    before_verifying: ClassVar[bool] = False

    def __call__(self, asked: ChallengeRequest) -> SenderReply | None:
        document = asked.document if self.event.encode() in asked.body else None
        if not isinstance(document, dict) or document.get("event") != self.event:
            return None
        # The token is in the one object beside the name of the event.
        inside = [each for each in document.values() if isinstance(each, dict)]
        token = inside[0].get("plainToken") if inside else None
        if not isinstance(token, str):
            raise ChallengeRefused("The challenge has no plainToken.")
        return asked.json(plainToken=token, encryptedToken=asked.hmac_sha256(harmless(token)))


@dataclass(frozen=True, slots=True)
class FormPing:
    """Answers 200 to an unsigned form whose only field is `field`, a number. WooCommerce sends it on saving."""

    field: str
    methods: ClassVar[frozenset[str]] = frozenset({"POST"})
    may_sign_words: ClassVar[bool] = False
    before_verifying: ClassVar[bool] = True

    def __call__(self, asked: ChallengeRequest) -> SenderReply | None:
        name, _, number = asked.body[:64].partition(b"=")
        is_ping = len(asked.body) < 64 and name == self.field.encode() and number.isdigit()
        return SenderReply(200) if is_ping else None


def is_word(body: bytes) -> bool:
    """Whether the body is a `WORD`, a part of one, or empty: a challenge function may sign such a text for anyone."""
    return _WORD_OR_PART.fullmatch(body) is not None


def harmless(value: str) -> str:
    """Return the value if an answer may repeat it. Raises `ChallengeRefused`."""
    if type(value) is not str or len(value) > LONGEST_ECHO or not value.isascii() or not value.isprintable():
        raise ChallengeRefused(f"The challenge is not one line of at most {LONGEST_ECHO} printable ASCII characters.")
    if "<" in value or ">" in value:
        raise ChallengeRefused("The challenge holds markup, which is not sent back.")
    return value


def member(document: Any, path: str) -> Any:
    """The value at a path of names and positions, such as "0.data.code"; None if there is none."""
    for name in path.split("."):
        if isinstance(document, dict):
            document = document.get(name)
        elif isinstance(document, list) and name.isdigit() and int(name[:9]) < len(document):
            document = document[int(name[:9])]
        else:
            return None
    return document


def query_of(text: bytes) -> dict[str, str]:
    """Parse a query; of a repeated parameter, the first value counts. Raises `ChallengeRefused` if that fails."""
    try:
        found = fields_of(text)
    except Unreadable as error:
        raise ChallengeRefused(str(error)) from None
    return {name: values[0] for name, values in found.items()}
