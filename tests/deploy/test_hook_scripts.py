"""The ready scripts of deploy/hooks, run as a PBX runs them, against a hook that checks who calls."""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from xml.etree import ElementTree

import pytest

from resyncctl.engine.hook_event import HookEvent
from tests.deploy.hook_receiver import SECRET, TOKEN, HookReceiver
from tests.deploy.listener import listening
from tests.deploy.manager import Manager
from tests.peers.process import REPOSITORY
from tests.peers.waiting import wait_until

SCRIPTS = REPOSITORY / "deploy" / "hooks"
TOOLS = pytest.mark.needs("curl", "openssl")


@pytest.fixture
def hook() -> Iterator[HookReceiver]:
    with HookReceiver() as receiver:
        yield receiver


@pytest.fixture
def secret(tmp_path: Path) -> Path:
    path = tmp_path / "secret"
    path.write_text(SECRET + "\n")
    return path


@pytest.fixture
def token(tmp_path: Path) -> Path:
    path = tmp_path / "token"
    path.write_text(TOKEN + "\n")
    return path


def sh(*words: str | Path, **environment: str | Path) -> subprocess.CompletedProcess[str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("RESYNCCTL_")}
    return subprocess.run(
        ["sh", *map(str, words)],
        env={**kept, **{name: str(value) for name, value in environment.items()}},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )


# curl


@TOOLS
def test_curl_signs_the_extensions_that_it_is_given(hook: HookReceiver, secret: Path) -> None:
    done = sh(SCRIPTS / "curl.sh", hook.url, "1001", "1002@pbx.test", RESYNCCTL_SECRET_FILE=secret)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert hook.events == [HookEvent(("1001", "1002@pbx.test"))]


@TOOLS
def test_curl_without_extensions_means_all_and_may_call_twice_in_one_second(hook: HookReceiver, secret: Path) -> None:
    for _ in range(2):
        assert sh(SCRIPTS / "curl.sh", hook.url, RESYNCCTL_SECRET_FILE=secret).returncode == 0
    assert hook.events == [HookEvent(), HookEvent()]


@TOOLS
def test_curl_takes_a_token_instead_and_shows_it_to_nobody(hook: HookReceiver, token: Path) -> None:
    hook.open.clear()
    with subprocess.Popen(
        ["sh", SCRIPTS / "curl.sh", hook.url, "1001"], env={**os.environ, "RESYNCCTL_TOKEN_FILE": str(token)}
    ) as process:
        hook.wait_for(1)
        words = [path.read_bytes() for path in Path("/proc").glob("[0-9]*/cmdline") if path.exists()]
        assert any(hook.url.encode() in line for line in words)
        assert not any(TOKEN.encode() in line for line in words)
        hook.open.set()
        assert process.wait(10) == 0
    assert hook.events == [HookEvent(("1001",))]


@TOOLS
def test_curl_signs_anew_when_it_tries_again(hook: HookReceiver, secret: Path) -> None:
    hook.failures = 2
    assert sh(SCRIPTS / "curl.sh", hook.url, RESYNCCTL_SECRET_FILE=secret).returncode == 0
    assert (hook.refused, hook.events) == (["not now", "not now"], [HookEvent()])


@TOOLS
@pytest.mark.parametrize("extension", ["", '1001","x', "10 01", "$(id)"])
def test_curl_refuses_what_is_no_extension_rather_than_to_resync_everybody(
    hook: HookReceiver, secret: Path, extension: str
) -> None:
    done = sh(SCRIPTS / "curl.sh", hook.url, extension, RESYNCCTL_SECRET_FILE=secret)
    assert (done.returncode, hook.events, hook.refused) == (2, [], [])
    assert "is no extension" in done.stderr


@TOOLS
def test_curl_says_that_it_was_not_let_in(hook: HookReceiver, tmp_path: Path) -> None:
    wrong = tmp_path / "wrong"
    wrong.write_text("another secret of the hook")
    done = sh(SCRIPTS / "curl.sh", hook.url, RESYNCCTL_SECRET_FILE=wrong)
    assert done.returncode != 0
    assert "401" in done.stderr
    assert "name RESYNCCTL_SECRET_FILE or RESYNCCTL_TOKEN_FILE" in sh(SCRIPTS / "curl.sh", hook.url).stderr
    assert hook.events == []


