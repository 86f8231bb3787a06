"""Where a setting comes from, and what is wrong with one: in words, with the key that was probably meant."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from enum import StrEnum
from typing import TYPE_CHECKING, Final

from resyncctl.config.settings import PREFIX, Settings, Source
from resyncctl.config.toml_keys import Key
from resyncctl.logs import redact_text

if TYPE_CHECKING:
    from pydantic_core import ErrorDetails

KEYS: Final = tuple(one.name for one in fields(Settings))
"""Of the file, without what stands in its tables."""
_OF_A_SOURCE: Final = tuple(one.name for one in fields(Source))
_CLOSE: Final = 0.75
"""Likeness (difflib's) from which a key is taken for a misspelt one."""
_LONGEST: Final = 60
"""Characters of a value that are quoted."""
_NAME: Final = "is not a name; use up to 64 letters, digits, '.', '_' and '-', a letter or a digit first"
_NUMBER: Final = "is not a number"
_WHOLE: Final = "is not a whole number"
_TRUTH: Final = "is neither true nor false"
_TABLE: Final = 'is not a table; write [sources.NAME] and below it file = "PHONES.csv"'
_ABOUT_THE_VALUE: Final = {
    "string_pattern_mismatch": _NAME,
    "int_type": _WHOLE,
    "int_parsing": _WHOLE,
    "int_from_float": _WHOLE,
    "float_type": _NUMBER,
    "float_parsing": _NUMBER,
    "finite_number": _NUMBER,
    "greater_than": "is not more than {gt}",
    "greater_than_equal": "is less than {ge}",
    "less_than_equal": "is more than {le}",
    "bool_type": _TRUTH,
    "bool_parsing": _TRUTH,
}
_ABOUT_THE_KEY: Final = {
    "missing": 'is missing; write file = "PHONES.csv"',
    "string_type": "is not text in quotes",
    "path_type": "is not text in quotes",
    "tuple_type": 'is not a list; write ["FIRST", "SECOND"]',
    "dict_type": _TABLE,
    "model_type": _TABLE,
}


class Place(StrEnum):
    """Who says what a setting is. Those that stand first overrule the others."""

    COMMAND_LINE = "command line"
    ENVIRONMENT = "environment"
    FILE = "file"
    DEFAULT = "default"


@dataclass(frozen=True, slots=True)
class Origin:
    """Where a setting comes from: `name` is the option, the variable or the file."""

    place: Place
    name: str = ""
    line: int | None = None

    def __str__(self) -> str:
        match self.place:
            case Place.DEFAULT:
                return str(self.place)
            case Place.FILE:
                return self.name if self.line is None else f"{self.name}:{self.line}"
            case Place.ENVIRONMENT | Place.COMMAND_LINE:
                return f"{self.place} ({self.name})"


DEFAULT: Final = Origin(Place.DEFAULT)


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that is wrong; `text` names the key, the variable or the option.

    `key` is '' for a file that is no file of settings; `unknown` = nothing has that key.
    """

    origin: Origin
    key: str
    text: str
    unknown: bool = False

    def __str__(self) -> str:
        return f"{self.origin}: {self.text}" if self.origin.place is Place.FILE else self.text

    @property
    def without_file(self) -> str:
        """The text with the line, where the file has been named before; that a file is not TOML tells the line itself."""
        return self.text if self.origin.line is None or not self.key else f"line {self.origin.line}: {self.text}"


def complaint(problems: Sequence[Problem], file: str) -> str:
    """Put all problems into one paragraph; `file` says which file it is and who named it, like `--config c.toml`."""
    inside = [one.without_file for one in problems if one.origin.place is Place.FILE]
    if any(one.unknown and one.origin.place is Place.FILE for one in problems):
        inside.append(f"known keys: {', '.join(KEYS)}")
    parts = [f"{file}: {'; '.join(inside)}"] if inside else []
    parts += [one.text for one in problems if one.origin.place is not Place.FILE]
    return "; ".join(parts)


def misfit(error: ErrorDetails, key: Key, origin: Origin) -> Problem:
    """Say what pydantic found wrong with a key."""
    dotted = ".".join(key)
    name = origin.name if origin.place in {Place.COMMAND_LINE, Place.ENVIRONMENT} else dotted
    kind = error["type"]
    if kind == "extra_forbidden":
        near = _nearest(key[-1], KEYS if len(key) == 1 else _OF_A_SOURCE)
        text = f"unknown key {dotted!r}" + (f", did you mean {'.'.join((*key[:-1], near))}?" if near else "")
        return Problem(origin, dotted, text, unknown=len(key) == 1)
    if kind in _ABOUT_THE_KEY:
        return Problem(origin, dotted, f"{name} {_ABOUT_THE_KEY[kind]}")
    context = error.get("ctx", {})
    if kind in {"literal_error", "enum"}:
        text = f"is none of {str(context['expected']).replace(' or ', ', ')}".replace("'", "")
    elif kind in _ABOUT_THE_VALUE:
        text = _ABOUT_THE_VALUE[kind].format(**context)
    else:
        text = error["msg"].removeprefix("Value error, ")
    return Problem(origin, dotted, f"{name} {redact_text(repr(error['input']))[:_LONGEST]} {text}")


def misspelt_variables(environ: Mapping[str, str]) -> list[Problem]:
    """Find the variables that nothing reads and that look like one that is read.

    Others are no errors: Kubernetes sets RESYNCCTL_PORT and more of the kind for a service of our name.
    """
    problems = []
    for name in sorted(environ):
        first, _, inner = name.removeprefix(PREFIX).lower().partition("__")
        if not name.startswith(PREFIX) or (first in KEYS and (not inner or first == "sources")):
            continue
        near = _nearest(first, KEYS)
        if near:
            meant = f"{PREFIX}{near.upper()}" + ("__NAME__FILE" if near == "sources" else "")
            text = f"nothing reads {name}, did you mean {meant}?"
            problems.append(Problem(Origin(Place.ENVIRONMENT, name), near, text))
    return problems


def _nearest(word: str, known: Sequence[str]) -> str:
    """Return the known word that was probably meant, or ''."""
    found = difflib.get_close_matches(word.lower().replace("-", "_"), known, n=1, cutoff=_CLOSE)
    return found[0] if found else ""
