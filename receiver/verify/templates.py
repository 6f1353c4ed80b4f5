"""Templates: the text that a signature covers, in the notation of senders' documentation: `{webhook-id}.{body}`."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

from receiver.errors import NotVerified, WiringError
from receiver.verify.request import WebhookRequest

#: Reserved names, which do not name a header or a field.
RESERVED = ("body", "method", "url", "path", "secret")

_PLACEHOLDER = re.compile(r"\{\{|\}\}|\{([^{}]*)\}|[{}]")

#: The placeholder of a header, with or without `header:` before its name; and that of a field beside the signature.
_HEADER = re.compile(r"(?:header:)?([!#$%&'*+.^_`|~0-9A-Za-z-]+)")
_FIELD = re.compile(r"(?:field:)?([A-Za-z0-9_]+)")


#: The value that stands for a repeated field.
REPEATED = bytes(bytearray(b"(more than once)"))

#: By kind of placeholder, the Python expression of its value; the value is None if the request lacks it.
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
    """One name in braces. `kind` is a reserved name, `header` or `field`."""

    kind: str
    #: The name of the header, in lower case, or of the field; empty for a reserved name.
    name: str = ""

    @classmethod
    def of(cls, text: str) -> Placeholder:
        """Parse the text between the braces. Raises `WiringError` if it is not a placeholder."""
        if text in RESERVED:
            return cls(text)
        if text.startswith("header:") or ("-" in text and not text.startswith("field:")):
            found = _HEADER.fullmatch(text)
            if found is not None:
                return cls("header", found[1].lower())
        elif found := _FIELD.fullmatch(text):
            return cls("field", found[1])
        raise WiringError(
            f"`{{{text}}}` is not a placeholder: write {', '.join(f'{{{name}}}' for name in RESERVED)}, "
            "{Some-Header} or {header:Header} for a header, or {t} for a field of the signature's header."
        )

    def __str__(self) -> str:
        return self.name or self.kind


class Template:
    """A text with placeholders, parsed once and filled in for each request."""

    def __init__(self, text: str) -> None:
        """Parse the text. Raises `WiringError` for braces that are not closed, and for an unknown placeholder.

        A doubled brace is a literal brace.
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
                    f"The template {text!r} has a brace that is not closed: close it, or double it for a literal brace."
                )
            else:
                self.placeholders.append(Placeholder.of(found[1]))
                self._literals.append("")
        self._literals[-1] += text[end:]
        self._format = b"%b".join(literal.replace("%", "%%").encode() for literal in self._literals)
        #: The separators between two values. A value that contains one would make the signed text ambiguous.
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
                    f"In the template {self.text!r}, {{{pair[0]}}} and {{{pair[1]}}} touch, so the end of the first "
                    "value is unknown: write the text that the sender puts between them."
                )

    @property
    def headers(self) -> tuple[str, ...]:
        """The names of the headers that the template covers, in lower case."""
        return tuple(each.name for each in self.placeholders if each.kind == "header")

    def names(self, kind: str) -> bool:
        """Whether the template has a placeholder of this kind."""
        return any(each.kind == kind for each in self.placeholders)

    def text_of(
        self, request: WebhookRequest, headers: Mapping[bytes, bytes], fields: Mapping[bytes, bytes], secret: bytes
    ) -> bytes:
        """Make the text that the sender signed. Raises `NotVerified` for a value that is missing or has a separator."""
        if self._is_body_alone:
            return request.body
        text: bytes | None = self._fill(request, headers, fields, secret)
        if text is None:
            raise self._first_flaw(headers, fields)
        return text

    def _compiled(self) -> Callable[..., bytes | None]:
        """Compile the function that fills in the template; it returns None if a value cannot be signed.

        It is one expression for all values, because a loop over the values took three times as long.
        """
        values, sound = [], []
        for place, (kind, name) in enumerate(self.placeholders):
            value = _EXPRESSIONS[kind].format(name=name.encode())
            if kind in ("header", "field"):
                sound += [f"(value{place} := {value}) is not None", f"value{place} is not REPEATED"]
                # A single byte is searched for as a number, because searching bytes in bytes takes ten times as long.
                searched = [each[0] if len(each) == 1 else each for each in self.separators]
                sound += [f"{each!r} not in value{place}" for each in searched]
                value = f"value{place}"
            values.append(value)
        filled = f"{self._format!r} % ({''.join(f'{value}, ' for value in values)})"
        code = f"lambda request, headers, fields, secret: {filled} if {' and '.join(sound) or True} else None"
        return eval(code, {"REPEATED": REPEATED})  # type: ignore[no-any-return]  # noqa: S307 (names are quoted)

    def _first_flaw(self, headers: Mapping[bytes, bytes], fields: Mapping[bytes, bytes]) -> NotVerified:
        """Make the refusal of the first value that cannot be signed."""
        for wanted in self.placeholders:
            if wanted.kind in ("header", "field"):
                value = (headers if wanted.kind == "header" else fields).get(wanted.name.encode())
                if value is None or value is REPEATED or any(separator in value for separator in self.separators):
                    return self._flaw(wanted, value)
        raise AssertionError("every value can be signed")

    def _flaw(self, wanted: Placeholder, value: bytes | None) -> NotVerified:
        if value is None:
            return NotVerified("signature_missing", f"There is no {described(wanted)}, which its sender signs.")
        if value is REPEATED:
            return NotVerified(
                "signature_repeated", f"The request has the {described(wanted)} more than once. Send it once."
            )
        separators = " or ".join(f"`{separator.decode()}`" for separator in self.separators)
        return NotVerified(
            "signature_malformed", f"The {described(wanted)} holds {separators}, which separates the signed values."
        )


def described(placeholder: Placeholder) -> str:
    """The name of a placeholder's value in messages."""
    return f"header {placeholder.name}" if placeholder.kind == "header" else f"field `{placeholder.name}`"


def placeholder(text: str) -> Placeholder:
    """The one placeholder that a text consists of, such as `{webhook-timestamp}`. Raises `WiringError`."""
    read: Sequence[Placeholder] = Template(text).placeholders
    if len(read) != 1 or text != text.strip() or not text.startswith("{") or not text.endswith("}"):
        raise WiringError(f"{text!r} is not one placeholder: write such as {{webhook-timestamp}} or {{t}}.")
    return read[0]
