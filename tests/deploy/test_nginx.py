"""nginx takes the snippet, and passes requests on to a service behind it."""

from __future__ import annotations

import contextlib
import socket
import ssl
import subprocess
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from urllib.request import urlopen

import pytest

from tests.peers.ports import free_port
from tests.peers.process import REPOSITORY, ServerProcess

pytestmark = pytest.mark.needs("nginx", "openssl")


class Nginx(ServerProcess):
    """nginx with the snippet, its ports and files replaced by ours."""

    def __init__(self, behind: int) -> None:
        super().__init__("nginx")
        self.port = free_port("127.0.0.1")
        self._behind = behind

    def command(self) -> list[str]:
        folder = self.directory
        key, certificate = folder / "key.pem", folder / "cert.pem"
        make = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=localhost", "-days", "2"]
        names = ["-addext", "subjectAltName=IP:127.0.0.1", "-keyout", str(key), "-out", str(certificate)]
        subprocess.run([*make, *names], check=True, capture_output=True, timeout=30)
        snippet = (REPOSITORY / "deploy" / "nginx.conf").read_text(encoding="ascii")
        for ours, theirs in (
            ("127.0.0.1:8420;\n    keepalive", f"127.0.0.1:{self._behind};\n    keepalive"),
            ("listen 443 ssl", f"listen 127.0.0.1:{self.port} ssl"),
            ("/etc/ssl/certs/resync.example.pem", str(certificate)),
            ("/etc/ssl/private/resync.example.key", str(key)),
        ):
            assert ours in snippet
            snippet = snippet.replace(ours, theirs)
        places = "\n".join(
            f"{name}_temp_path {folder}/{name};" for name in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
        )
        main = folder / "main.conf"
        main.write_text(
            f"daemon off;\npid {folder}/pid;\nerror_log stderr;\nevents {{}}\n"
            f"http {{\naccess_log off;\n{places}\n{snippet}}}\n",
            encoding="ascii",
        )
        test = subprocess.run(["nginx", "-t", "-c", str(main)], check=False, capture_output=True, text=True, timeout=30)
        assert test.returncode == 0, test.stderr
        return ["nginx", "-c", str(main)]

    def wait_until_ready(self) -> None:
        self.wait_until(self._answers, "listening", within=10)

    def _answers(self) -> bool:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.port), timeout=1):
            return True
        return False


class _Answer(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        told = f"{self.headers['Host']} {self.headers['X-Forwarded-For']} {self.request_version}".encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(told)))
        self.end_headers()
        self.wfile.write(told)

    def log_message(self, *_: object) -> None:
        """Say nothing."""


def test_nginx_passes_on_host_and_client_over_tls(tmp_path: Path) -> None:
    with HTTPServer(("127.0.0.1", 0), _Answer) as behind:
        thread = threading.Thread(target=behind.serve_forever, daemon=True)
        thread.start()
        with Nginx(behind.server_port) as nginx:
            context = ssl.create_default_context(cafile=str(nginx.directory / "cert.pem"))
            with urlopen(f"https://127.0.0.1:{nginx.port}/healthz", timeout=10, context=context) as answer:
                assert answer.read() == b"127.0.0.1 127.0.0.1 HTTP/1.1"
        behind.shutdown()
        thread.join(10)