# FreePBX


@TOOLS
def test_freepbx_does_not_wait_for_the_hook_after_a_reload(hook: HookReceiver, secret: Path, tmp_path: Path) -> None:
    hook.open.clear()
    settings = tmp_path / "hook.conf"
    settings.write_text(f"RESYNCCTL_HOOK_URL={hook.url}\nRESYNCCTL_SECRET_FILE={secret}\n")
    done = sh(SCRIPTS / "freepbx-postreload.sh", RESYNCCTL_HOOK_CONF=settings)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert hook.wait_for(1) == [HookEvent()]  # which it has not answered yet
    hook.open.set()


FREEPBX = """<?php
interface BMO {
    public function install();
    public function uninstall();
    public function backup();
    public function restore($backup);
    public function doConfigPageInit($page);
}
require $argv[1] . "/" . $argv[3] . ".class.php";
$class = $argv[2] . "\\\\" . $argv[3];
(new $class(null))->{$argv[4]}();
"""


@TOOLS
@pytest.mark.needs("php")
def test_the_module_for_freepbx_hooks_into_the_end_of_a_reload(
    hook: HookReceiver, secret: Path, tmp_path: Path
) -> None:
    module = tmp_path / "resyncctlhook"
    shutil.copytree(SCRIPTS / "freepbx-module", module)
    for name in ("curl.sh", "freepbx-postreload.sh"):
        shutil.copy(SCRIPTS / name, module)
    description = ElementTree.parse(module / "module.xml").getroot()  # noqa: S314  (our own)
    assert description.findtext("rawname") == module.name
    [caller] = description.findall("hooks/*")
    [method] = caller.findall("method")
    assert (caller.attrib, method.attrib["callingMethod"]) == (
        {"class": "Reload", "namespace": "FreePBX"},
        "postReload",
    )
    (tmp_path / "freepbx.php").write_text(FREEPBX)
    settings = tmp_path / "hook.conf"
    settings.write_text(f"RESYNCCTL_HOOK_URL={hook.url}\nRESYNCCTL_SECRET_FILE={secret}\n")
    words = ["php", tmp_path / "freepbx.php", module, method.attrib["namespace"], method.attrib["class"], method.text]

    def apply_config(conf: Path) -> subprocess.CompletedProcess[str]:
        environment = {**os.environ, "RESYNCCTL_HOOK_CONF": str(conf)}
        return subprocess.run(
            [str(word) for word in words], env=environment, capture_output=True, text=True, timeout=20, check=False
        )

    assert (apply_config(settings).returncode, hook.wait_for(1)) == (0, [HookEvent()])
    done = apply_config(tmp_path / "absent.conf")  # which does not make Apply Config fail
    assert (done.returncode, "resyncctl hook: " in done.stderr + done.stdout) == (0, True)


RELOAD = b"Event: Reload\r\nPrivilege: system,all\r\nModule: All\r\nStatus: 0\r\n\r\n"


def test_the_listener_tells_the_hook_of_each_full_reload_however_it_is_framed(hook: HookReceiver, secret: Path) -> None:
    with Manager() as manager, listening(manager.port, hook, ("--hook-secret-file", secret)):
        assert manager.logged_in.acquire(timeout=10)
        manager.say(b"\r\n\r\nEvent: Reload\r\nPrivilege: system,all\r\nModule: res_pjsip\r\nStatus: 0\r\n\r\n")
        manager.say("Event: PeerStatus\r\nPeer: PJSIP/T\u00e9l\u00e9phone\r\n\r\n".encode("latin-1"))
        for byte in RELOAD:
            manager.say(bytes([byte]))
        assert hook.wait_for(1) == [HookEvent((), "reload of All")]
        manager.say(RELOAD + RELOAD)
        assert hook.wait_for(3) == [HookEvent((), "reload of All")] * 3
    assert hook.refused == []


