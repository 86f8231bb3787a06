"""Settings out of a file, the environment and the command line: all that is wrong at once, and where each value comes from."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Final

from pydantic import ValidationError
from pydantic_settings import SettingsError

from resyncctl.config.model import Layer, Model, environment
from resyncctl.config.problems import DEFAULT, KEYS, Origin, Place, Problem, complaint, misfit, misspelt_variables
from resyncctl.config.settings import FILE_VARIABLE, PREFIX, Settings, default_data_dir
from resyncctl.config.toml_keys import Key, key_lines, line_of
from resyncctl.errors import InputError

if TYPE_CHECKING:
    from pydantic_core import ErrorDetails

_PATHS: Final = ("data_dir", "tls_cert", "tls_key")
_PAIR: Final = ("tls_cert", "tls_key")
_AT_LINE: Final = re.compile(r"at line ([0-9]+)")


@dataclass(frozen=True, slots=True, kw_only=True)
class Survey:
    """What was found. `settings` is None when there are problems."""

    settings: Settings | None
    problems: tuple[Problem, ...]
    origins: Mapping[str, Origin]
    """Of each key, dotted; `sources` itself is among them when there are none."""
    file: str = ""
    """As it was named; '' for none."""
    namer: str = ""
    """`--config`, or the variable that names the file."""

    def usable(self) -> Settings:
        """Return the settings; raise InputError that says all that is wrong."""
        if self.settings is None:
            raise InputError(complaint(self.problems, f"{self.namer} {self.file}"))
        return self.settings


@dataclass(frozen=True, slots=True)
class _Said:
    """What one place says."""

    place: Place
    values: Layer
    file: str = ""
    lines: Mapping[Key, int] = field(default_factory=dict)

    def origin(self, key: Key) -> Origin:
        match self.place:
            case Place.FILE:
                return Origin(self.place, self.file, line_of(self.lines, key))
            case Place.ENVIRONMENT:
                return Origin(self.place, PREFIX + "__".join(key).upper())
            case Place.COMMAND_LINE:
                return Origin(self.place, f"--{key[0].replace('_', '-')}")
            case Place.DEFAULT:
                return DEFAULT

    def holds(self, key: Key) -> bool:
        inner: object = self.values
        for part in key:
            if not isinstance(inner, Mapping) or part not in inner:
                return False
            inner = inner[part]
        return True


def survey(*, file: Path | None, environ: Mapping[str, str], told: Layer) -> Survey:
    """Read all three; `told` is what the command line says, by key. Raise InputError only when there is no home."""
    named = file or (Path(environ[FILE_VARIABLE]) if environ.get(FILE_VARIABLE) else None)
    namer = "--config" if file else FILE_VARIABLE
    problems: list[Problem] = []
    written = _Said(Place.FILE, {}) if named is None else _read(named, namer, problems)
    unread = bool(problems)
    around = _Said(Place.ENVIRONMENT, _environment(environ, written.values, problems))
    said = (_Said(Place.COMMAND_LINE, told), around, written)
    for one in reversed(said):  # each alone, so that what is overruled is found too; what is missing may be in another
        found = _errors([one.values])
        problems += [misfit(error, key, one.origin(key)) for error, key in found if error["type"] != "missing"]
    if not unread:
        known = {problem.key for problem in problems}
        whole = [(error, key) for error, key in _errors([one.values for one in said]) if ".".join(key) not in known]
        problems += [misfit(error, key, _origin(said, key)) for error, key in whole]
        problems += _halves(said)
    settings = None if problems else _settings(Model.of([one.values for one in said]), environ)
    return Survey(
        settings=settings,
        problems=tuple(sorted(problems, key=_in_order)),
        origins={} if settings is None else {".".join(key): _origin(said, key) for key in _keys(settings)},
        file="" if named is None else str(named),
        namer=namer,
    )


def _in_order(problem: Problem) -> tuple[bool, int]:
    """Order those of the file by line, before the others."""
    return problem.origin.place is not Place.FILE, problem.origin.line or 0


def _read(file: Path, namer: str, problems: list[Problem]) -> _Said:
    """Read the file; add what keeps it from being read to `problems`. Relative paths in it become relative to its directory."""
    name = str(file)
    try:
        text = file.expanduser().read_text(encoding="utf-8-sig")
        values = tomllib.loads(text)
    except (OSError, RuntimeError) as error:
        reason = error.strerror if isinstance(error, OSError) else str(error)
        leave = "leave --config out" if namer == "--config" else f"unset {namer}"
        problems.append(
            Problem(Origin(Place.FILE, name), "", f"cannot be read ({reason}); name a TOML file, or {leave}")
        )
        return _Said(Place.FILE, {}, name)
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        found = _AT_LINE.search(str(error))
        advice = f'not TOML: {error}; write lines like data_dir = "/srv/resyncctl"'
        problems.append(Problem(Origin(Place.FILE, name, int(found[1]) if found else None), "", advice))
        return _Said(Place.FILE, {}, name)
    folder = file.expanduser().absolute().parent
    for key in _PATHS:
        _put_under(folder, values, key)
    sources = values.get("sources")
    for source in sources.values() if isinstance(sources, dict) else ():
        if isinstance(source, dict):
            _put_under(folder, source, "file")
    return _Said(Place.FILE, values, name, key_lines(text))


def _put_under(folder: Path, table: dict[str, object], key: str) -> None:
    value = table.get(key)
    if isinstance(value, str) and value and not value.startswith("~"):
        table[key] = str(folder / value)


def _environment(environ: Mapping[str, str], written: Layer, problems: list[Problem]) -> dict[str, object]:
    """Return what the environment says; a source that the file has too gets the file's spelling of its name."""
    problems += misspelt_variables(environ)
    try:
        values = environment(environ)
    except SettingsError:
        name = f"{PREFIX}SOURCES"
        problems.append(
            Problem(Origin(Place.ENVIRONMENT, name), "sources", f"{name} is no table; set {name}__NAME__FILE instead")
        )
        return environment({key: value for key, value in environ.items() if key != name})
    known, sources = written.get("sources"), values.get("sources")
    if isinstance(known, dict) and isinstance(sources, dict):
        spelt = {str(name).lower(): name for name in known}
        values["sources"] = {spelt.get(name, name): source for name, source in sources.items()}
    return values


