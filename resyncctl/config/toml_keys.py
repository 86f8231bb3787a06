"""In which line of a TOML file a key stands. tomllib reads values and does not tell; this finds keys and reads no values."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping
from typing import Final

Key = tuple[str, ...]
"""A key with the tables that it is in, outermost first."""

_TOKEN: Final = re.compile(
    r"""
      (?P<text> \"{3} (?:[^\\]|\\.)*? \"{3,5} | '{3} .*? '{3,5} | "(?:[^"\\\n]|\\.)*" | '[^'\n]*' )
    | (?P<comment> \#[^\n]* )
    | (?P<newline> \n )
    | (?P<open> [\[{] )
    | (?P<close> [\]}] )
    | (?P<equals> = )
    | (?P<word> [A-Za-z0-9_-]+ )
    | (?P<other> . )
    """,
    re.VERBOSE | re.DOTALL,
)


def key_lines(text: str) -> dict[Key, int]:
    """Return the line, from 1, of every key and table header of a valid TOML document, and of the tables around them.

    Keys within an inline table are not in it: their table's is, which ends in the line where it began.
    """
    found: dict[Key, int] = {}
    table: Key = ()
    parts: list[str] = []
    line, depth = 1, 0
    in_header = in_value = False
    for token in _TOKEN.finditer(text):
        match token.lastgroup:
            case "newline" if depth == 0:
                in_header = in_value = False
                parts.clear()
            case "word" | "text" if not in_value:
                parts.append(_plain(token[0]))
            case "equals" if not in_value:
                _note(found, (*table, *parts), line)
                in_value = True
            case "open" if not in_value:
                in_header = True
            case "close" if in_header and not in_value:
                table = tuple(parts)
                _note(found, table, line)
                in_value = True  # what may follow is the second bracket of `[[…]]` and a comment
            case "open" if not in_header:
                depth += 1
            case "close" if not in_header:
                depth -= 1
            case _:
                pass
        line += token[0].count("\n")
    return found


def line_of(lines: Mapping[Key, int], key: Key) -> int | None:
    """Return the line of a key, else that of the innermost table around it that has one; None for none at all."""
    for length in range(len(key), 0, -1):
        if key[:length] in lines:
            return lines[key[:length]]
    return None


def _plain(word: str) -> str:
    """Return a part of a key without its quotes and escapes."""
    return str(tomllib.loads(f"k = {word}")["k"]) if word[0] in "\"'" else word


def _note(found: dict[Key, int], key: Key, line: int) -> None:
    for length in range(1, len(key) + 1):
        found.setdefault(key[:length], line)