def test_the_listener_connects_again_when_the_pbx_was_restarted(hook: HookReceiver, token: Path) -> None:
    with Manager() as manager, listening(manager.port, hook, ("--hook-token-file", token), "--on-connect"):
        assert manager.logged_in.acquire(timeout=10)
        assert hook.wait_for(1) == [HookEvent((), "connected")]
        manager.hang_up()
        assert manager.logged_in.acquire(timeout=10)
        manager.say(RELOAD)
        assert [event.reason for event in hook.wait_for(3)] == ["connected", "connected", "reload of All"]


def test_the_listener_signs_anew_when_it_tries_again(hook: HookReceiver, secret: Path) -> None:
    hook.failures = 1
    with Manager() as manager, listening(manager.port, hook, ("--hook-secret-file", secret)) as log:
        assert manager.logged_in.acquire(timeout=10)
        manager.say(RELOAD)
        hook.wait_for(1)
        assert "the hook was not told: HTTP Error 503" in log.read_text()
    assert hook.refused == ["not now"]


def test_the_listener_says_that_its_login_is_refused(hook: HookReceiver, secret: Path) -> None:
    with Manager() as manager, listening(manager.port, hook, ("--hook-secret-file", secret), "--user", "nobody") as log:
        wait_until(lambda: "the login is refused: Authentication failed" in log.read_text(), "it says so", within=10)


# FusionPBX

FREESWITCH = """
argv = {ARGV}
freeswitch = {
  getGlobalVariable = function(name) return os.getenv(name) end,
  consoleLog = function(level, text) io.write(level, " ", text) end,
}
dofile(os.getenv("SCRIPT"))
"""


@TOOLS
@pytest.mark.needs("lua5.4")
@pytest.mark.parametrize(("argv", "event"), [("nil", HookEvent()), ('{"1001", "1002"}', HookEvent(("1001", "1002")))])
def test_freeswitch_does_not_wait_for_the_hook(
    hook: HookReceiver, secret: Path, tmp_path: Path, argv: str, event: HookEvent
) -> None:
    hook.open.clear()
    stub = tmp_path / "freeswitch it's.lua"
    stub.write_text(FREESWITCH.replace("{ARGV}", argv))
    own = tmp_path / "it's"
    own.mkdir()
    (own / "curl.sh").write_text((SCRIPTS / "curl.sh").read_text())
    environment = {
        "SCRIPT": str(SCRIPTS / "fusionpbx.lua"),
        "resyncctl_hook_url": hook.url,
        "resyncctl_hook_script": str(own / "curl.sh"),
        "resyncctl_hook_secret_file": str(secret),
    }
    done = subprocess.run(
        ["lua5.4", stub], env={**os.environ, **environment}, capture_output=True, text=True, timeout=10, check=False
    )
    assert (done.returncode, done.stdout) == (0, f"INFO resyncctl: hook {hook.url} is being told\n"), done.stderr
    assert hook.wait_for(1) == [event]
    hook.open.set()


@TOOLS
@pytest.mark.needs("lua5.4")
def test_freeswitch_arguments_are_not_for_the_shell(hook: HookReceiver, secret: Path, tmp_path: Path) -> None:
    stub = tmp_path / "freeswitch.lua"
    touched = tmp_path / "touched"
    stub.write_text(FREESWITCH.replace("{ARGV}", f"{{\"1001'; touch {touched}; '\"}}"))
    environment = {
        "SCRIPT": str(SCRIPTS / "fusionpbx.lua"),
        "resyncctl_hook_url": hook.url,
        "resyncctl_hook_script": str(SCRIPTS / "curl.sh"),
        "resyncctl_hook_secret_file": str(secret),
    }
    assert subprocess.run(["lua5.4", stub], env={**os.environ, **environment}, timeout=10, check=False).returncode == 0
    time.sleep(0.3)  # for what must not happen
    assert not touched.exists()
    assert hook.events == []
