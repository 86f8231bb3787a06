"""The snippets of deploy/hooks for Kamailio and Asterisk, each in the real server, against a hook that checks who calls.

Debian's Kamailio has no http_async_client: RESYNCCTL_KAMAILIO_MODULES names a directory that has it. Debian 12 has no
Asterisk: RESYNCCTL_BENCH_ASTERISK names a directory with one, as for `make bench`. Without these their tests are skipped.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from resyncctl.engine.hook_event import HookEvent
from tests.deploy.asterisk import VARIABLE, Asterisk
from tests.deploy.hook_receiver import TOKEN, HookReceiver
from tests.deploy.listener import listening
from tests.peers.kamailio import Kamailio
from tests.peers.plain_client import PlainClient
from tests.peers.process import REPOSITORY
from tests.peers.waiting import wait_until

SCRIPTS = REPOSITORY / "deploy" / "hooks"
MODULES = "RESYNCCTL_KAMAILIO_MODULES"
CONFIGURATION = """#!KAMAILIO
debug=2
log_stderror=yes
children=2
tcp_children=1
async_workers=1
auto_aliases=no
dns=no
rev_dns=no
tcp_accept_no_cl=yes
mpath="{modules}"
loadmodule "tm.so"
loadmodule "sl.so"
loadmodule "pv.so"
loadmodule "usrloc.so"
loadmodule "registrar.so"
loadmodule "textops.so"
loadmodule "xlog.so"
loadmodule "xhttp.so"
loadmodule "jsonrpcs.so"
modparam("usrloc", "db_mode", 0)
modparam("jsonrpcs", "transport", 1)
include_file "{snippet}"
request_route {
    if (is_method("OPTIONS")) {
        sl_send_reply("200", "Ready");
    } else if (is_method("REGISTER") && save("location")) {
        route(RESYNC_REGISTERED);
    }
    exit;
}
event_route[xhttp:request] {
    jsonrpc_dispatch();
}
"""


class HookKamailio(Kamailio):
    """A registrar with the snippet."""

    def __init__(self, hook: HookReceiver, modules: list[Path], *definitions: str) -> None:
        super().__init__()
        self._modules = modules
        self._more = [f'RESYNC_URL="{hook.url}"', f'RESYNC_TOKEN="{TOKEN}"', *definitions]

    def command(self) -> list[str]:
        """Return the command, with a configuration of its own."""
        self._definitions = self._more
        snippet = str(SCRIPTS / "kamailio-http_async_client.cfg")
        text = CONFIGURATION.replace("{snippet}", snippet).replace("{modules}", ":".join(map(str, self._modules)))
        (self.directory / "hook.cfg").write_text(text)
        words = super().command()
        words[words.index("-f") + 1] = str(self.directory / "hook.cfg")
        return words


def installed_modules() -> Path:
    return next(Path("/usr").glob("lib*/**/kamailio/modules"))


@pytest.fixture(params=["http_client", "http_async_client"])
def registrar(request: pytest.FixtureRequest) -> Iterator[tuple[HookKamailio, HookReceiver]]:
    """A Kamailio that calls by either module."""
    modules = [installed_modules()]
    definitions = ["WITH_HTTP_CLIENT"] if request.param == "http_client" else []
    if request.param == "http_async_client":
        if MODULES in os.environ:
            modules.append(Path(os.environ[MODULES]))
        if not any((folder / "http_async_client.so").exists() for folder in modules):
            pytest.skip(f"Kamailio has no http_async_client; {MODULES} names a directory that has it")
    elif not (modules[0] / "http_client.so").exists():
        text = "Kamailio has no http_client (Debian package kamailio-utils-modules)"
        pytest.fail(text) if os.environ.get("CI") == "true" else pytest.skip(text)
    with HookReceiver() as hook, HookKamailio(hook, modules, *definitions) as kamailio:
        yield kamailio, hook


@pytest.mark.needs("kamailio")
def test_kamailio_resyncs_a_phone_that_comes_back_with_other_firmware(
    registrar: tuple[HookKamailio, HookReceiver],
) -> None:
    kamailio, hook = registrar
    for user, host, agent in (
        ("1001", "10.0.0.1", "Yealink 108.86.0.20"),
        ("1001", "10.0.0.2", "Snom 10.1"),  # another phone of the same address
        ("1002", "10.0.0.3", "Snom 10.1"),
        ("1001", "10.0.0.1", "Yealink 108.86.0.20"),
        ("1001", "10.0.0.2", "Snom 10.1"),
        ("1002", "10.0.0.3", "Snom 10.2"),
        ("1001", "10.0.0.1", "Yealink 108.86.0.90"),
        ("1001", "10.0.0.1", "Yealink 108.86.0.90"),
    ):
        assert kamailio.register(user, f"sip:{user}@{host}:5060", user_agent=agent).status == 200
    told = sorted(hook.wait_for(2), key=lambda event: event.extensions)
    assert told == [HookEvent(("1001",), "new firmware"), HookEvent(("1002",), "new firmware")]
    assert (hook.refused, "the hook was not told" in kamailio.log()) == ([], False)


@pytest.mark.needs("kamailio")
def test_kamailio_does_not_keep_phones_waiting_for_the_hook(registrar: tuple[HookKamailio, HookReceiver]) -> None:
    kamailio, hook = registrar
    hook.open.clear()
    for agent in ("Snom 10.1", "Snom 10.2", "Snom 10.3", "Snom 10.4", "Snom 10.5"):
        assert kamailio.register("1001", "sip:1001@10.0.0.1:5060", user_agent=agent).status == 200
    hook.wait_for(1)
    hook.open.set()


@pytest.mark.needs("kamailio")
def test_kamcmd_resyncs_one_phone_or_all(registrar: tuple[HookKamailio, HookReceiver]) -> None:
    kamailio, hook = registrar
    kamailio.rpc("htable.sets", ["resync_now", "10 01&x", "1"])
    assert hook.wait_for(1) == [HookEvent(("10 01&x",), "kamcmd")]
    kamailio.rpc("htable.sets", ["resync_now", "all", "1"])
    assert hook.wait_for(2)[1] == HookEvent((), "kamcmd")


@pytest.mark.needs("kamailio")
def test_kamailio_logs_that_the_hook_was_not_told(registrar: tuple[HookKamailio, HookReceiver]) -> None:
    kamailio, hook = registrar
    hook.failures = 1
    kamailio.rpc("htable.sets", ["resync_now", "1001", "1"])
    wait_until(lambda: "the hook was not told" in kamailio.log(), "it says so", within=10)
    assert "503" in kamailio.log()


needs_asterisk = pytest.mark.skipif(
    VARIABLE not in os.environ and not shutil.which("asterisk"),
    reason=f"Asterisk is not installed, and {VARIABLE} names no directory with one (Debian 12 has none)",
)


@needs_asterisk
def test_the_feature_code_of_asterisk_resyncs_the_phone_that_dials_it() -> None:
    with HookReceiver() as hook, Asterisk(SCRIPTS / "asterisk-extensions.conf", hook.url, TOKEN) as asterisk:
        with PlainClient() as phone:
            assert asterisk.call(phone, "*77") == 200
        assert hook.wait_for(1) == [HookEvent(("phone-1001",), "feature code")]
        wait_until(lambda: "auth-thankyou" in asterisk.log(), "it thanks", within=10)
        hook.failures = 1
        with PlainClient() as phone:
            assert asterisk.call(phone, "*77") == 200
        wait_until(lambda: "the hook was not told: {" in asterisk.log(), "it says so", within=10)
        wait_until(lambda: "beeperr" in asterisk.log(), "it complains", within=10)


@needs_asterisk
def test_a_reload_of_asterisk_reaches_the_hook_over_the_manager_interface(tmp_path: Path) -> None:
    token = tmp_path / "token"
    token.write_text(TOKEN)
    with (
        HookReceiver() as hook,
        Asterisk(SCRIPTS / "asterisk-extensions.conf", hook.url, TOKEN) as asterisk,
        listening(asterisk.ami_port, hook, ("--hook-token-file", token)) as log,
    ):
        wait_until(lambda: "connected to" in log.read_text(), "the listener is logged in", within=10)
        asterisk.cli("core reload")
        assert hook.wait_for(1) == [HookEvent((), "reload of All")]
        asterisk.cli("module reload pbx_config")
        asterisk.cli("core reload")
        assert hook.wait_for(2) == [HookEvent((), "reload of All")] * 2
