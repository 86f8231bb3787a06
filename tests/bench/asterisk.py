"""The rate at which an Asterisk sends NOTIFY for AMI PJSIPNotify, the way most PBX tools do it.

Needs root and RESYNCCTL_BENCH_ASTERISK, a directory with an Asterisk of version 13 or later (`/` for an installed
one): /usr/sbin/asterisk, its modules, its XML documentation (modules refuse to load without it) and /dev/urandom.
The configuration is ours, in a directory of its own, and nothing of the installed one is read or written.

"NOTIFY sent" only says that a task was queued, so the rate is taken from the responder's receive times.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import subprocess
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Final

from tests.bench.floors import read_log, running_responder

if TYPE_CHECKING:
    from collections.abc import Iterator

VARIABLE: Final = "RESYNCCTL_BENCH_ASTERISK"
COUNT: Final = 10_000
WINDOW: Final = 200
"""Actions without a response; Asterisk reads one AMI connection in one thread, so more gain nothing."""
START_LIMIT: Final = 60.0
"""Seconds for Asterisk to load its modules."""
RUN_LIMIT: Final = 120.0
"""Seconds for all actions."""
SETTLE: Final = 1.0
"""Seconds after the last response in which queued NOTIFYs may still leave."""
ACTION: Final = "Action: PJSIPNotify\r\nActionID: {}\r\nEndpoint: phone\r\nVariable: Event=check-sync\r\n\r\n"
CONFIGURATION: Final = {
    "asterisk.conf": """\
[directories]
astetcdir => {directory}
astmoddir => {modules}
astdatadir => {data}
astvarlibdir => {directory}
astdbdir => {directory}
astkeydir => {directory}
astspooldir => {directory}
astrundir => {directory}
astlogdir => {directory}
""",
    "modules.conf": "[modules]\nautoload=yes\n",
    "logger.conf": "[general]\n[logfiles]\n",
    "manager.conf": """\
[general]
enabled=yes
bindaddr=127.0.0.1
port={ami_port}
[bench]
secret=bench
read=system
write=system
writetimeout=10000
""",
    "pjsip_notify.conf": "",
    "pjsip.conf": """\
[udp]
type=transport
protocol=udp
bind=127.0.0.1:{sip_port}
[phone]
type=endpoint
transport=udp
aors=phone
context=default
disallow=all
allow=ulaw
[phone]
type=aor
contact=sip:1001@127.0.0.1:{phone_port}
""",
}


def ami_notify_rate(count: int = COUNT) -> float | None:
    """Return NOTIFYs per second of an Asterisk driven over one AMI connection; None when no Asterisk is given.

    Raises TimeoutError when it does not come up or does not answer, and RuntimeError when NOTIFYs are missing.
    """
    root = os.environ.get(VARIABLE)
    if not root:
        return None
    with tempfile.TemporaryDirectory(prefix="resyncctl-ami-") as directory:
        log = Path(directory) / "phone.log"
        with running_responder(log=log) as phone:
            with _running_asterisk(Path(root), phone_port=phone.port) as ami_port:
                warmed = asyncio.run(drive(ami_port, count))
            phone.stop()
        return rate_of(read_log(log), count=count, warmed=warmed)


def rate_of(log: list[tuple[int, str]], *, count: int, warmed: int) -> float:
    """Return requests per second over the last `count` requests of a log, which `warmed` others precede."""
    if len(log) < count + warmed:
        raise RuntimeError(f"Asterisk answered {count + warmed} actions and sent {len(log)} NOTIFYs")
    measured = log[warmed:]
    return (len(measured) - 1) * 1e6 / (measured[-1][0] - measured[0][0])


async def drive(port: int, count: int, window: int = WINDOW) -> int:
    """Log in, warm up, then do `count` PJSIPNotify; returns how many NOTIFYs the warm-up sent."""
    async with asyncio.timeout(START_LIMIT):
        reader, writer = await _connect(port)
        await reader.readline()  # Asterisk Call Manager/x.y.z
        writer.write(b"Action: Login\r\nActionID: login\r\nUsername: bench\r\nSecret: bench\r\nEvents: off\r\n\r\n")
        if not await _succeeded(reader):
            raise RuntimeError("Asterisk refused the AMI login")
        writer.write(ACTION.format("warm").encode())
        while not await _succeeded(reader):  # the endpoint is not loaded yet
            await asyncio.sleep(0.2)
            writer.write(ACTION.format("warm").encode())
        await asyncio.sleep(SETTLE)
    async with asyncio.timeout(RUN_LIMIT):
        sent = min(window, count)
        writer.write("".join(ACTION.format(number) for number in range(sent)).encode())
        for _ in range(count):
            if not await _succeeded(reader):
                raise RuntimeError("Asterisk refused a PJSIPNotify")
            if sent < count:
                writer.write(ACTION.format(sent).encode())
                sent += 1
        await asyncio.sleep(SETTLE)
    writer.close()
    with contextlib.suppress(OSError):
        await writer.wait_closed()
    return 1


async def _connect(port: int) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    while True:
        try:
            return await asyncio.open_connection("127.0.0.1", port)
        except ConnectionRefusedError:
            await asyncio.sleep(0.2)


async def _succeeded(reader: asyncio.StreamReader) -> bool:
    """Read the next response, passing over events and empty blocks; False when it is an error."""
    while True:
        line = await reader.readline()
        if not line:
            raise RuntimeError("Asterisk closed the AMI connection")
        if line.startswith(b"Response:"):
            return line.split(b":", 1)[1].strip() == b"Success"


@contextlib.contextmanager
def _running_asterisk(root: Path, *, phone_port: int) -> Iterator[int]:
    """Run the Asterisk below `root` with our configuration; yields its AMI port."""
    modules = next(root.glob("usr/lib*/**/asterisk/modules"))
    data = next(found for place in ("usr/share/asterisk", "var/lib/asterisk") if (found := root / place).is_dir())
    (root / "tmp").mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="asterisk-", dir=root / "tmp") as directory:
        ports = {"ami_port": _free_port(socket.SOCK_STREAM), "sip_port": _free_port(socket.SOCK_DGRAM)}
        places = {"directory": Path(directory), "modules": modules, "data": data}
        inside = {name: f"/{place.relative_to(root)}" for name, place in places.items()}
        for name, text in CONFIGURATION.items():
            (Path(directory) / name).write_text(text.format(phone_port=phone_port, **ports, **inside), encoding="ascii")
        process = subprocess.Popen(
            ["chroot", str(root), "/usr/sbin/asterisk", "-f", "-C", f"{inside['directory']}/asterisk.conf"],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        try:
            yield ports["ami_port"]
        finally:
            process.terminate()
            try:
                process.wait(timeout=10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait(timeout=10)


def _free_port(kind: socket.SocketKind) -> int:
    with socket.socket(socket.AF_INET, kind) as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
