"""Templates: which text a signature covers, written as the sender's documentation does: `{webhook-id}.{body}`."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
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

#: The Python expression of the value that a placeholder of each kind stands for; None if the request has none.
_EXPRESSIONS = {
    "body": "request.body",
    "method": "request.method.encode('latin-1')",
    "url": "request.url.encode('latin-1')",
    "path": "request.path.encode('latin-1')",
    "secret": "secret",
    "header": "headers.get({name!r})",
    "field": "fields.get({name!r})",
}


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
        self._is_body_alone = text == "{body}"
        self._fill = self._compiled()
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
        text: bytes | None = self._fill(request, headers, fields, secret)
        if text is None:
            raise self._first_flaw(headers, fields)
        return text

    def _compiled(self) -> Callable[..., bytes | None]:
        """Make the function that fills the template in; it returns None if a value cannot be signed.

        One expression for all values, because a step for each of them took three times as long.
        """
        values, sound = [], []
        for place, (kind, name) in enumerate(self.placeholders):
            value = _EXPRESSIONS[kind].format(name=name.encode())
            if kind in ("header", "field"):
                sound += [f"(value{place} := {value}) is not None", f"value{place} is not REPEATED"]
                # A single byte is searched as a number, because `in` of bytes in bytes takes ten times as long.
                searched = [each[0] if len(each) == 1 else each for each in self.separators]
                sound += [f"{each!r} not in value{place}" for each in searched]
                value = f"value{place}"
            values.append(value)
        filled = f"{self._format!r} % ({''.join(f'{value}, ' for value in values)})"
        code = f"lambda request, headers, fields, secret: {filled} if {' and '.join(sound) or True} else None"
        return eval(code, {"REPEATED": REPEATED})  # type: ignore[no-any-return]  # noqa: S307 (names are quoted)

    def _first_flaw(self, headers: Mapping[bytes, bytes], fields: Mapping[bytes, bytes]) -> NotVerified:
        """The refusal of the first value that cannot be signed."""
        for wanted in self.placeholders:
            if wanted.kind in ("header", "field"):
                value = (headers if wanted.kind == "header" else fields).get(wanted.name.encode())
                if value is None or value is REPEATED or any(separator in value for separator in self.separators):
                    return self._flaw(wanted, value)
        raise AssertionError("no value has a flaw")

    def _flaw(self, wanted: Placeholder, value: bytes | None) -> NotVerified:
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