def _errors(layers: Sequence[Layer]) -> list[tuple[ErrorDetails, Key]]:
    """Return what is wrong with layers, with the key."""
    try:
        Model.of(layers)
    except ValidationError as error:
        return [
            (one, tuple(str(part) for part in one["loc"] if part != "[key]")) for one in error.errors(include_url=False)
        ]
    return []


def _origin(said: Sequence[_Said], key: Key) -> Origin:
    """Tell who says what a key is, else who made the table that it is not in."""
    for length in range(len(key), 0, -1):
        for one in said:
            if one.holds(key[:length]):
                return one.origin(key)
    return DEFAULT


def _halves(said: Sequence[_Said]) -> Iterator[Problem]:
    """Find a certificate without a key, and a key without a certificate."""
    given = [key for key in _PAIR if next((one.values[key] for one in said if key in one.values), "")]
    if len(given) == 1:
        (other,) = set(_PAIR) - set(given)
        origin = _origin(said, (given[0],))
        name = given[0] if origin.place is Place.FILE else origin.name
        yield Problem(origin, given[0], f"{name} is given without {other}; give both or neither")


def _settings(model: Model, environ: Mapping[str, str]) -> Settings:
    values = {key: getattr(model, key) for key in KEYS if key != "sources"}
    for key in _PAIR:
        values[key] = values[key].absolute() if values[key] else None
    values["data_dir"] = (model.data_dir or default_data_dir(environ)).absolute()
    sources = {name: source.file.absolute() for name, source in sorted(model.sources.items())}
    return Settings(**values, sources=MappingProxyType(sources))


def _keys(settings: Settings) -> Iterator[Key]:
    for key in KEYS:
        if key == "sources" and settings.sources:
            yield from ((key, name, "file") for name in settings.sources)
        else:
            yield (key,)
