"""Badly written exceptions that a user's dialect may raise, each named for its oddity."""

from __future__ import annotations

from collections.abc import Callable


class TextRaises(Exception):
    def __str__(self) -> str:
        raise RuntimeError("no text")

    __repr__ = __str__


class TextExits(Exception):
    def __str__(self) -> str:
        raise SystemExit(3)

    __repr__ = __str__


class TextIsNone(Exception):
    def __str__(self) -> str:
        return None  # type: ignore[return-value]


class TextIsDeep(Exception):
    def __str__(self) -> str:
        return str(self)


class OddText(str):
    __slots__ = ()

    def splitlines(self, *_: object) -> list[str]:
        raise RuntimeError("no lines")

    def __getitem__(self, _: object) -> str:
        raise RuntimeError("no part")

    def isascii(self) -> bool:
        raise RuntimeError("no letters")


class TextIsOdd(Exception):
    def __str__(self) -> str:
        return OddText("odd")


class NamelessType(type):
    def __getattribute__(cls, name: str) -> object:
        raise RuntimeError(f"no {name}")

    def __repr__(cls) -> str:
        raise RuntimeError("no text")


class Nameless(Exception, metaclass=NamelessType):
    def __str__(self) -> str:
        raise RuntimeError("no text")


class PartsRaise(Exception):
    def __getattribute__(self, name: str) -> object:
        raise RuntimeError(f"no {name}")


class NotesRaise(Exception):
    @property
    def __notes__(self) -> list[str]:
        raise KeyboardInterrupt


class OriginRaises(Exception):
    @property
    def orig(self) -> BaseException:
        raise GeneratorExit


ODD: dict[str, Callable[[], Exception]] = {
    "its text raises": TextRaises,
    "its text exits": TextExits,
    "its text is none": TextIsNone,
    "its text has no end": TextIsDeep,
    "its text is odd": TextIsOdd,
    "its type's name raises": Nameless,
    "its parts raise": PartsRaise,
    "its notes raise": NotesRaise,
    "its origin raises": OriginRaises,
    "it is huge": lambda: ValueError("x" * 5_000_000),
    "it holds a NUL and half a pair": lambda: ValueError("a\0b\ud800c"),
    "it holds a value without text": lambda: ValueError(TextRaises()),
}
