"""The systemd units: systemd accepts them, they are locked up well, and the service works inside what they allow."""

from __future__ import annotations

import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import httpx
import pytest

from resyncctl.engine.access import Scope
from resyncctl.store import keys
from tests.api.rollouts import AT_ONCE, ended, launch
from tests.api.server import make_token
from tests.deploy.unit import Unit
from tests.engine.recorder import Recorder
from tests.peers.ports import free_port
from tests.peers.process import REPOSITORY, ServerProcess
from tests.peers.redis_server import RedisServer

UNITS = REPOSITORY / "deploy" / "systemd"
SERVICE, WORKER = UNITS / "resyncctl.service", UNITS / "resyncctl-worker@.service"
COMMAND = Path(sys.executable).with_name("resyncctl")
INSTALLED = "/opt/resyncctl/bin/resyncctl"
BOTH = pytest.mark.parametrize("path", [SERVICE, WORKER], ids=lambda path: path.name)


def installed_here(path: Path, name: str, folder: Path) -> Path:
    """Write the unit down as if resyncctl were installed where these tests have it."""
    text = path.read_text(encoding="utf-8")
    assert text.count(INSTALLED) == 1
    copy = folder / name
    copy.write_text(text.replace(INSTALLED, str(COMMAND)), encoding="utf-8")
    return copy


def analyze(*words: str | Path) -> subprocess.CompletedProcess[str]:
    command = ["systemd-analyze", "--no-pager", *map(str, words)]
    return subprocess.run(command, check=False, capture_output=True, text=True, timeout=30)


@pytest.mark.needs("systemd-analyze")
@pytest.mark.parametrize(
    ("path", "name"),
    [
        (SERVICE, "resyncctl.service"),
        (WORKER, "resyncctl-worker@berlin.service"),
        (WORKER, "resyncctl-worker@default.service"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_systemd_accepts_the_unit(path: Path, name: str, tmp_path: Path) -> None:
    verified = analyze("verify", installed_here(path, name, tmp_path))
    assert (verified.returncode, verified.stdout + verified.stderr) == (0, "")


@pytest.mark.needs("systemd-analyze")
@BOTH
def test_the_exposure_is_below_three_of_ten(path: Path) -> None:
    judged = analyze("security", "--offline=true", "--threshold=30", path)
    assert judged.returncode == 0, judged.stdout + judged.stderr
    found = re.search(r"Overall exposure level for \S+: ([\d.]+)", judged.stdout)
    assert found is not None
    assert float(found[1]) < 3.0


def test_both_units_are_locked_up_in_the_same_way() -> None:
    own = {"ExecStart", "ExecReload"}
    service, worker = (
        [(key, value) for section, key, value in Unit.read(path).settings if section == "Service" and key not in own]
        for path in (SERVICE, WORKER)
    )
    assert service == worker


def test_the_instance_named_default_works_for_the_phones_that_no_pool_is_named_for() -> None:
    command = Unit.read(WORKER).command("ExecStart", {"%i": "default"})
    assert command == [INSTALLED, "worker", "--pool", "default"]
    assert keys.queue("default") == keys.queue("")


class Sandboxed(ServerProcess):
    """The command of a unit, with its environment, under its system call filter; we play systemd."""

    def __init__(self, path: Path, redis: RedisServer, *, instance: str = "", options: Sequence[str] = ()) -> None:
        super().__init__("unit")
        self._path, self._redis, self._options = path, redis, options
        self._specifiers = {"%i": instance, "%E": str(self.directory / "etc"), "%S": str(self.directory / "state")}
        self._notify = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._notify.settimeout(20)

    def command(self) -> list[str]:
        """Return the command."""
        for folder in ("etc/resyncctl", "state/resyncctl"):
            (self.directory / folder).mkdir(parents=True)
        config = (REPOSITORY / "deploy" / "resyncctl.toml").read_text(encoding="utf-8")
        (self.directory / "etc" / "resyncctl" / "resyncctl.toml").write_text(config, encoding="utf-8")
        self._notify.bind(str(self.directory / "notify"))
        start = Unit.read(self._path).command("ExecStart", self._specifiers)
        assert start[0] == INSTALLED
        return [sys.executable, "-m", "tests.deploy.sandbox", str(self._path), str(COMMAND), *start[1:], *self._options]

    def environment(self) -> dict[str, str]:
        """Return what the unit sets, and what /etc/resyncctl/environment would."""
        return {
            "PYTHONPATH": str(REPOSITORY),
            **Unit.read(self._path).environment(self._specifiers),
            "RESYNCCTL_REDIS_URL": self._redis.url,
            "NOTIFY_SOCKET": str(self.directory / "notify"),
        }

    def told(self) -> str:
        """Wait for the next message to systemd."""
        try:
            return self._notify.recv(1000).decode()
        except TimeoutError:
            raise self.error("systemd was told nothing") from None

    def wait_until_ready(self) -> None:
        """Block until systemd would call the unit active."""
        assert "READY=1" in self.told().split("\n")

    def stop(self) -> None:
        """End it."""
        super().stop()
        self._notify.close()


@pytest.fixture(scope="module")
def redis() -> Iterator[RedisServer]:
    with RedisServer() as server:
        yield server


@pytest.mark.needs("systemd-analyze", "redis-server")
def test_the_service_rolls_out_under_the_filters_of_its_unit(redis: RedisServer, tmp_path: Path) -> None:
    token = make_token(redis.url, "unit", Scope.ADMIN)
    port = free_port()
    with Recorder() as phones, Sandboxed(SERVICE, redis, options=["--listen", f"127.0.0.1:{port}"]) as service:
        headers = {"Authorization": f"Bearer {token}"}
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", headers=headers, timeout=20) as client:
            source = phones.phone_list(tmp_path / "phones.csv", [f"ok.{number}" for number in range(20)])
            rollout = launch(client, {"phones_file": str(source), "options": AT_ONCE}, "sandboxed")
            assert ended(client, rollout)["counts"] == {"accepted": 20}
        assert service.told() == "WATCHDOG=1"
        service.send_signal(signal.SIGHUP)
        service.wait_until(lambda: "settings_reloaded" in service.log(), "reading its settings again")
        service.end(within=5)
        assert '"event": "service_stopped"' in service.log()


@pytest.mark.needs("systemd-analyze", "redis-server")
def test_a_worker_reports_to_systemd_under_the_filters_of_its_unit(redis: RedisServer) -> None:
    with Sandboxed(WORKER, redis, instance="berlin") as worker:
        worker.wait_until(lambda: '"pool": "berlin"' in worker.log(), "saying which pool it works for")
        worker.end(within=5)
        assert '"event": "worker_stopped"' in worker.log()


@pytest.mark.needs("systemd-analyze")
def test_the_filter_of_these_tests_forbids_what_the_unit_forbids() -> None:
    """Else the two tests above would prove nothing."""
    tried = """
import mmap, os, socket
for action in (lambda: socket.socket(socket.AF_PACKET, socket.SOCK_RAW), lambda: mmap.mmap(-1, 4096, prot=7),
               lambda: os.setuid(0), lambda: os.chroot("/")):
    try:
        action()
    except OSError as error:
        print(error.errno)
"""
    command = [sys.executable, "-m", "tests.deploy.sandbox", str(SERVICE), sys.executable, "-c", tried]
    done = subprocess.run(command, check=True, capture_output=True, text=True, cwd=REPOSITORY, timeout=30)
    assert done.stdout.split() == ["97", "1", "1", "1"]
