"""Tokens: a secret that the sender sends itself, in a header, in the query or in the body, without a signature."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from hmac import compare_digest
from typing import Any
from urllib.parse import parse_qsl

from receiver import codec
from receiver.errors import ConfigurationError, NotVerified, Unreadable, WiringError
from receiver.verify.ciphers import REDACTED
from receiver.verify.request import WebhookRequest, wire_text
from receiver.verify.verifiers import EMPTY_SECRET, NAMED_SECRET, Credentials, Verified, Verifier

#: The most parameters of a query that is read.
MOST_PARAMETERS = 100

#: The step of a path that selects each item of a list.
EACH_ITEM = "[]"


@dataclass(frozen=True, slots=True, kw_only=True)
class Token(Verifier):
    """Compares the secret itself, in constant time: in a `header` behind a `prefix`, in the `query` or in the `body`.

    `body` is the path of a member, such as `clientState` or `value[].clientState`. `[]` means each item of a list, and
    all items must have the same secret. A token identifies the sender of a request, and does not protect its content.
    Raises `WiringError` unless exactly one place is named.
    """

    header: str = ""
    query: str = ""
    body: str = ""
    prefix: str = ""

    def __post_init__(self) -> None:
        if sum(map(bool, (self.header, self.query, self.body))) != 1 or (self.prefix and not self.header):
            raise WiringError(
                "A Token needs exactly one place: write Token(header=…), perhaps with a `prefix`, Token(query=…) or "
                "Token(body=…)."
            )

    @property
    def secret_headers(self) -> tuple[str, ...]:
        """The header that the verifier reads. It holds the secret, so it must not be kept."""
        return (self.header,) if self.header else ()

    @property
    def name(self) -> str:
        """The name of the place in messages."""
        if self.header:
            return f"the header {self.header}"
        return f"`{self.query}` in the query" if self.query else f"`{self.body}` in the body"

    def check(self, credentials: Credentials) -> str | None:
        if credentials.has_empty_secret:
            return EMPTY_SECRET
        if credentials.has_names:
            return NAMED_SECRET
        if credentials.secrets or credentials.allow_unsigned:
            return credentials.unused_without_encryption
        return f'it has no secret to compare {self.name} with: set `secrets = ["…"]` or `secrets_file`'

    def verify(self, request: WebhookRequest, credentials: Credentials) -> Verified:
        sent = self._sent(request)
        if not sent:
            if credentials.allow_unsigned:
                return Verified(request.body, None)
            raise NotVerified("signature_missing", f"There is no token: send it in {self.name}.")
        if not credentials.secrets and credentials.allow_unsigned:
            return Verified(request.body, None)
        for position, secret in enumerate(credentials.secrets):
            # A list, so that all tokens are compared and the duration does not reveal which of them is wrong.
            if False not in [compare_digest(secret.value, each) for each in sent]:
                return Verified(request.body, position)
        raise NotVerified(
            "signature_wrong",
            f"The token in {self.name} is not a secret of this source. Compare the secrets on both sides.",
        )

    def redact(self, plain: bytes, credentials: Credentials) -> bytes:  # noqa: ARG002 (protocol)
        """Replace the tokens in the body, which are secrets."""
        document = _document(plain) if self.body else None
        if document is None or not self._found(document):
            return plain
        # Encoded again as a whole, because other members may hold the same text, and a token may contain escapes.
        return codec.encode(_replaced(document, self._steps, REDACTED))

    def prepare(self, body: bytes, credentials: Credentials) -> bytes:
        """Put the newest secret as token into the body, if the body has the place for it."""
        document = _document(body)
        if not self.body or document is None or not credentials.secrets:
            return body
        token = credentials.secrets[0].value.decode("utf-8", "replace")
        return codec.encode(_replaced(document, self._steps, token))

    def sign(self, request: WebhookRequest, credentials: Credentials) -> tuple[bytes, dict[str, str]]:
        if not credentials.secrets or self.body:
            return request.body, {}
        if self.header:
            return request.body, {self.header: self.prefix + credentials.secrets[0].value.decode("utf-8", "replace")}
        if self._sent(request):
            return request.body, {}
        raise ConfigurationError(f"The token belongs into {self.name}: send to an address that contains it.")

    # ── the places ────────────────────────────────────────────────────────────────────────────────────────────

    def _sent(self, request: WebhookRequest) -> list[bytes]:
        """The tokens of a request; an empty list if it has none. Raises `NotVerified`."""
        if self.header:
            return self._in_header(request)
        if self.query:
            return self._in_query(request)
        found = self._found(_document(request.body))
        if not all(isinstance(each, str) for each in found):
            raise NotVerified("signature_missing", f"A token in {self.name} is missing or not text. Send all of them.")
        return [_bytes(each) for each in found]

    def _in_header(self, request: WebhookRequest) -> list[bytes]:
        value = request.header(self.header)
        if value is None:
            return []
        prefix = wire_text(self.prefix)
        if not value.startswith(prefix):
            raise NotVerified("signature_malformed", f"{self.header} does not begin with `{self.prefix}`.")
        return [value[len(prefix) :]]

    def _in_query(self, request: WebhookRequest) -> list[bytes]:
        try:
            pairs = parse_qsl(request.query, keep_blank_values=True, max_num_fields=MOST_PARAMETERS)
        except ValueError:
            raise NotVerified(
                "signature_malformed", f"The query has more than {MOST_PARAMETERS} parameters. Send fewer."
            ) from None
        found = [value for name, value in pairs if name == self.query]
        if len(found) > 1:
            raise NotVerified("signature_repeated", f"The query has `{self.query}` {len(found)} times. Send it once.")
        return [_bytes(each) for each in found]

    @property
    def _steps(self) -> list[str]:
        return self.body.replace(EACH_ITEM, f".{EACH_ITEM}").strip(".").split(".")

    def _found(self, document: Any) -> list[Any]:
        """The values at the path; None for each missing value."""
        found = [document]
        for step in self._steps:
            if step == EACH_ITEM:
                found = [item for each in found for item in (each if isinstance(each, list) else [None])]
            else:
                found = [each.get(step) if isinstance(each, dict) else None for each in found]
        return found if found != [None] else []


def _replaced(document: Any, steps: Sequence[str], token: str) -> Any:
    """Copy the document with this token at every place of a token."""
    if not steps:
        return token
    step, rest = steps[0], steps[1:]
    if step == EACH_ITEM and isinstance(document, list):
        return [_replaced(each, rest, token) for each in document]
    if isinstance(document, dict) and (rest or step in document):
        return document | ({step: _replaced(document[step], rest, token)} if step in document else {})
    return document


def _document(body: bytes) -> Any:
    try:
        return codec.decode(body)
    except Unreadable:
        return None


def _bytes(text: Any) -> bytes:
    return text.encode("utf-8", "replace") if isinstance(text, str) else b""
