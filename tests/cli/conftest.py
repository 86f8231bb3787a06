"""What the tests of the command line share."""

from __future__ import annotations

import gc
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from resyncctl.cli.main import app
from resyncctl.cli.state import status_of
from tests.cli.command import YEALINK, Answer, Ear, Resyncctl, simulated

Ask = Callable[..., Answer]


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
