"""What may stand in the file and in the environment, for pydantic-settings. Imported only when one of them says something.

It takes 70 to 110 ms to import, which a command without a configuration does not pay.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Final

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, StringConstraints
from pydantic_settings import (
    BaseSettings,
    EnvSettingsSource,
    InitSettingsSource,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
)

from resyncctl.config.addresses import checked_collector, checked_domain, checked_nameserver, is_capture_file
from resyncctl.config.settings import PREFIX, LogFormat, Settings, expanded, parse_listen
from resyncctl.errors import InputError
from resyncctl.logs import LEVELS
from resyncctl.rollout.model import Engine

Layer = Mapping[str, object]
"""What one place says: the command line, the environment or the file."""

_D: Final = Settings(data_dir=Path())
_SIZE: Final = re.compile(r"([0-9]{1,12}) ?([KMG]iB)\Z")
_UNITS: Final = {"KiB": 1024, "MiB": 1024**2, "GiB": 1024**3}
_NAME: Final = "[A-Za-z0-9][A-Za-z0-9._-]{0,63}"
"""Of a source or a pool."""


def _location(value: object) -> object:
    """Put the home in for a `~`; an empty path is none."""
    if value == "" or not isinstance(value, str | Path):
        return None if value == "" else value
    try:
        return expanded(value)
    except InputError as error:
        raise ValueError("is in no known home") from error


def _named(value: object) -> object:
    if value == "":
        raise ValueError("names no file")
    return _location(value)


def _number(value: object) -> object:
    if isinstance(value, bool):  # which pydantic takes for 0 or 1
        raise ValueError("is not a number")  # noqa: TRY004  (pydantic collects no TypeError)
    return value


def _bytes(value: object) -> object:
    size = _SIZE.match(value) if isinstance(value, str) else None
    return int(size[1]) * _UNITS[size[2]] if size else _number(value)


def _listen(value: str) -> str:
    try:
        parse_listen(value)
    except InputError as error:
        raise ValueError("is not HOST:PORT; write for example 127.0.0.1:8420 or [::1]:8420") from error
    return value


def _pool(value: str) -> str:
    if not re.fullmatch(f"{_NAME}=.+", value):
        raise ValueError("is not POOL=SITE_GLOB; write for example berlin=ber-*")
    return value


def _place(value: str) -> str:
    if value == "":
        raise ValueError("names no file")
    return str(_location(value)) if is_capture_file(value) else checked_collector(value)


def _level(value: str) -> str:
    if value not in LEVELS:
        raise ValueError(f"is none of {', '.join(LEVELS)}")
    return value


Location = Annotated[Path | None, BeforeValidator(_location)]
Rate = Annotated[float, BeforeValidator(_number), Field(gt=0, le=1_000_000, allow_inf_nan=False)]
Streams = Annotated[int, BeforeValidator(_number), Field(ge=1, le=100_000)]
Bytes = Annotated[int, BeforeValidator(_bytes), Field(ge=1024, le=1024**3)]
"""Written as a number, or as text with KiB, MiB or GiB behind it."""


class Source(BaseModel):
    """A phone list."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    file: Annotated[Path, BeforeValidator(_named)]
    from_domain: Annotated[str, AfterValidator(checked_domain)] = ""


class Model(BaseSettings):
    """All that may be set. As such it is made of what it is given, and looks nowhere else; `Model.of` puts layers together."""

    model_config = SettingsConfigDict(
        extra="forbid", frozen=True, case_sensitive=True, env_prefix=PREFIX, env_nested_delimiter="__"
    )

    redis_url: str = _D.redis_url
    data_dir: Location = None
    log_level: Annotated[str, AfterValidator(_level)] = _D.log_level
    log_format: LogFormat = _D.log_format
    listen: Annotated[str, AfterValidator(_listen)] = _D.listen
    tls_cert: Location = None
    tls_key: Location = None
    pool: Annotated[str, StringConstraints(pattern=f"^({_NAME})?$")] = _D.pool
    pools: tuple[Annotated[str, AfterValidator(_pool)], ...] = _D.pools
    requests_per_second: Rate = _D.requests_per_second
    max_streams: Streams = _D.max_streams
    max_body: Bytes = _D.max_body
    engine: Engine = _D.engine
    nameserver: Annotated[str, AfterValidator(checked_nameserver)] = _D.nameserver
    trace: tuple[Annotated[str, AfterValidator(_place)], ...] = _D.trace
    sip_tls_ca: Location = None
    sip_tls_cert: Location = None
    sip_tls_key: Location = None
    sip_tls_verify: bool = _D.sip_tls_verify
    sources: dict[Annotated[str, StringConstraints(pattern=f"^{_NAME}$")], Source] = {}

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],  # noqa: ARG003
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,  # noqa: ARG003  (it reads the environment of the process)
        dotenv_settings: PydanticBaseSettingsSource,  # noqa: ARG003
        file_secret_settings: PydanticBaseSettingsSource,  # noqa: ARG003
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Look nowhere else."""
        return (init_settings,)

    @classmethod
    def of(cls, layers: Sequence[Layer]) -> Model:
        """Put layers together, those that overrule first; tables are merged. Raises pydantic's ValidationError."""
        if len(layers) == 1:
            return cls.model_validate(layers[0])

        class Layered(cls):  # type: ignore[valid-type, misc]  # the way that pydantic-settings has for sources of a call
            @classmethod
            def settings_customise_sources(
                cls, settings_cls: type[BaseSettings], *_: object, **__: object
            ) -> tuple[PydanticBaseSettingsSource, ...]:
                return tuple(InitSettingsSource(settings_cls, init_kwargs=dict(layer)) for layer in layers)

        made: Model = Layered()
        return made


def environment(environ: Mapping[str, str]) -> dict[str, object]:
    """Return what variables like RESYNCCTL_LISTEN and RESYNCCTL_SOURCES__HQ__FILE say; empty ones say nothing.

    Raises pydantic-settings' SettingsError for a table that is not one.
    """
    source = EnvSettingsSource(Model, case_sensitive=False)
    source.env_vars = {name.lower(): value for name, value in environ.items() if name.startswith(PREFIX) and value}
    return source()
