"""deploy/hooks/freepbx-ami-reload.py as a process."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.deploy.hook_receiver import HookReceiver
from tests.peers.process import REPOSITORY

SCRIPT = REPOSITORY / "deploy" / "hooks" / "freepbx-ami-reload.py"


@contextmanager
def listening(ami_port: int, hook: HookReceiver, proof: tuple[str, Path], *more: str) -> Iterator[Path]:
    """Run the listener; yield the file with what it says."""
    ami_secret = proof[1].with_name("ami-secret")
    ami_secret.write_text("ami-secret\n")
    log = proof[1].with_name("listener.log")
    words = ["--ami", f"127.0.0.1:{ami_port}", "--user", "resyncctl", "--ami-secret-file", str(ami_secret)]
    words += ["--hook", hook.url, proof[0], str(proof[1]), *more]
    with (
        log.open("wb") as output,
        subprocess.Popen([sys.executable, SCRIPT, *words], stderr=output) as process,
    ):
        try:
            yield log
        finally:
            process.send_signal(signal.SIGINT)
            assert process.wait(10) == 0
