"""Bad usage: one paragraph on standard error that says what, where and what to do; exit status 2; nothing sent or stored."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.cli.command import Ear, Resyncctl
from tests.cli.conftest import Ask

DURATIONS = [
    "--batch-interval",
    "--random-delay",
    "--forced-delay",
    "--idle-for",
    "--retry-delay",
    "--timer-t1",
    "--timeout",
]


@pytest.mark.parametrize("option", DURATIONS)
@pytest.mark.parametrize(
    ("value", "complaint"),
    [
        ("5x", "'5x' is not a duration; write 90s"),
        ("", "an empty duration; write 90s"),
        ("-5s", "'-5s' is not a duration"),
        ("nan", "'nan' is not a duration"),
        ("31d", "'31d' is longer than 30 days"),
    ],
)
def test_a_bad_duration_names_its_option(ask: Ask, one_phone: Path, option: str, value: str, complaint: str) -> None:
    answer = ask("run", one_phone, f"{option}={value}")
    assert answer.status == 2
    assert option in answer.complaint
    assert complaint in answer.complaint


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        (["--foo"], "No such option: --foo"),
        (["--rate", "x"], "--rate"),
        (["--rate", "nan"], "--rate"),
        (["--rate", "-1"], "--rate"),
        (["--batch-size", "0"], "--batch-size"),
        (["--attempts", "11"], "--attempts"),
        (["--max-in-flight", "0"], "--max-in-flight"),
        (["--action", "explode"], "--action"),
        (["--on-busy", "shout"], "--on-busy"),
        (["--seed", "x"], "--seed"),
        (["--timer-t1", "1ms"], "--timer-t1 is at least 10ms"),
        (["--timeout", "100ms"], "--timeout not shorter than it"),
        (["--from", "http://example.org"], "--from: not a sip: or sips: URI"),
        (["--from", "sip:a@b\r\nX: y"], "--from: "),
        (["--event", "check-sync\r\nX: y"], "--event: not an Event value"),
        (["--event", "check sync"], "--event: not an Event value"),
        (["--outbound-proxy", "tcp"], "--outbound-proxy: not a sip: or sips: URI"),
        (["--outbound-proxy", "sip:a\r\nX: y"], "--outbound-proxy: "),
        (["--outbound-proxy", "sip:proxy;transport=ws"], "--outbound-proxy: UDP, TCP and TLS are spoken"),
        (["--outbound-proxy", "sip:proxy;transport=sctp"], "--outbound-proxy: unknown transport 'sctp'"),
        (["--outbound-proxy", "sips:proxy;transport=udp"], "--outbound-proxy: UDP, TCP and TLS are spoken"),
        (["--identity", "alice"], "--identity: not a sip: or sips: URI"),
        (["--identity", "sip:a\r\nX: y"], "--identity: "),
        (["--engine", "resiprocate"], "'resiprocate' is not one of 'asyncio', 'pjsua2'"),
        (["--nameserver", "dns.example"], "nameserver 'dns.example' is not an address"),
        (["--trace", "http://homer.example"], "--trace http://homer.example: neither a file nor a Homer collector"),
        (["--trace", "/nowhere/x.pcap"], "--trace /nowhere/x.pcap"),
        (["--tls-ca", "/nowhere/ca.pem"], "--tls-ca /nowhere/ca.pem: No such file or directory"),
        (["--tls-key", "/nowhere/key.pem"], "--tls-key is given without --tls-cert"),
        (["--tls-cert", "/nowhere/cert.pem"], "--tls-cert /nowhere/cert.pem: No such file or directory"),
        (["--local-address", "pbx.example"], "'pbx.example' is not an IP address; write for example"),
        (["--local-address", "127.0.0.1:99999"], "--local-address: not a port from 1 to 65535"),
        (["--local-address", "127.0.0.1\r\nX: y"], "--local-address: "),
        (["--id", "a b"], "'a b' cannot name a rollout: use up to 64 letters"),
        (["--id", "x" * 65], "cannot name a rollout"),
        (["--id", "a\r\nb"], "cannot name a rollout"),
        (["--where", "colour=red"], "--where 'colour=red': write FIELD=GLOB with a field of aor, contact"),
        (["--where", "site"], "--where 'site': write FIELD=GLOB"),
        (["--where", "site=nowhere"], "no phone is left after --where"),
        (["--config"], "Option '--config' requires an argument"),
        (["--log-level", "loud"], "--log-level 'loud' is none of debug, info, warning, error"),
        (
            ["--config", "nowhere.toml"],
            "--config nowhere.toml: cannot be read (No such file or directory); name a TOML file",
        ),
    ],
)
def test_a_bad_option_is_named_with_what_to_write(
    ask: Ask, resyncctl: Resyncctl, one_phone: Path, ear: Ear, options: list[str], complaint: str
) -> None:
    answer = ask("run", one_phone, "--now", *options)
    assert answer.status == 2
    assert answer.out == ""
    assert complaint in answer.complaint
    assert ear.heard() == []
    assert resyncctl.has_stored_nothing


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (["run"], "resyncctl run: Missing argument 'PHONES.csv'. `resyncctl run --help` shows what it takes."),
        (["reboot"], "resyncctl: No such command 'reboot'"),
        (["rollout", "stop"], "resyncctl rollout: No such command 'stop'."),
        (["rollout", "results", "--format", "xml"], "--format"),
        (["rollout", "results", "--state", "dead"], "--state"),
        (["rollout", "list", "--count", "0"], "--count"),
        (["rollout", "show", "a b"], "'a b' cannot name a rollout"),
        (["vendors", "show", "nokia"], "unknown vendor 'nokia'; `resyncctl vendors list` shows the known ones"),
        (["vendors", "match", "Nokia 5110"], "no vendor's pattern fits 'Nokia 5110'"),
        (["sim", "0"], "0 phones: simulate between 1 and 200000"),
        (["sim", "200001"], "200001 phones: simulate between 1 and 200000"),
        (["sim", "nowhere.csv"], "nowhere.csv: cannot be read"),
        (["sim", "1", "--answer", "200:50%"], "--answer: "),
        (["sim", "1", "--answer", "hello"], "--answer: "),
        (["sim", "1", "--delay", "5x"], "--delay: '5x' is not a duration"),
        (["sim", "1", "--delay", "5-3"], "delay is 5 to 3 seconds"),
        (["sim", "1", "--loss", "120%"], "loss is 1.2"),
        (["sim", "1", "--loss", "many"], "--loss: 'many' is not a share"),
        (["sim", "1", "--mute-on-reboot", "x"], "--mute-on-reboot: 'x' is not a share"),
        (["sim", "1", "--boot-time", ""], "--boot-time: an empty duration"),
        (["sim", "1", "--auth", "403"], "--auth"),
        (["sim", "1", "--algorithm", "ROT13"], "--algorithm"),
        (["sim", "1", "--sockets", "-1"], "--sockets"),
        (["sim", "1", "--listen", "0.0.0.0"], "phones cannot be reached at '0.0.0.0'"),
        (["sim", "1", "--listen", "127.0.0.1:70000"], "--listen: not a port from 1 to 65535"),
        (["sim", "1", "--registrar", "pbx"], "--registrar: not a sip: or sips: URI"),
        (["sim", "1", "--register"], "--register: there is nowhere to register"),
        (["sim", "1", "--domain", "a@b"], "--domain: 'a@b' is not a host name"),
        (["sim", "1", "--csv", "/"], "--csv /: is a directory"),
        (["sim", "1", "--csv", "/nowhere/phones.csv"], "cannot be written (No such file or directory)"),
    ],
)
def test_a_bad_command_says_what_it_takes(ask: Ask, words: list[str], complaint: str) -> None:
    answer = ask(*words)
    assert answer.status == 2
    assert complaint in answer.complaint


def test_sim_never_overwrites_the_list_of_the_real_phones(ask: Ask, one_phone: Path) -> None:
    before = one_phone.read_text()
    answer = ask("sim", one_phone, "--csv", one_phone)
    assert answer.status == 2
    assert "the list of the real phones, which would be lost" in answer.complaint
    assert one_phone.read_text() == before


def test_sim_says_that_an_address_is_not_ours(ask: Ask) -> None:
    answer = ask("sim", "1", "--listen", "192.0.2.1")
    assert answer.status == 4
    assert "192.0.2.1" in answer.complaint
    assert "--listen" in answer.complaint


def test_with_json_the_complaint_is_on_standard_output_too(ask: Ask, one_phone: Path) -> None:
    answer = ask("run", one_phone, "--rate", "x", "--json")
    assert answer.status == 2
    assert "--rate" in str(answer.report["error"])


@pytest.mark.parametrize("words", [[], ["rollout"], ["vendors"]], ids=str)
def test_a_group_without_a_command_shows_its_help(ask: Ask, words: list[str]) -> None:
    answer = ask(*words)
    assert answer.status == 2
    assert "Usage: resyncctl" in answer.out
    assert answer.err == ""


def test_common_options_may_stand_anywhere(ask: Ask, one_phone: Path) -> None:
    front = ask("--json", "--log-level", "error", "plan", one_phone)
    behind = ask("plan", "--log-level=error", one_phone, "--json")
    assert front.report == behind.report


def test_a_file_behind_two_dashes_may_be_called_like_an_option(
    ask: Ask, resyncctl: Resyncctl, ear: Ear, monkeypatch: pytest.MonkeyPatch
) -> None:
    resyncctl.file("--json", *ear.rows())
    monkeypatch.chdir(resyncctl.directory)
    assert ask("plan", "--", "--json").out.startswith("resync of 1 phone")
