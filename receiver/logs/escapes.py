"""Escapes: text from outside as it may be shown to people, with nothing in it that moves, colours or hides text."""

from __future__ import annotations


def visible(text: str) -> str:
    """The text with whatever is not printable written out, as Python's text literals do: `\\x1b`, `\\n`, `\\u202e`.

    That is every control character, line end, direction mark, lone surrogate and unassigned character.
    """
    return text if text.isprintable() else "".join(each if each.isprintable() else _written_out(each) for each in text)


def visible_lines(text: str) -> str:
    """As `visible`, keeping the line ends; each line is indented, so that none can pass for one of our own."""
    return "\n".join("    " + visible(line) for line in text.split("\n"))


def text_of(value: object) -> str:
    """The text of any object, as `visible`. An object that cannot say its own text is told by its type's name."""
    try:
        return visible(str.__str__(str(value)))
    except BaseException:
        # As the interpreter knows the type: its metaclass may raise, too.
        return visible(f"({type.__dict__['__name__'].__get__(type(value))})")


def _written_out(character: str) -> str:
    return character.encode("unicode_escape").decode("ascii")
