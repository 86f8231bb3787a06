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

from resyncctl.config.addresses import is_capture_file
from resyncctl.config.model import Layer, Model, environment
from resyncctl.config.problems import DEFAULT, KEYS, Origin, Place, Problem, complaint, misfit, misspelt_variables
from resyncctl.config.settings import FILE_VARIABLE, PREFIX, Settings, Source, default_data_dir
from resyncctl.config.toml_keys import Key, key_lines, line_of
from resyncctl.errors import InputError

if TYPE_CHECKING:
    from pydantic_core import ErrorDetails

_OPTIONAL: Final = ("tls_cert", "tls_key", "sip_tls_ca", "sip_tls_cert", "sip_tls_key")
"""Paths that may be None."""
_TOGETHER: Final = (
    ("tls_cert", "tls_key", "give both or neither"),
    ("tls_key", "tls_cert", "give both or neither"),
    ("sip_tls_key", "sip_tls_cert", "give both, or a certificate whose file has the key too"),
)
_LIST: Final = 'is no list; write it in JSON, ["FIRST", "SECOND"]'
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
    for key in ("data_dir", *_OPTIONAL):
        _put_under(folder, values, key)
    places = values.get("trace")
    if isinstance(places, list):
        values["trace"] = [
            _under(folder, one) if isinstance(one, str) and is_capture_file(one) else one for one in places
        ]
    sources = values.get("sources")
    for source in sources.values() if isinstance(sources, dict) else ():
        if isinstance(source, dict):
            _put_under(folder, source, "file")
    return _Said(Place.FILE, values, name, key_lines(text))


def _put_under(folder: Path, table: dict[str, object], key: str) -> None:
    value = table.get(key)
    if isinstance(value, str) and value:
        table[key] = _under(folder, value)


def _under(folder: Path, path: str) -> str:
    return path if path.startswith("~") else str(folder / path)


def _environment(environ: Mapping[str, str], written: Layer, problems: list[Problem]) -> dict[str, object]:
    """Return what the environment says; a source that the file has too gets the file's spelling of its name."""
    problems += misspelt_variables(environ)
    try:
        values = environment(environ)
    except SettingsError:
        found = {name: _unfit(name, value) for name, value in environ.items()}
        problems += [one for one in found.values() if one]
        return environment({name: value for name, value in environ.items() if not found[name]})
    known, sources = written.get("sources"), values.get("sources")
    if isinstance(known, dict) and isinstance(sources, dict):
        spelt = {str(name).lower(): name for name in known}
        values["sources"] = {spelt.get(name, name): source for name, source in sources.items()}
    return values


def _unfit(name: str, value: str) -> Problem | None:
    """Say what is wrong with a variable whose value is not the JSON that it has to be."""
    try:
        environment({name: value})
    except SettingsError:
        key = name.removeprefix(PREFIX).lower()
        text = f"is no table; set {name}__NAME__FILE instead" if key == "sources" else _LIST
        return Problem(Origin(Place.ENVIRONMENT, name), key, f"{name} {text}")
    return None


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
    """Find a certificate without a key, and a key without a certificate. To phones, both may be in one file."""
    given = {key for key in _OPTIONAL if next((one.values[key] for one in said if key in one.values), "")}
    for key, other, advice in _TOGETHER:
        if key in given and other not in given:
            origin = _origin(said, (key,))
            name = key if origin.place is Place.FILE else origin.name
            yield Problem(origin, key, f"{name} is given without {other}; {advice}")


def _settings(model: Model, environ: Mapping[str, str]) -> Settings:
    values = {key: getattr(model, key) for key in KEYS if key != "sources"}
    for key in _OPTIONAL:
        values[key] = values[key].absolute() if values[key] else None
    values["trace"] = tuple(str(Path(one).absolute()) if is_capture_file(one) else one for one in model.trace)
    values["data_dir"] = (model.data_dir or default_data_dir(environ)).absolute()
    sources = {name: Source(one.file.absolute(), one.from_domain) for name, one in sorted(model.sources.items())}
    return Settings(**values, sources=MappingProxyType(sources))


def _keys(settings: Settings) -> Iterator[Key]:
    for key in KEYS:
        if key == "sources" and settings.sources:
            for name, source in settings.sources.items():
                yield (key, name, "file")
                if source.from_domain:
                    yield (key, name, "from_domain")
        else:
            yield (key,)
