"""Templates: which text a signature covers, written as the sender's documentation does: `{webhook-id}.{body}`."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from receiver.errors import NotVerified, WiringError
from receiver.verify.request import WebhookRequest

#: Names that do not stand for a header or a field.
RESERVED = ("body", "method", "url", "path", "secret")

_PLACEHOLDER = re.compile(r"\{\{|\}\}|\{([^{}]*)\}|[{}]")

#: A header's name, with or without the word before it that says so; and a field of the signature's header.
_HEADER = re.compile(r"(?:header:)?([!#$%&'*+.^_`|~0-9A-Za-z-]+)")
_FIELD = re.compile(r"(?:field:)?([A-Za-z0-9_]+)")


#: The value of a field that stands in its header more than once.
REPEATED = bytes(bytearray(b"(more than once)"))


class Placeholder(NamedTuple):
    """One name between braces. `kind` is a reserved name, `header` or `field`."""

    kind: str
    #: Of a header in lower case; empty for a reserved one.
    name: str = ""

    @classmethod
    def of(cls, text: str) -> Placeholder:
        """Raises `WiringError` for a text that no placeholder has."""
        if text in RESERVED:
            return cls(text)
        if text.startswith("header:") or ("-" in text and not text.startswith("field:")):
            found = _HEADER.fullmatch(text)
            if found is not None:
                return cls("header", found[1].lower())
        elif found := _FIELD.fullmatch(text):
            return cls("field", found[1])
        raise WiringError(
            f"`{{{text}}}` stands for nothing in a template: write {', '.join(f'{{{name}}}' for name in RESERVED)}, "
            "{Some-Header} or {header:Header} for a header, or {t} for a field of the signature's header."
        )

    def __str__(self) -> str:
        return self.name or self.kind


class Template:
    """A text with placeholders, read once, and filled in for each request."""

    def __init__(self, text: str) -> None:
        """Raises `WiringError` for braces that are not closed, and for a placeholder that stands for nothing.

        Two braces stand for one.
        """
        self.text = text
        self.placeholders: list[Placeholder] = []
        self._literals: list[str] = [""]
        end = 0
        for found in _PLACEHOLDER.finditer(text):
            self._literals[-1] += text[end : found.start()]
            end = found.end()
            if found[0] in ("{{", "}}"):
                self._literals[-1] += found[0][0]
            elif found[1] is None:
                raise WiringError(
                    f"The template {text!r} has a brace without its other half: write it twice, or close it."
                )
            else:
                self.placeholders.append(Placeholder.of(found[1]))
                self._literals.append("")
        self._literals[-1] += text[end:]
        self._format = b"%b".join(literal.replace("%", "%%").encode() for literal in self._literals)
        #: Texts between two values. A value that held one could be cut at another place than the sender's.
        self.separators = tuple({literal.encode() for literal in self._literals[1:-1] if literal})
        self._only_separator = self.separators[0] if len(self.separators) == 1 else None
        self._steps = [(each.kind, each.name.encode()) for each in self.placeholders]
        self._is_body_alone = text == "{body}"
        self._check_neighbours()

    def __repr__(self) -> str:
        return f"Template({self.text!r})"

    def _check_neighbours(self) -> None:
        """Raises `WiringError` for two headers without a text between them."""
        for place, literal in enumerate(self._literals[1:-1]):
            pair = self.placeholders[place : place + 2]
            if not literal and all(each.kind in ("header", "field") for each in pair):
                raise WiringError(
                    f"In the template {self.text!r}, {{{pair[0]}}} and {{{pair[1]}}} touch, so that nobody knows where "
                    "one ends: write what the sender puts between them."
                )

    @property
    def headers(self) -> tuple[str, ...]:
        """The names of the headers that it covers, in lower case."""
        return tuple(each.name for each in self.placeholders if each.kind == "header")

    def names(self, kind: str) -> bool:
        """Whether it has a placeholder of this kind."""
        return any(each.kind == kind for each in self.placeholders)

    def text_of(
        self, request: WebhookRequest, headers: Mapping[bytes, bytes], fields: Mapping[bytes, bytes], secret: bytes
    ) -> bytes:
        """The text that the sender signed. Raises `NotVerified` for a value that is missing or holds a separator."""
        if self._is_body_alone:
            return request.body
        values: list[bytes] = []
        for kind, name in self._steps:
            if kind == "body":
                values.append(request.body)
            elif kind == "header" or kind == "field":
                value = (headers if kind == "header" else fields).get(name)
                if value is None or value is REPEATED or self._is_divided(value):
                    raise self._flaw(Placeholder(kind, name.decode()), value)
                values.append(value)
            elif kind == "secret":
                values.append(secret)
            else:
                values.append(getattr(request, kind).encode("latin-1"))
        return self._format % tuple(values)

    def _is_divided(self, value: bytes) -> bool:
        """Whether it holds a text that separates two values."""
        if self._only_separator is not None:
            return self._only_separator in value
        return any(separator in value for separator in self.separators)

    def _flaw(self, wanted: Placeholder, value: bytes | None) -> NotVerified:
        """The refusal of a value that cannot be signed so."""
        if value is None:
            return NotVerified("signature_missing", f"There is no {described(wanted)}, which its sender signs.")
        if value is REPEATED:
            return NotVerified("signature_repeated", f"The {described(wanted)} is there more than once. Send it once.")
        separators = " or ".join(f"`{separator.decode()}`" for separator in self.separators)
        return NotVerified(
            "signature_malformed", f"The {described(wanted)} holds {separators}, which separates the signed values."
        )


def described(placeholder: Placeholder) -> str:
    """The value that a placeholder stands for, as messages call it."""
    return f"header {placeholder.name}" if placeholder.kind == "header" else f"field `{placeholder.name}`"


def placeholder(text: str) -> Placeholder:
    """The one placeholder that a text consists of, such as `{webhook-timestamp}`. Raises `WiringError`."""
    read: Sequence[Placeholder] = Template(text).placeholders
    if len(read) != 1 or text != text.strip() or not text.startswith("{") or not text.endswith("}"):
        raise WiringError(f"{text!r} is not one placeholder: write such as {{webhook-timestamp}} or {{t}}.")
    return read[0]
