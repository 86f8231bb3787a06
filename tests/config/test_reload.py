"""Reading the settings again: what can be applied is, what cannot waits, and a broken file changes nothing."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path

import pytest

from resyncctl.config import RELOADABLE, Changes, LiveSettings, Reloader, Settings, Source, load

OLD = ('listen = "h:1"', "max_streams = 5", '[sources.hq]\nfile = "/hq.csv"')


class Service:
    """A service with a file that somebody edits."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self.edit(*OLD)
        self.live = LiveSettings(self._load())
        self._reloader = Reloader(self.live, self._load)

    def edit(self, *lines: str) -> None:
        """Write the file anew."""
        self._file.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")

    def remove(self) -> None:
        """Remove the file."""
        self._file.unlink()

    def reload(self) -> Changes:
        """Do what SIGHUP does."""
        return self._reloader.reload()

    def _load(self) -> Settings:
        return load(file=self._file, environ={}, redis_url="", data_dir=Path("/d"), log_level="")


@pytest.fixture
def service(tmp_path: Path) -> Service:
    """A service that has started with OLD."""
    return Service(tmp_path / "c.toml")


def test_a_file_that_has_not_changed_changes_nothing(service: Service) -> None:
    before = service.live.current
    assert service.reload() == Changes((), (), "")
    assert service.live.current == before


def test_what_can_be_applied_is_in_force_at_once(service: Service) -> None:
    service.edit(
        'listen = "h:1"', "max_streams = 6", 'log_level = "debug"', "requests_per_second = 3", "max_body = 2048",
        '[sources.lab]\nfile = "/lab.csv"\nfrom_domain = "lab.example"',
    )  # fmt: skip
    changes = service.reload()
    assert changes.applied == ("log_level", "requests_per_second", "max_streams", "max_body", "sources")
    assert changes.restart == ()
    now = service.live.current
    assert (now.log_level, now.requests_per_second, now.max_streams, now.max_body) == ("debug", 3.0, 6, 2048)
    assert now.sources == {"lab": Source(Path("/lab.csv"), "lab.example")}


def test_what_needs_a_restart_stays_and_is_told_until_then(service: Service) -> None:
    service.edit('listen = "h:2"', 'redis_url = "redis://h"', "max_streams = 9")
    changes = service.reload()
    assert changes.applied == ("max_streams", "sources")
    assert changes.restart == ("redis_url", "listen")
    assert (service.live.current.listen, service.live.current.redis_url) == ("h:1", "")
    assert service.reload() == Changes((), ("redis_url", "listen"), "")


def test_how_requests_leave_waits_for_a_restart(service: Service) -> None:
    keys = ("engine", "nameserver", "trace", "sip_tls_ca", "sip_tls_cert", "sip_tls_key", "sip_tls_verify")
    service.edit(
        *OLD[:2],
        'engine = "pjsua2"', 'nameserver = "192.0.2.53"', 'trace = ["hep:homer"]', 'sip_tls_ca = "ca"', 'sip_tls_cert = "c"',
        'sip_tls_key = "k"', "sip_tls_verify = false", OLD[2],
    )  # fmt: skip
    before = service.live.current
    assert service.reload() == Changes((), keys, "")
    assert service.live.current == before


def test_another_domain_of_a_source_is_in_force_at_once(service: Service) -> None:
    service.edit(*OLD, 'from_domain = "pbx.example.com"')
    assert service.reload().applied == ("sources",)
    assert service.live.current.sources == {"hq": Source(Path("/hq.csv"), "pbx.example.com")}


def test_a_broken_file_keeps_the_settings_and_says_all_that_is_wrong(service: Service) -> None:
    before = service.live.current
    service.edit("max_streams = 0", "max_body = 9000", 'colour = "x"')
    changes = service.reload()
    assert (changes.applied, changes.restart) == ((), ())
    assert "line 1: max_streams 0 is less than 1; line 3: unknown key 'colour'" in changes.problem
    assert service.live.current is before


def test_a_file_that_has_gone_keeps_the_settings(service: Service) -> None:
    before = service.live.current
    service.remove()
    assert "cannot be read (No such file or directory)" in service.reload().problem
    assert service.live.current is before


def test_a_file_that_is_mended_is_applied(service: Service) -> None:
    service.edit("max_streams = 0")
    service.reload()
    service.edit(*OLD[:1], "max_streams = 8", OLD[2])
    assert service.reload().applied == ("max_streams",)
    assert service.live.current.max_streams == 8


def test_whoever_holds_the_live_settings_sees_the_new_ones(service: Service) -> None:
    held = service.live
    service.edit("max_streams = 77")
    service.reload()
    assert held.current.max_streams == 77


def test_every_setting_is_either_applied_at_once_or_waits_for_a_restart() -> None:
    names = {one.name for one in fields(Settings)}
    assert names >= RELOADABLE
    assert names - RELOADABLE == {
        "redis_url", "data_dir", "log_format", "listen", "tls_cert", "tls_key", "pool", "pools", "engine", "nameserver",
        "trace", "sip_tls_ca", "sip_tls_cert", "sip_tls_key", "sip_tls_verify",
    }  # fmt: skip
