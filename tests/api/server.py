"""The API in a process of its own, under uvicorn, with a runner and everything else that `serve` has: `with ApiServer(url)`.

As a program: `python -m tests.api.server CONFIG.json`; it prints its port and serves until SIGTERM.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import signal
import socket
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import httpx
import uvicorn
import uvloop

from resyncctl.api.app import create_app
from resyncctl.api.services import make_services
from resyncctl.config import Settings, Source
from resyncctl.engine.access import Access, Scope
from resyncctl.engine.app import new_owner
from resyncctl.engine.hooks import Hooks
from resyncctl.engine.launch import Launcher
from resyncctl.engine.runner import Runner
from resyncctl.engine.scheduler import Scheduler
from resyncctl.logs import make_logger
from resyncctl.metrics import Metrics
from resyncctl.store.redis_store import RedisStore
from tests.peers.process import REPOSITORY, ServerProcess


class ApiServer(ServerProcess):
    """The API on a free port of loopback. `settings` are those of the service."""

    def __init__(
        self, redis_url: str, *, sources: Mapping[str, Path | Source] | None = None, **settings: int | float | str
    ) -> None:
        super().__init__("api")
        self._redis_url = redis_url
        named = (sources or {}).items()
        self._sources = {name: one if isinstance(one, Source) else Source(one) for name, one in named}
        self._settings = settings
        self._port = 0

    def command(self) -> list[str]:
        """Return the command."""
        values = {
            **self._settings,
            "redis_url": self._redis_url,
            "data_dir": str(self.directory),
            "sources": {name: [str(one.file), one.from_domain] for name, one in self._sources.items()},
        }
        config = self.directory / "config.json"
        config.write_text(json.dumps(values), encoding="utf-8")
        return [sys.executable, "-m", "tests.api.server", str(config)]

    def environment(self) -> dict[str, str]:
        """Let the program find this package."""
        return {"PYTHONPATH": str(REPOSITORY)}

    def wait_until_ready(self) -> None:
        """Block until it answers."""
        self.wait_until(lambda: "port " in self.log(), "listening", within=20)
        self._port = int(self.log().partition("port ")[2].split()[0])
        self.wait_until(self._answers, "answering", within=10)

    def _answers(self) -> bool:
        with contextlib.suppress(httpx.HTTPError):
            return httpx.get(f"{self.url}/healthz").status_code == 200
        return False

    @property
    def url(self) -> str:
        """Where it is."""
        return f"http://127.0.0.1:{self._port}"

    def client(self, token: str = "", **headers: str) -> httpx.Client:
        """Return a client with a token; '' = without."""
        authorization = {"Authorization": f"Bearer {token}"} if token else {}
        return httpx.Client(base_url=self.url, headers={**authorization, **headers}, timeout=20)


def make_token(redis_url: str, name: str, scope: Scope, *, expires_us: int | None = None) -> str:
    """Make a token as `resyncctl token create` does."""

    async def make() -> str:
        store = RedisStore(redis_url)
        try:
            return await Access(store).create(name, scope, expires_us=expires_us, networks=())
        finally:
            await store.close()

    return asyncio.run(make())


async def serve(values: Mapping[str, Any]) -> None:
    """Serve until SIGTERM."""
    plain = {name: value for name, value in values.items() if name not in {"data_dir", "sources"}}
    sources = {name: Source(Path(file), domain) for name, (file, domain) in values["sources"].items()}
    settings = Settings(data_dir=Path(values["data_dir"]), sources=sources, **plain)
    log = make_logger(settings.log_level)
    store = RedisStore(settings.redis_url)
    launcher, metrics = Launcher(store, settings.sources), Metrics()
    runner = Runner(store, settings, log)
    scheduler = Scheduler(store, launcher, log, token=new_owner(), on_fire=metrics.fired)
    hooks = Hooks(store, launcher, log)
    services = make_services(
        store, settings, log, launcher=launcher, runner=runner, scheduler=scheduler, hooks=hooks, metrics=metrics
    )
    config = uvicorn.Config(
        create_app(services), log_level="warning", lifespan="off", proxy_headers=False, timeout_graceful_shutdown=3
    )
    server = uvicorn.Server(config)
    # asyncio turns Nagle's algorithm off for sockets that say they are TCP; with it an answer takes 40 ms longer.
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listener.bind(("127.0.0.1", 0))
    listener.listen(256)
    sys.stdout.write(f"port {listener.getsockname()[1]}\n")
    sys.stdout.flush()

    def stop() -> None:
        services.hub.close()
        server.should_exit = True

    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop)
    parts = [asyncio.create_task(part.run()) for part in (runner, scheduler, hooks)]
    with contextlib.suppress(SystemExit):
        await server._serve([listener])
    for part in (runner, scheduler, hooks):
        part.stop()
    await asyncio.gather(*parts, return_exceptions=True)
    await store.close()


if __name__ == "__main__":
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as program:
        program.run(serve(json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))))
