"""Places of a signature in a request: one header, several headers, or a member of the body."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Protocol

from receiver import codec
from receiver.errors import ConfigurationError, NotVerified, Unreadable, WiringError
from receiver.verify.request import WebhookRequest, wire_text
from receiver.verify.templates import REPEATED

#: The most signatures in one request, since each is compared with each secret.
MOST_SIGNATURES = 16


#: The encoded signatures, and the other fields of their header, such as `t`.
FoundSignatures = tuple[list[bytes], Mapping[bytes, bytes]]

NO_FIELDS: Mapping[bytes, bytes] = {}


class SignaturePlace(Protocol):
    """The place of a signature in a request."""

    @property
    def headers(self) -> tuple[str, ...]:
        """The headers that may hold the signature."""

    @property
    def name(self) -> str:
        """The name of the place in messages."""

    @property
    def has_fields(self) -> bool:
        """Whether the header holds other fields beside the signature, which a template may name."""

    def find(self, request: WebhookRequest, headers: Mapping[bytes, bytes]) -> FoundSignatures | None:
        """Find the signatures at this place; None if the request has none. Raises `NotVerified`."""

    def write(self, body: bytes, signatures: list[str], fields: Mapping[str, str]) -> tuple[bytes, dict[str, str]]:
        """Put these signatures, newest first, in their place: returns the body and the headers to send.

        Raises `ConfigurationError` if the body has no such place.
        """


@dataclass(frozen=True)
class Header(SignaturePlace):
    """A header whose value is the signature behind a `prefix`, or a list of fields.

    In a list, `items` separates two items, `field` is the name of a signature, and `between` separates a name from its
    value: `t=…,v1=…` is `items=",", field="v1"`, and `v1,… v1,…` is `items=" ", field="v1", between=","`. Raises
    `WiringError` for parts that do not fit together.
    """

    header: str
    prefix: str = ""
    items: str = ""
    field: str = ""
    between: str = "="
    #: Whether a signature without the prefix is accepted, too.
    prefix_optional: bool = False

    def __post_init__(self) -> None:
        if bool(self.items) != bool(self.field) or not self.between or (self.prefix and self.items):
            raise WiringError(
                f"The header {self.header} is either a value behind a `prefix`, or a list. For a list, give `items`, "
                "the text between two items, and `field`, the name before a signature."
            )

    @property
    def headers(self) -> tuple[str, ...]:
        return (self.header,)

    @property
    def name(self) -> str:
        return self.header

    @property
    def has_fields(self) -> bool:
        return bool(self.field)

    def find(self, request: WebhookRequest, headers: Mapping[bytes, bytes]) -> FoundSignatures | None:  # noqa: ARG002 (protocol)
        name, prefix, _, _, _ = self._wire
        value = headers.get(name)
        if value is None:
            return None
        if self.field:
            return self._items(value)
        if value.startswith(prefix):
            return [value[len(prefix) :]], NO_FIELDS
        if self.prefix_optional:
            return [value], NO_FIELDS
        raise NotVerified("signature_malformed", f"{self.header} does not begin with `{self.prefix}`.")

    @cached_property
    def _wire(self) -> tuple[bytes, bytes, bytes, bytes, bytes]:
        """The parts as bytes, made once because each webhook is compared with them."""
        name, *parts = self.header.lower(), self.prefix, self.items, self.between, self.field
        return name.encode(), *(part.encode() for part in parts)  # type: ignore[return-value]

    def _items(self, value: bytes) -> FoundSignatures:
        _, _, items, between, wanted = self._wire
        signatures: list[bytes] = []
        fields: dict[bytes, bytes] = {}
        for item in value.split(items):
            name, _, content = item.strip().partition(between)
            if name == wanted:
                signatures.append(content)
            else:
                fields[name] = REPEATED if name in fields else content
        if len(signatures) > MOST_SIGNATURES:
            raise NotVerified(
                "signature_malformed",
                f"{self.header} holds {len(signatures)} signatures. Send at most {MOST_SIGNATURES}.",
            )
        if not signatures:
            raise NotVerified(
                "signature_malformed", f"{self.header} holds no field `{self.field}`, which is the signature."
            )
        return signatures, fields

    def fields(self, request: WebhookRequest) -> Mapping[bytes, bytes]:
        """The other fields of the header, for a function that makes the signed text. Raises `NotVerified`."""
        value = request.header(self.header)
        return NO_FIELDS if value is None or not self.field else self._items(value)[1]

    def write(self, body: bytes, signatures: list[str], fields: Mapping[str, str]) -> tuple[bytes, dict[str, str]]:
        if not self.field:
            return body, {self.header: f"{self.prefix}{signatures[0]}"}
        pairs = [*fields.items(), *((self.field, signature) for signature in signatures)]
        return body, {self.header: self.items.join(f"{name}{self.between}{value}" for name, value in pairs)}


class Headers(SignaturePlace):
    """Several headers, each with one signature. One signature that fits suffices, and headers may be missing."""

    def __init__(self, *names: str, prefix: str = "") -> None:
        """Raises `WiringError` if no header is named."""
        if not names:
            raise WiringError(
                "Headers(…) names no header: write, for example, Headers('X-Signature-1', 'X-Signature-2')."
            )
        self._names, self._prefix = names, prefix

    def __repr__(self) -> str:
        return f"Headers{self._names}"

    @property
    def headers(self) -> tuple[str, ...]:
        return self._names

    @property
    def name(self) -> str:
        return " or ".join(self.headers)

    @property
    def has_fields(self) -> bool:
        return False

    def find(self, request: WebhookRequest, headers: Mapping[bytes, bytes]) -> FoundSignatures | None:  # noqa: ARG002 (protocol)
        values = [headers[name] for name in map(wire_text, map(str.lower, self.headers)) if name in headers]
        prefix = wire_text(self._prefix)
        found = [value[len(prefix) :] for value in values if value.startswith(prefix)]
        if values and not found:
            raise NotVerified("signature_malformed", f"{self.name} does not begin with `{self._prefix}`.")
        return (found, NO_FIELDS) if found else None

    def write(self, body: bytes, signatures: list[str], fields: Mapping[str, str]) -> tuple[bytes, dict[str, str]]:  # noqa: ARG002 (protocol)
        pairs = zip(self.headers, signatures, strict=False)
        return body, {name: f"{self._prefix}{signature}" for name, signature in pairs}


@dataclass(frozen=True, slots=True)
class BodyMember(SignaturePlace):
    """A member of the JSON body, such as `additionalData.hmacSignature`."""

    path: str

    @property
    def headers(self) -> tuple[str, ...]:
        return ()

    @property
    def name(self) -> str:
        return f"`{self.path}` in the body"

    @property
    def has_fields(self) -> bool:
        return False

    def find(self, request: WebhookRequest, headers: Mapping[bytes, bytes]) -> FoundSignatures | None:  # noqa: ARG002 (protocol)
        try:
            value: Any = codec.decode(request.body)
        except Unreadable:
            return None
        for part in self.path.split("."):
            value = value.get(part) if isinstance(value, dict) else None
        if value is None:
            return None
        if not isinstance(value, str):
            raise NotVerified("signature_malformed", f"{self.name} is not text.")
        return [value.encode("utf-8", "replace")], NO_FIELDS

    def write(self, body: bytes, signatures: list[str], fields: Mapping[str, str]) -> tuple[bytes, dict[str, str]]:  # noqa: ARG002 (protocol)
        *owners, last = self.path.split(".")
        try:
            whole = owner = codec.decode(body)
            for part in owners:
                owner = owner.setdefault(part, {})
            owner[last] = signatures[0]
        except (Unreadable, AttributeError, TypeError):
            raise ConfigurationError(
                f"This cannot be signed: the signature is {self.name}, and the body has no object for it. "
                "Send a JSON object."
            ) from None
        return codec.encode(whole), {}
