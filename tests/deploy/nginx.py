"""A real nginx with deploy/nginx.conf, in front of one instance of the service."""

from __future__ import annotations

import contextlib
import ssl
import subprocess
from pathlib import Path

import httpx

from tests.peers.ports import free_port
from tests.peers.process import REPOSITORY, ServerProcess

CONFIG = REPOSITORY / "deploy" / "nginx.conf"


class Nginx(ServerProcess):
    """`with Nginx(target)`: TLS on a free port of loopback, with a certificate of its own, in front of HOST:PORT."""

    def __init__(self, target: str) -> None:
        super().__init__("nginx")
        self._target = target
        self._port = free_port()

    def write(self) -> list[str]:
        """Write the configuration down and return the command; append `-t` to have it checked only."""
        certificate, key = self._make_certificate()
        config = CONFIG.read_text(encoding="utf-8")
        for ours, here in (
            ("listen 443 ssl", f"listen 127.0.0.1:{self._port} ssl"),
            ("listen [::]:443 ssl;\n", "\n"),
            ("/etc/ssl/certs/resync.example.com.pem", str(certificate)),
            ("/etc/ssl/private/resync.example.com.key", str(key)),
            ("http://127.0.0.1:8420", f"http://{self._target}"),
        ):
            assert ours in config
            config = config.replace(ours, here)
        (self.directory / "site.conf").write_text(config, encoding="utf-8")
        places = [f"{kind}_temp_path {self.directory}/{kind};" for kind in ("client_body", "proxy", "fastcgi", "scgi")]
        (self.directory / "nginx.conf").write_text(
            f"daemon off;\nmaster_process off;\npid {self.directory}/nginx.pid;\nerror_log stderr;\nevents {{}}\n"
            f"http {{\naccess_log off;\n{chr(10).join(places)}\nuwsgi_temp_path {self.directory}/uwsgi;\n"
            "include site.conf;\n}\n",
            encoding="utf-8",
        )
        return ["nginx", "-p", str(self.directory), "-c", str(self.directory / "nginx.conf"), "-e", "stderr"]

    def command(self) -> list[str]:
        """Return the command."""
        return self.write()

    def wait_until_ready(self) -> None:
        """Block until it passes a request on."""
        self.wait_until(self._answers, "passing a request on", within=10)

    def _answers(self) -> bool:
        with contextlib.suppress(httpx.HTTPError), self.client() as client:
            return client.get("/healthz").status_code == 200
        return False

    def client(self, token: str = "", **headers: str) -> httpx.Client:
        """Return a client that trusts the certificate."""
        trust = ssl.create_default_context(cafile=str(self.directory / "cert.pem"))
        authorization = {"Authorization": f"Bearer {token}"} if token else {}
        base = f"https://localhost:{self._port}"
        return httpx.Client(base_url=base, headers={**authorization, **headers}, verify=trust, timeout=20)

    def _make_certificate(self) -> tuple[Path, Path]:
        certificate, key = self.directory / "cert.pem", self.directory / "key.pem"
        words = "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 1 -subj /CN=localhost"
        command = ["openssl", *words.split(), "-addext", "subjectAltName=DNS:localhost"]
        subprocess.run([*command, "-out", certificate, "-keyout", key], check=True, capture_output=True, timeout=30)
        return certificate, key
