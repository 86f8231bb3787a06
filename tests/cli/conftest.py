"""What the tests of the command line share."""

from __future__ import annotations

import gc
import subprocess
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from resyncctl.cli.main import app
from resyncctl.cli.state import status_of
from tests.cli.both_sides import Both, Service
from tests.cli.command import COMMAND, YEALINK, Answer, Ear, Resyncctl, simulated
from tests.engine.recorder import Recorder
from tests.peers.redis_server import RedisServer

Ask = Callable[..., Answer]
List = Callable[..., Path]


def pytest_configure(config: pytest.Config) -> None:
    """Register the marker of this folder."""
    config.addinivalue_line("markers", "slow: takes more than ten seconds")


@pytest.fixture
def resyncctl(tmp_path: Path) -> Iterator[Resyncctl]:
    """The command as a process of its own, with nothing stored; afterwards no server may be left running."""
    command = Resyncctl(tmp_path)
    yield command
    assert command.has_left_nothing_running


@pytest.fixture
def ask(resyncctl: Resyncctl, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Ask:
    """The same command line, called in this process: quick, for what depends on its words alone."""
    monkeypatch.setenv("RESYNCCTL_DATA_DIR", str(resyncctl.data))
    monkeypatch.delenv("RESYNCCTL_REDIS_URL", raising=False)

    def call(*arguments: str | Path) -> Answer:
        words = [str(argument) for argument in arguments]

        def command() -> int | None:
            ended: int | None = app(args=words, prog_name="resyncctl", standalone_mode=False)
            return ended

        with warnings.catch_warnings():
            # Planner leaves its spool to the collector when a row or an option is refused; the process is about to end.
            warnings.simplefilter("ignore", ResourceWarning)
            status = status_of(command, as_json="--json" in words)
            gc.collect()
        return Answer(status, *capsys.readouterr())

    return call


@pytest.fixture
def ear() -> Iterator[Ear]:
    """A phone that hears and never answers."""
    with Ear() as phone:
        yield phone


@pytest.fixture
def one_phone(resyncctl: Resyncctl, ear: Ear) -> Path:
    """A list of one phone that hears and never answers."""
    return resyncctl.file("one.csv", *ear.rows())


@pytest.fixture(scope="session")
def answering(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The list of forty phones that say 200."""
    rows = ["aor,user_agent", *(f"sip:{number}@pbx.invalid,{YEALINK}" for number in range(100, 140))]
    with simulated(tmp_path_factory.mktemp("answering"), rows, "--boot-time", "0s") as phones:
        yield phones


@pytest.fixture(scope="session")
def both(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Both]:
    """A service, and a token for it."""
    folder = tmp_path_factory.mktemp("remote")
    office = folder / "office.csv"
    office.write_text(
        "aor,site,auth_password\nsip:1@pbx.invalid,berlin,x\nsip:2@pbx.invalid,bonn,y\n", encoding="ascii"
    )
    config = folder / "service.toml"
    config.write_text('[sources.office]\nfile = "office.csv"\n', encoding="ascii")
    with RedisServer() as redis, Service(redis.url, folder, config) as service:
        create = [str(COMMAND), "--redis-url", redis.url, "token", "create", "remote", "--scope", "admin"]
        made = subprocess.run(create, check=True, capture_output=True, text=True, timeout=30)
        token = folder / "token"
        token.write_text(made.stdout, encoding="ascii")
        yield Both(redis.url, service, token, folder, config)


@pytest.fixture
def phones() -> Iterator[Recorder]:
    """Phones that record what they receive."""
    with Recorder() as recorder:
        yield recorder


@pytest.fixture
def listed(phones: Recorder, tmp_path: Path) -> List:
    """Write the list of these users."""
    return lambda *users: phones.phone_list(tmp_path / "phones.csv", users)
