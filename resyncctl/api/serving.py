"""The processes of the service: one with API, scheduler, hooks and a worker, and one that is a worker alone."""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import os
import signal
import socket
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from typing import TYPE_CHECKING, Final

import uvicorn

from resyncctl.api.app import create_app
from resyncctl.api.services import make_services
from resyncctl.config import LiveSettings, Reloader
from resyncctl.engine.access import Access
from resyncctl.engine.app import new_owner, open_store
from resyncctl.engine.hooks import Hooks
from resyncctl.engine.launch import Launcher
from resyncctl.engine.pools import Pools
from resyncctl.engine.runner import Runner
from resyncctl.engine.scheduler import Scheduler
from resyncctl.errors import InputError, TransportError
from resyncctl.logs import Threshold, capture_stdlib, make_logger
from resyncctl.metrics import Metrics

if TYPE_CHECKING:
    from structlog.typing import FilteringBoundLogger

    from resyncctl.config import Settings
    from resyncctl.store.redis_store import RedisStore

_GRACE: Final = 2
"""Seconds that requests of the API may take to end when the process does."""
_BACKLOG: Final = 2048
"""Connections that may wait to be accepted."""
_BEAT: Final = 5.0
"""Seconds between two signs of life to systemd."""


async def serve(settings: Settings, read: Callable[[], Settings], tell: Callable[[str], None]) -> None:
    """Serve until SIGTERM or Ctrl-C. `read` reads the settings again at SIGHUP, `tell` tells a person where we listen.

    Raises InputError when anybody could come in without a token, TransportError when the address cannot be used.
    """
    live = LiveSettings(settings)
    async with _logging(settings) as (log, threshold), open_store(settings) as store:
        await _check_access(store, settings)
        listening = _listen(settings)
        launcher = Launcher(store, settings.sources, pools=Pools(settings.pools))
        runner = Runner(store, settings, log)
        metrics = Metrics()
        scheduler = Scheduler(store, launcher, log, token=new_owner(), on_fire=metrics.fired)
        hooks = Hooks(store, launcher, log)
        services = make_services(
            store, live, log, launcher=launcher, runner=runner, scheduler=scheduler, hooks=hooks, metrics=metrics
        )
        server = _Server(
            uvicorn.Config(
                create_app(services),
                log_config=None,
                access_log=False,
                proxy_headers=False,
                server_header=False,
                timeout_graceful_shutdown=_GRACE,
                ssl_certfile=settings.tls_cert,
                ssl_keyfile=settings.tls_key,
            )
        )

        def reload() -> None:
            changes = Reloader(live, read).reload()
            threshold.level = live.current.log_level
            launcher.sources = live.current.sources
            log.warning("settings_reloaded", applied=changes.applied, restart=changes.restart, problem=changes.problem)

        def stop() -> None:
            server.should_exit = True
            services.hub.close()  # clients of event streams come back to another process
            for part in (runner, scheduler, hooks):
                part.stop()

        scheme = "https" if settings.tls_cert else "http"
        host, port = listening.getsockname()[:2]
        tell(f"listening on {scheme}://{f'[{host}]' if ':' in host else host}:{port}")
        log.info("service_started", host=host, port=port, worker=runner.name)
        with _signals(stop, reload):
            await _together(stop, server.serve([listening]), runner.run(), scheduler.run(), hooks.run(), _beat())
        log.info("service_stopped")


async def work(settings: Settings, tell: Callable[[str], None]) -> None:
    """Be one more worker until SIGTERM or Ctrl-C."""
    async with _logging(settings) as (log, _), open_store(settings) as store:
        runner = Runner(store, settings, log)
        tell(f"worker {runner.name} of the pool {settings.pool or 'default'} takes batches from {store.where}")
        log.info("worker_started", worker=runner.name, pool=settings.pool)
        with _signals(runner.stop, lambda: None):
            await _together(runner.stop, runner.run(), _beat())
        log.info("worker_stopped")


class _Server(uvicorn.Server):
    """uvicorn, without signal handlers of its own: the whole process ends together."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leave the signals alone."""
        yield


async def _together(stop: Callable[[], None], *parts: Awaitable[None]) -> None:
    """Run the parts of a process; when one ends, for whatever reason, all do. Raises what ended the first."""
    tasks = [asyncio.ensure_future(part) for part in parts]
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        first = next(task for task in tasks if task.done())
    finally:
        stop()
        tasks[-1].cancel()  # the sign of life never ends by itself
        await asyncio.gather(*tasks, return_exceptions=True)
    if not first.cancelled():
        first.result()


@contextlib.asynccontextmanager
async def _logging(settings: Settings) -> AsyncIterator[tuple[FilteringBoundLogger, Threshold]]:
    threshold = Threshold(settings.log_level)
    log = make_logger(threshold, log_format=settings.log_format)
    undo = capture_stdlib(log, threshold)
    try:
        yield log, threshold
    finally:
        undo()


async def _check_access(store: RedisStore, settings: Settings) -> None:
    """Refuse to let anybody in who has no token: beyond loopback there has to be one."""
    host = settings.address[0]
    with contextlib.suppress(ValueError):
        if ipaddress.ip_address(host).is_loopback:
            return
    if host != "localhost" and not await Access(store).any_token():
        raise InputError(
            f"--listen {settings.listen}: nobody has a token yet, so nobody could use the API from there; make one with"
            " `resyncctl token create NAME --scope operate`, or listen on 127.0.0.1"
        )


def _listen(settings: Settings) -> socket.socket:
    """Open the API's socket, and read the certificate, before anything is started."""
    host, port = settings.address
    if settings.tls_cert and settings.tls_key:
        try:
            ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(settings.tls_cert, settings.tls_key)
        except OSError as error:
            raise InputError(
                f"tls_cert {settings.tls_cert} and tls_key {settings.tls_key} cannot be used: {error}; give PEM files that"
                " belong together"
            ) from error
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
        # asyncio turns Nagle's algorithm off for sockets that say they are TCP; with it an answer takes 40 ms longer.
        opened = socket.socket(found[0], socket.SOCK_STREAM, socket.IPPROTO_TCP)
        opened.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        opened.bind(found[4])
        opened.listen(_BACKLOG)
    except OSError as error:
        raise TransportError(
            f"cannot listen on {settings.listen}: {error.strerror or error}; choose another --listen"
        ) from error
    return opened


@contextlib.contextmanager
def _signals(stop: Callable[[], None], reload: Callable[[], None]) -> Iterator[None]:
    loop = asyncio.get_running_loop()
    actions = {signal.SIGTERM: stop, signal.SIGINT: stop, signal.SIGHUP: reload}
    for number, action in actions.items():
        loop.add_signal_handler(number, action)
    try:
        yield
    finally:
        for number in actions:
            loop.remove_signal_handler(number)


async def _beat() -> None:
    """Tell systemd that we are ready and alive (sd_notify), if it asked for it."""
    address = os.environ.get("NOTIFY_SOCKET", "")
    state = b"READY=1\nWATCHDOG=1"
    while True:
        if address:
            with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notify:
                notify.sendto(state, f"\0{address[1:]}" if address.startswith("@") else address)
        state = b"WATCHDOG=1"
        await asyncio.sleep(_BEAT)
