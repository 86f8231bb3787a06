"""What the API is made of, put together once by whoever serves it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

from fastapi import Depends, Request

from resyncctl import clock
from resyncctl.api.streams import Hub
from resyncctl.config import LiveSettings
from resyncctl.engine.access import Access
from resyncctl.engine.freeze import Freezer
from resyncctl.engine.hooks import Hooks
from resyncctl.engine.launch import Launcher
from resyncctl.engine.schedules import Schedules
from resyncctl.metrics import Metrics
from resyncctl.store.audit import AuditLog
from resyncctl.store.hooks import HookStore
from resyncctl.store.service import ServiceStore

if TYPE_CHECKING:
    from structlog.typing import FilteringBoundLogger

    from resyncctl.config import Settings
    from resyncctl.engine.runner import Runner
    from resyncctl.engine.scheduler import Scheduler
    from resyncctl.store.redis_store import RedisStore


@dataclass(frozen=True, slots=True, kw_only=True)
class Services:
    """What requests are answered with. `runner` and `scheduler` None: this process executes or schedules nothing."""

    store: RedisStore
    live: LiveSettings
    log: FilteringBoundLogger
    launcher: Launcher
    runner: Runner | None
    scheduler: Scheduler | None
    hooks: Hooks
    access: Access
    audit: AuditLog
    service: ServiceStore
    schedules: Schedules
    hook_store: HookStore
    freezer: Freezer
    hub: Hub
    metrics: Metrics
    now_us: Callable[[], int]

    @property
    def settings(self) -> Settings:
        """The settings in force."""
        return self.live.current

    def wake(self) -> None:
        """Have what was just launched or steered begin at once, if it is executed in this process."""
        if self.runner is not None:
            self.runner.wake()

    def reschedule(self) -> None:
        """Have a change of the schedules take effect at once, if this process may schedule."""
        if self.scheduler is not None:
            self.scheduler.wake()


def make_services(  # noqa: PLR0913  (the parts that a process may have)
    store: RedisStore,
    settings: Settings | LiveSettings,
    log: FilteringBoundLogger,
    *,
    launcher: Launcher | None = None,
    runner: Runner | None = None,
    scheduler: Scheduler | None = None,
    hooks: Hooks | None = None,
    metrics: Metrics | None = None,
    now_us: Callable[[], int] = clock.now_us,
) -> Services:
    """Put the services of one process together; what is not given is made here. Nothing is started."""
    live = settings if isinstance(settings, LiveSettings) else LiveSettings(settings)
    launcher = launcher or Launcher(store, live.current.sources)
    return Services(
        store=store,
        live=live,
        log=log,
        launcher=launcher,
        runner=runner,
        scheduler=scheduler,
        hooks=hooks or Hooks(store, launcher, log),
        access=Access(store),
        audit=AuditLog(store),
        service=ServiceStore(store),
        schedules=Schedules(store, launcher),
        hook_store=HookStore(store),
        freezer=Freezer(store),
        hub=Hub(store, log, most=lambda: live.current.max_streams),
        metrics=metrics or Metrics(),
        now_us=now_us,
    )


def services_of(request: Request) -> Services:
    """Return the services of the application that a request came to."""
    found = request.app.state.services
    assert isinstance(found, Services)  # noqa: S101  (create_app has put it there)
    return found


Use = Annotated[Services, Depends(services_of)]
"""An endpoint's parameter of this type is given the services."""
