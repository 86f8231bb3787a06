"""Settings: who overrules whom, what every key takes, and that all that is wrong is told at once, with file, line and key."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from dataclasses import fields
from pathlib import Path

import pytest

from resyncctl.config import Settings, Source, load, parse_listen, shown
from resyncctl.config.model import Model
from resyncctl.errors import InputError
from resyncctl.rollout.model import Engine
from tests.config.conftest import Load

EXAMPLE = Path(__file__).parents[2] / "deploy" / "resyncctl.toml"
DEFAULTS: dict[str, object] = {
    "redis_url": "",
    "log_level": "warning",
    "log_format": "auto",
    "listen": "127.0.0.1:8420",
    "tls_cert": None,
    "tls_key": None,
    "pool": "",
    "pools": (),
    "requests_per_second": 50.0,
    "max_streams": 200,
    "max_body": 33_554_432,
    "engine": "asyncio",
    "nameserver": "",
    "trace": (),
    "sip_tls_ca": None,
    "sip_tls_cert": None,
    "sip_tls_key": None,
    "sip_tls_verify": True,
    "sources": {},
}


def plain(environ: dict[str, str] | None = None, **told: object) -> Settings:
    """Load settings without a file."""
    return load(file=None, environ=environ or {}, redis_url="", data_dir=None, log_level="", told=told)


def values(settings: Settings) -> dict[str, object]:
    """Return all settings but the data directory, which depends on the user."""
    return {one.name: getattr(settings, one.name) for one in fields(settings) if one.name != "data_dir"}


def complaint(written: Load, *lines: str, environ: dict[str, str] | None = None, **told: object) -> str:
    """Return what is said of settings that cannot be used, without the directory of the file."""
    with pytest.raises(InputError) as caught:
        written(*lines, environ=environ, **told)
    return re.sub(r"/\S*/c\.toml", "c.toml", str(caught.value))


def test_defaults_are_the_same_with_and_without_a_file(written: Load) -> None:
    assert values(plain()) == DEFAULTS
    assert values(written()) == DEFAULTS
    assert written().data_dir == plain().data_dir


def test_a_file_sets_every_key(written: Load, tmp_path: Path) -> None:
    settings = written(
        'redis_url = "redis+sentinel://a:26379,b:26379/main/0"',
        'data_dir = "/data"',
        'log_level = "debug"',
        'log_format = "json"',
        'listen = "[::]:443"',
        'tls_cert = "/tls/cert.pem"',
        'tls_key = "/tls/key.pem"',
        'pool = "berlin"',
        "requests_per_second = 2.5",
        "max_streams = 7",
        'max_body = "5 MiB"',
        'engine = "pjsua2"',
        'nameserver = "[2001:db8::53]:5353"',
        'trace = ["/var/all.pcap", "hep:homer.example.com:9060"]',
        'sip_tls_ca = "/sip/ca.pem"',
        'sip_tls_cert = "/sip/cert.pem"',
        'sip_tls_key = "/sip/key.pem"',
        "sip_tls_verify = false",
        "[sources.hq]",
        'file = "/phones/hq.csv"',
        'from_domain = "pbx.example.com"',
    )
    assert settings == Settings(
        redis_url="redis+sentinel://a:26379,b:26379/main/0",
        data_dir=Path("/data"),
        log_level="debug",
        log_format="json",
        listen="[::]:443",
        tls_cert=Path("/tls/cert.pem"),
        tls_key=Path("/tls/key.pem"),
        pool="berlin",
        requests_per_second=2.5,
        max_streams=7,
        max_body=5 * 1024 * 1024,
        engine=Engine.PJSUA2,
        nameserver="[2001:db8::53]:5353",
        trace=("/var/all.pcap", "hep:homer.example.com:9060"),
        sip_tls_ca=Path("/sip/ca.pem"),
        sip_tls_cert=Path("/sip/cert.pem"),
        sip_tls_key=Path("/sip/key.pem"),
        sip_tls_verify=False,
        sources={"hq": Source(Path("/phones/hq.csv"), "pbx.example.com")},
    )
    assert settings.address == ("::", 443)


def test_the_command_line_overrules_the_environment_which_overrules_the_file(written: Load) -> None:
    lines = ('listen = "file:1"', 'pool = "file"', "max_streams = 1")
    settings = written(*lines, environ={"LISTEN": "env:2", "POOL": "env"}, listen="told:3")
    assert (settings.listen, settings.pool, settings.max_streams) == ("told:3", "env", 1)


def test_every_key_can_be_set_in_the_environment() -> None:
    settings = plain(
        {
            "RESYNCCTL_LOG_FORMAT": "text",
            "RESYNCCTL_REQUESTS_PER_SECOND": "9.5",
            "RESYNCCTL_MAX_STREAMS": "3",
            "RESYNCCTL_MAX_BODY": "64KiB",
            "RESYNCCTL_TLS_CERT": "/c",
            "RESYNCCTL_TLS_KEY": "/k",
            "RESYNCCTL_ENGINE": "pjsua2",
            "RESYNCCTL_NAMESERVER": "192.0.2.53",
            "RESYNCCTL_TRACE": '["/t.pcap", "hep:[2001:db8::1]"]',
            "RESYNCCTL_SIP_TLS_CA": "/a",
            "RESYNCCTL_SIP_TLS_CERT": "/sc",
            "RESYNCCTL_SIP_TLS_KEY": "/sk",
            "RESYNCCTL_SIP_TLS_VERIFY": "no",
            "RESYNCCTL_SOURCES__HQ__FILE": "/hq.csv",
            "RESYNCCTL_SOURCES__HQ__FROM_DOMAIN": "192.0.2.1",
            "RESYNCCTL_SOURCES__NEW_YORK__FILE": "/ny.csv",
        }
    )
    assert values(settings) == DEFAULTS | {
        "log_format": "text",
        "requests_per_second": 9.5,
        "max_streams": 3,
        "max_body": 65_536,
        "tls_cert": Path("/c"),
        "tls_key": Path("/k"),
        "engine": "pjsua2",
        "nameserver": "192.0.2.53",
        "trace": ("/t.pcap", "hep:[2001:db8::1]"),
        "sip_tls_ca": Path("/a"),
        "sip_tls_cert": Path("/sc"),
        "sip_tls_key": Path("/sk"),
        "sip_tls_verify": False,
        "sources": {"hq": Source(Path("/hq.csv"), "192.0.2.1"), "new_york": Source(Path("/ny.csv"))},
    }


def test_an_empty_variable_says_nothing(written: Load) -> None:
    assert written("max_streams = 5", environ={"MAX_STREAMS": "", "LISTEN": ""}).max_streams == 5
    assert values(plain({"RESYNCCTL_LOG_LEVEL": "", "RESYNCCTL_CONFIG": ""})) == DEFAULTS


@pytest.mark.parametrize("level", ["debug", "error"])
def test_the_log_level_of_the_environment_counts_with_and_without_a_file(written: Load, level: str) -> None:
    assert plain({"RESYNCCTL_LOG_LEVEL": level}).log_level == level
    assert written('log_level = "info"', environ={"LOG_LEVEL": level}).log_level == level


def test_sources_of_the_environment_are_added_to_those_of_the_file_whose_spelling_stays(written: Load) -> None:
    settings = written(
        'sources.HQ = {file = "/old", from_domain = "hq.example"}', 'sources.lab.file = "/lab"',
        environ={"SOURCES__HQ__FILE": "/new", "SOURCES__SHOP__FILE": "/shop", "SOURCES__LAB__FROM_DOMAIN": "lab.example"},
    )  # fmt: skip
    assert settings.sources == {
        "HQ": Source(Path("/new"), "hq.example"), "lab": Source(Path("/lab"), "lab.example"), "shop": Source(Path("/shop")),
    }  # fmt: skip


def test_relative_paths_in_the_file_start_at_its_directory(
    written: Load, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir("/")
    monkeypatch.setenv("HOME", "/home/of")
    settings = written(
        'data_dir = "data"', 'tls_cert = "../cert.pem"', 'sources.hq.file = "hq.csv"', 'sources.mine.file = "~/m.csv"',
        'sip_tls_ca = "ca.pem"', 'sip_tls_cert = "sip/cert.pem"', 'sip_tls_key = "~/sip.pem"',
        'trace = ["t.pcap", "~/t.pcap", "hep:homer", "HEP://homer:9060/"]',
        environ={"TLS_KEY": "key.pem", "SOURCES__LAB__FILE": "lab.csv"},
    )  # fmt: skip
    assert settings.data_dir == tmp_path / "data"
    assert settings.tls_cert == tmp_path / "../cert.pem"
    assert settings.tls_key == Path("/key.pem")
    assert settings.sources == {
        "hq": Source(tmp_path / "hq.csv"), "lab": Source(Path("/lab.csv")), "mine": Source(Path("/home/of/m.csv")),
    }  # fmt: skip
    assert settings.sip_tls_ca == tmp_path / "ca.pem"
    assert settings.sip_tls_cert == tmp_path / "sip/cert.pem"
    assert settings.sip_tls_key == Path("/home/of/sip.pem")
    assert settings.trace == (str(tmp_path / "t.pcap"), "/home/of/t.pcap", "hep:homer", "HEP://homer:9060/")


def test_relative_capture_files_of_the_environment_start_where_the_command_does(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir("/")
    assert plain({"RESYNCCTL_TRACE": '["t.pcap", "hep:homer"]'}).trace == ("/t.pcap", "hep:homer")


def test_the_environment_names_the_file_when_the_command_line_does_not(tmp_path: Path) -> None:
    (tmp_path / "told.toml").write_text("max_streams = 1")
    (tmp_path / "around.toml").write_text("max_streams = 2")
    environ = {"RESYNCCTL_CONFIG": str(tmp_path / "around.toml")}
    assert plain(environ).max_streams == 2
    told = load(file=tmp_path / "told.toml", environ=environ, redis_url="", data_dir=None, log_level="")
    assert told.max_streams == 1


def test_a_missing_file_says_who_named_it() -> None:
    with pytest.raises(InputError) as caught:
        plain({"RESYNCCTL_CONFIG": "/nowhere/c.toml"})
    assert str(caught.value) == (
        "RESYNCCTL_CONFIG /nowhere/c.toml: cannot be read (No such file or directory); name a TOML file,"
        " or unset RESYNCCTL_CONFIG"
    )


def test_all_that_is_wrong_is_told_at_once_in_the_order_of_the_lines(written: Load) -> None:
    text = complaint(
        written,
        "# a comment",
        'redis_uri = "redis://:hunter2@h"',
        'log_level = "loud"',
        "",
        "max_streams = 0",
        'sources.hq.fiel = "x"',
        'pool = "a b"',
        environ={"LISTEN": "9", "MAX_BODYS": "5"},
        requests_per_second="many",
    )
    assert text == (
        "--config c.toml: line 2: unknown key 'redis_uri', did you mean redis_url?;"
        " line 3: log_level 'loud' is none of debug, info, warning, error;"
        " line 5: max_streams 0 is less than 1;"
        " line 6: unknown key 'sources.hq.fiel', did you mean sources.hq.file?;"
        ' line 6: sources.hq.file is missing; write file = "PHONES.csv";'
        " line 7: pool 'a b' is not a name; use up to 64 letters, digits, '.', '_' and '-', a letter or a digit first;"
        " known keys: redis_url, data_dir, log_level, log_format, listen, tls_cert, tls_key, pool, pools,"
        " requests_per_second, max_streams, max_body, engine, nameserver, trace, sip_tls_ca, sip_tls_cert, sip_tls_key,"
        " sip_tls_verify, sources;"
        " nothing reads RESYNCCTL_MAX_BODYS, did you mean RESYNCCTL_MAX_BODY?;"
        " RESYNCCTL_LISTEN '9' is not HOST:PORT; write for example 127.0.0.1:8420 or [::1]:8420;"
        " --requests-per-second 'many' is not a number"
    )


def test_what_is_wrong_in_the_file_is_told_although_it_is_overruled(written: Load) -> None:
    text = complaint(written, 'log_level = "loud"', environ={"LOG_LEVEL": "info"})
    assert text == "--config c.toml: line 1: log_level 'loud' is none of debug, info, warning, error"


def test_a_file_that_cannot_be_read_is_not_said_to_lack_anything(written: Load) -> None:
    text = complaint(written, "[[", environ={"TLS_KEY": "/k", "LISTEN": "9"})
    assert text.startswith("--config c.toml: not TOML: ")
    assert "RESYNCCTL_LISTEN '9' is not HOST:PORT" in text
    assert "tls_cert" not in text


@pytest.mark.parametrize(
    ("line", "text"),
    [
        ("redis_url = 5", "redis_url is not text in quotes"),
        ("data_dir = []", "data_dir is not text in quotes"),
        ('data_dir = "~nobody-of-that-name/x"', "data_dir '~nobody-of-that-name/x' is in no known home"),
        ('log_level = ""', "log_level '' is none of debug, info, warning, error"),
        ('log_format = "xml"', "log_format 'xml' is none of auto, json, text"),
        ("listen = 8420", "listen is not text in quotes"),
        ('listen = "0.0.0.0"', "listen '0.0.0.0' is not HOST:PORT; write for example"),
        ('listen = "::1:8420"', "listen '::1:8420' is not HOST:PORT"),
        ('listen = "h:65536"', "listen 'h:65536' is not HOST:PORT"),
        ('listen = "http://h:1"', "listen 'http://h:1' is not HOST:PORT"),
        ('tls_cert = "c.pem"', "tls_cert is given without tls_key; give both or neither"),
        ('tls_key = "k.pem"', "tls_key is given without tls_cert; give both or neither"),
        ('pool = "-x"', "pool '-x' is not a name"),
        ("requests_per_second = 0", "requests_per_second 0 is not more than 0"),
        ("requests_per_second = nan", "requests_per_second nan is not"),
        ("requests_per_second = true", "requests_per_second True is not a number"),
        ("max_streams = 1.5", "max_streams 1.5 is not a whole number"),
        ("max_streams = 1_000_000", "max_streams 1000000 is more than 100000"),
        ("max_body = 10", "max_body 10 is less than 1024"),
        ('max_body = "5 MB"', "max_body '5 MB' is not a whole number"),
        ('engine = "sofia"', "engine 'sofia' is none of asyncio, pjsua2"),
        ('engine = ""', "engine '' is none of asyncio, pjsua2"),
        ("nameserver = 53", "nameserver is not text in quotes"),
        (
            'nameserver = "dns.example.com"',
            (
                "nameserver 'dns.example.com' is not the address of a name server; write IP, IP:PORT or [IPv6]:PORT, and no"
                " host name"
            ),
        ),
        ('nameserver = "192.0.2.53:0"', "nameserver '192.0.2.53:0' is not the address of a name server"),
        ('nameserver = "2001:db8::53]:53"', "nameserver '2001:db8::53]:53' is not the address of a name server"),
        ('trace = "t.pcap"', 'trace is not a list; write ["FIRST", "SECOND"]'),
        ("trace = [5]", "trace.0 is not text in quotes"),
        ('trace = ["t.pcap", ""]', "trace.1 '' names no file"),
        (
            'trace = ["http://homer"]',
            "trace.0 'http://homer' is neither a file nor a Homer collector; write FILE.pcap or hep:HOST[:PORT]",
        ),
        (
            'trace = ["hep:"]',
            (
                "trace.0 'hep:' is not a Homer collector; write hep:HOST, hep:HOST:PORT or hep:CAPTURE_ID@HOST:PORT, IPv6 in"
                " brackets"
            ),
        ),
        ('trace = ["hep:homer:udp"]', "trace.0 'hep:homer:udp' is not a Homer collector"),
        ("sip_tls_ca = true", "sip_tls_ca is not text in quotes"),
        (
            'sip_tls_key = "k.pem"',
            "sip_tls_key is given without sip_tls_cert; give both, or a certificate whose file has the key too",
        ),
        ('sip_tls_verify = "never"', "sip_tls_verify 'never' is neither true nor false"),
        ("sip_tls_verify = []", "sip_tls_verify [] is neither true nor false"),
        (
            'sources.hq = {file = "x", from_domain = "sip:pbx.example.com"}',
            (
                "sources.hq.from_domain 'sip:pbx.example.com' is not a host name or an IP address; write for example"
                " pbx.example.com, without sip:, user and port"
            ),
        ),
        ('sources.hq = {file = "x", from_domain = "a@b"}', "sources.hq.from_domain 'a@b' is not a host name"),
        ('sources.hq = {file = "x", from_domain = "pbx:5060"}', "sources.hq.from_domain 'pbx:5060' is not a host name"),
        ('sources.hq = {file = "x", from_domain = "-"}', "sources.hq.from_domain '-' is not a host name"),
        ('sources.hq = {file = "x", from_domain = 5}', "sources.hq.from_domain is not text in quotes"),
        (
            'sources.hq = {file = "x", form_domain = "h"}',
            "unknown key 'sources.hq.form_domain', did you mean sources.hq.from_domain?",
        ),
        ("sources = 5", 'sources is not a table; write [sources.NAME] and below it file = "PHONES.csv"'),
        ("sources.hq = 5", "sources.hq is not a table"),
        ('sources.hq.file = ""', "sources.hq.file '' names no file"),
        ("sources.hq.file = 5", "sources.hq.file is not text in quotes"),
        ('[sources."a b"]\nfile = "x"', "sources.a b 'a b' is not a name"),
        ('Listen = "h:1"', "unknown key 'Listen', did you mean listen?"),
        ("log-level = 'info'", "unknown key 'log-level', did you mean log_level?"),
        ("colour = 1", "unknown key 'colour'; known keys: redis_url, "),
    ],
)
def test_a_value_that_cannot_be_used_is_told_with_line_and_key(written: Load, line: str, text: str) -> None:
    assert f"--config c.toml: line 2: {text}" in complaint(written, "", line)


@pytest.mark.parametrize(
    ("name", "value", "text"),
    [
        ("LISTEN", "x", "RESYNCCTL_LISTEN 'x' is not HOST:PORT"),
        ("MAX_STREAMS", "many", "RESYNCCTL_MAX_STREAMS 'many' is not a whole number"),
        ("SOURCES", "hq.csv", "RESYNCCTL_SOURCES is no table; set RESYNCCTL_SOURCES__NAME__FILE instead"),
        ("SOURCES__HQ", "hq.csv", "RESYNCCTL_SOURCES__HQ is not a table"),
        ("SOURCES__HQ__FIEL", "x", "unknown key 'sources.hq.fiel', did you mean sources.hq.file?"),
        ("TLS_KEY", "/k", "RESYNCCTL_TLS_KEY is given without tls_cert"),
        (
            "SIP_TLS_KEY",
            "/k",
            "RESYNCCTL_SIP_TLS_KEY is given without sip_tls_cert; give both, or a certificate whose file",
        ),
        ("SIP_TLS_VERIFY", "maybe", "RESYNCCTL_SIP_TLS_VERIFY 'maybe' is neither true nor false"),
        ("SIP_TLS_VERFY", "no", "nothing reads RESYNCCTL_SIP_TLS_VERFY, did you mean RESYNCCTL_SIP_TLS_VERIFY?"),
        ("ENGINE", "ASYNCIO", "RESYNCCTL_ENGINE 'ASYNCIO' is none of asyncio, pjsua2"),
        ("NAMESERVER", "localhost", "RESYNCCTL_NAMESERVER 'localhost' is not the address of a name server"),
        ("TRACE", "t.pcap", 'RESYNCCTL_TRACE is no list; write it in JSON, ["FIRST", "SECOND"]'),
        ("TRACE", '["hep:h:0"]', "RESYNCCTL_TRACE__0 'hep:h:0' is not a Homer collector"),
        ("POOLS", "berlin=ber-*", 'RESYNCCTL_POOLS is no list; write it in JSON, ["FIRST", "SECOND"]'),
        ("SOURCES__HQ__FROM_DOMAIN", "h", "RESYNCCTL_SOURCES__HQ__FILE is missing; write file"),
        ("SOURCES__HQ__FROM_DOMAIN", "sip:h", "RESYNCCTL_SOURCES__HQ__FROM_DOMAIN 'sip:h' is not a host name"),
        ("REDIS_URI", "x", "nothing reads RESYNCCTL_REDIS_URI, did you mean RESYNCCTL_REDIS_URL?"),
        ("LISTEN__PORT", "1", "nothing reads RESYNCCTL_LISTEN__PORT, did you mean RESYNCCTL_LISTEN?"),
        (
            "SOURCE__HQ__FILE",
            "x",
            "nothing reads RESYNCCTL_SOURCE__HQ__FILE, did you mean RESYNCCTL_SOURCES__NAME__FILE?",
        ),
        ("LOG_LEVEL", "loud", "RESYNCCTL_LOG_LEVEL 'loud' is none of debug, info, warning, error"),
    ],
)
def test_a_variable_that_cannot_be_used_is_told_by_its_name(name: str, value: str, text: str) -> None:
    with pytest.raises(InputError) as caught:
        plain({f"RESYNCCTL_{name}": value})
    assert text in str(caught.value)


def test_variables_that_kubernetes_sets_for_a_service_of_our_name_are_no_errors() -> None:
    environ = {
        "RESYNCCTL_PORT": "tcp://10.0.0.1:8420",
        "RESYNCCTL_PORT_8420_TCP_ADDR": "10.0.0.1",
        "RESYNCCTL_SERVICE_HOST": "10.0.0.1",
        "RESYNCCTL_SERVICE_PORT": "8420",
    }
    assert values(plain(environ)) == DEFAULTS


@pytest.mark.parametrize(
    ("text", "address"),
    [("127.0.0.1:8420", ("127.0.0.1", 8420)), ("[::1]:0", ("::1", 0)), ("pbx.example:65535", ("pbx.example", 65_535))],
)
def test_an_address_is_read_in_parts(text: str, address: tuple[str, int]) -> None:
    assert parse_listen(text) == address


@pytest.mark.parametrize(
    "text", ["", ":1", "h:", "h", "[::1]", "::1:1", "[h]:1", "h:-1", "h:\u0661", "a b:1", "h:123456789"]
)
def test_what_is_no_address_is_refused(text: str) -> None:
    with pytest.raises(InputError, match=r"is not HOST:PORT"):
        parse_listen(text)


def test_a_password_is_in_no_representation() -> None:
    settings = plain(redis_url="redis://user:hun/t@er2@h:1/0?password=hunter3")
    assert "redis://user:***@h:1/0?password=***" in repr(settings)
    assert "er2" not in f"{settings!r}{settings}"
    assert "hunter3" not in repr(settings)


def test_nothing_is_imported_for_a_file_that_is_not_there() -> None:
    program = (
        "import sys; from pathlib import Path; from resyncctl.config import load\n"
        "environ = {'RESYNCCTL_DATA_DIR': '/d', 'RESYNCCTL_SERVER': 'https://h', 'RESYNCCTL_TOKEN_FILE': '/t'}\n"
        "load(file=None, environ=environ, redis_url='', data_dir=None, log_level='')\n"
        "sys.exit('pydantic' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0


def uncommented() -> str:
    """Return the example with every key in force: keys stand right behind their `#`, prose behind a space."""
    return re.sub(r"(?m)^#(?=[a-z\[])", "", EXAMPLE.read_text(encoding="utf-8"))


def test_the_example_says_nothing_until_it_is_edited(written: Load) -> None:
    assert values(written(EXAMPLE.read_text(encoding="utf-8"))) == DEFAULTS


def test_the_example_has_every_key_with_its_default(written: Load, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/of")
    assert list(tomllib.loads(uncommented())) == [
        "redis_url", "data_dir", "log_level", "log_format", "listen", "tls_cert", "tls_key", "requests_per_second",
        "max_streams", "max_body", "pool", "pools", "engine", "nameserver", "trace", "sip_tls_ca", "sip_tls_cert",
        "sip_tls_key", "sip_tls_verify", "sources",
    ]  # fmt: skip
    assert list(tomllib.loads(uncommented())["sources"]["hq"]) == [one.name for one in fields(Source)]
    settings = written(uncommented())
    assert values(settings) == DEFAULTS | {"sources": {"hq": Source(Path("/etc/resyncctl/hq.csv"))}}
    assert settings.data_dir == Path("/home/of/.local/share/resyncctl")


def test_the_example_the_model_and_the_settings_have_the_same_keys() -> None:
    names = {one.name for one in fields(Settings)}
    assert set(Model.model_fields) == names
    assert set(tomllib.loads(uncommented())) == names


def test_a_certificate_towards_phones_may_have_its_key_in_the_same_file(written: Load) -> None:
    settings = written('sip_tls_cert = "/both.pem"')
    assert (settings.sip_tls_cert, settings.sip_tls_key) == (Path("/both.pem"), None)


def test_all_variables_that_are_no_lists_are_told_at_once() -> None:
    with pytest.raises(InputError) as caught:
        plain({"RESYNCCTL_POOLS": "x", "RESYNCCTL_SOURCES": "hq.csv", "RESYNCCTL_TRACE": "t", "RESYNCCTL_LISTEN": "9"})
    for name in ("POOLS is no list", "SOURCES is no table", "TRACE is no list", "LISTEN '9' is not HOST:PORT"):
        assert f"RESYNCCTL_{name}" in str(caught.value)


def test_the_domain_of_a_source_is_kept_as_it_stands_in_a_uri(written: Load) -> None:
    for written_domain, kept in {
        "PBX.Example.com": "PBX.Example.com",
        "pbx_1": "pbx_1",
        "192.0.2.1": "192.0.2.1",
        "2001:db8::1": "[2001:db8::1]",
        "[2001:db8::1]": "[2001:db8::1]",
        "": "",
    }.items():
        settings = written("[sources.hq]", 'file = "/hq.csv"', f'from_domain = "{written_domain}"')
        assert settings.sources["hq"].from_domain == kept


def test_settings_of_a_source_are_shown_by_their_dotted_key(written: Load) -> None:
    settings = written('["sources"."a.b"]', 'file = "/hq.csv"', 'from_domain = "h"')
    assert shown(settings, "sources.a.b.file") == Path("/hq.csv")
    assert shown(settings, "sources.a.b.from_domain") == "h"
    assert shown(settings, "engine") == "asyncio"


def test_pool_without_a_glob_of_sites_is_told_how_to_write_it() -> None:
    with pytest.raises(
        InputError, match=r"RESYNCCTL_POOLS__1 'x' is not POOL=SITE_GLOB; write for example berlin=ber-\*"
    ):
        plain({"RESYNCCTL_POOLS": '["berlin=ber-*", "x"]'})
    assert plain({"RESYNCCTL_POOLS": '["a=b*"]'}).pools == ("a=b*",)


def test_the_example_marks_what_can_be_reloaded() -> None:
    marked = re.findall(r"\[reload\](?:\n#[ \n][^\n]*|\n)*\n#\[?(\w+)", EXAMPLE.read_text(encoding="utf-8"))
    assert set(marked) == {"sources", "log_level", "requests_per_second", "max_streams", "max_body"}
