"""A real Asterisk with one PJSIP phone, a manager user and the dialplan of a snippet, in a directory of its own.

It is the installed one, or that below the directory which RESYNCCTL_BENCH_ASTERISK names (run with chroot: needs root).
"""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import Final

from tests.peers.plain_client import PlainClient, host_port
from tests.peers.ports import free_port
from tests.peers.process import ServerProcess

VARIABLE: Final = "RESYNCCTL_BENCH_ASTERISK"
START_WITHIN: Final = 60.0
FILES: Final = {
    "asterisk.conf": """[directories]
astetcdir => {here}
astmoddir => {modules}
astdatadir => {data}
astvarlibdir => {here}
astdbdir => {here}
astkeydir => {here}
astspooldir => {here}
astrundir => {here}
astlogdir => {here}
[options]
verbose=3
""",
    "modules.conf": "[modules]\nautoload=yes\n",
    "logger.conf": "[general]\n[logfiles]\nmessages.log => notice,warning,error,verbose\n",
    "manager.conf": """[general]
enabled=yes
bindaddr=127.0.0.1
port={ami_port}
[resyncctl]
secret=ami-secret
read=system
""",
    "pjsip.conf": """[udp]
type=transport
protocol=udp
bind=127.0.0.1:{sip_port}
[phone-1001]
type=endpoint
context=resyncctl-feature
disallow=all
allow=ulaw
[phone-1001]
type=identify
endpoint=phone-1001
match=127.0.0.1
""",
    "extensions.conf": "[globals]\nRESYNC_URL={url}\nRESYNC_TOKEN={token}\n#include snippet.conf\n",
}


class Asterisk(ServerProcess):
    """`with Asterisk(snippet, url, token) as asterisk`: phones are called `phone-1001` whoever they are."""

    def __init__(self, snippet: Path, url: str, token: str) -> None:
        super().__init__("asterisk")
        self._root = Path(os.environ.get(VARIABLE, "/"))
        if self._root != Path("/"):
            shutil.rmtree(self.directory)
            (self._root / "tmp").mkdir(exist_ok=True)
            self.directory = Path(tempfile.mkdtemp(prefix="resyncctl-asterisk-", dir=self._root / "tmp"))
        self.ami_port = free_port()
        self.sip_port = free_port()
        self._snippet = snippet
        self._values = {"url": url, "token": token, "ami_port": self.ami_port, "sip_port": self.sip_port}

    def command(self) -> list[str]:
        """Write the configuration and return the command."""
        modules = next(self._root.glob("usr/lib*/**/asterisk/modules"))
        places = ("usr/share/asterisk", "var/lib/asterisk")
        data = next(found for place in places if (found := self._root / place).is_dir())
        inside = {name: self._inside(path) for name, path in (("modules", modules), ("data", data))}
        for name, text in FILES.items():
            (self.directory / name).write_text(text.format(here=self._inside(self.directory), **inside, **self._values))
        shutil.copy(self._snippet, self.directory / "snippet.conf")
        return self._asterisk("-f")

    def _inside(self, path: Path) -> str:
        return f"/{path.relative_to(self._root)}"

    def _asterisk(self, *words: str) -> list[str]:
        chroot = [] if self._root == Path("/") else ["chroot", str(self._root)]
        return [*chroot, "/usr/sbin/asterisk", "-C", f"{self._inside(self.directory)}/asterisk.conf", *words]

    def wait_until_ready(self) -> None:
        """Block until everything is loaded."""
        self.wait_until(lambda: "Asterisk Ready" in self.log(), "being ready", within=START_WITHIN)

    def log(self) -> str:
        """Return what it logged."""
        return self.read("messages.log") + self.read("output.log")

    def cli(self, command: str) -> str:
        """Run a command of its command line."""
        done = subprocess.run(self._asterisk("-rx", command), capture_output=True, text=True, timeout=20, check=True)
        return done.stdout

    def call(self, phone: PlainClient, number: str) -> int:
        """Call a number and acknowledge the answer; return its status."""
        there = ("127.0.0.1", self.sip_port)
        uri = f"sip:{number}@{host_port(there)}"
        contact = f"Contact: <sip:phone@{host_port(phone.address)}>"
        invite = phone.compose("INVITE", uri, extra=(contact,))
        phone.send(invite, there)
        answer = phone.receive(within=10)
        while answer.status is None or answer.status < 200:
            answer = phone.receive(within=10)
        ack = invite.replace("INVITE", "ACK").replace(f"To: <{uri}>", f"To: {answer.header('To')}")
        phone.send(ack, there)
        return answer.status
