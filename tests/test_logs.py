"""Logs: JSON or text on standard error, ids bound, no secret in any record, libraries' records in the same form."""

from __future__ import annotations

import io
import json
import logging
import time
from collections.abc import Iterator

import pytest

from resyncctl.logs import LIBRARIES, Threshold, capture_stdlib, make_logger, redact_text, redact_url

Capture = pytest.CaptureFixture[str]


def records(capsys: Capture) -> list[dict[str, object]]:
    """Return the records written since the last call; each is one line of JSON."""
    return [json.loads(line) for line in capsys.readouterr().err.splitlines()]


def test_a_record_is_one_line_of_json_with_level_time_and_bound_ids(capsys: Capture) -> None:
    log = make_logger("info").bind(rollout="r-1", worker="w-1")
    log.info("batch_finished", sent=50)
    (record,) = records(capsys)
    assert str(record.pop("timestamp")).endswith("Z")
    assert record == {"rollout": "r-1", "worker": "w-1", "sent": 50, "event": "batch_finished", "level": "info"}


def test_records_below_the_level_are_not_written(capsys: Capture) -> None:
    log = make_logger("warning")
    log.info("quiet")
    log.warning("loud")
    assert [record["event"] for record in records(capsys)] == ["loud"]


@pytest.mark.parametrize("first", ["debug", "error"])
def test_a_threshold_changes_the_level_of_loggers_in_use(capsys: Capture, first: str) -> None:
    threshold = Threshold(first)
    log = make_logger(threshold).bind(worker="w-1")
    log.info("before")
    assert len(records(capsys)) == (1 if first == "debug" else 0)
    threshold.level = "info"
    log.debug("too_low")
    log.info("after")
    log.exception("failed", exc_info=ValueError("x"))
    assert [record["event"] for record in records(capsys)] == ["after", "failed"]


def test_text_is_for_people_and_has_no_colours_off_a_terminal(capsys: Capture) -> None:
    make_logger("info", log_format="text").info("worker_joined", pool="berlin")
    line = capsys.readouterr().err
    assert "worker_joined" in line
    assert "pool=berlin" in line
    assert "\x1b" not in line
    assert not line.startswith("{")


def test_a_traceback_in_text_shows_no_values_of_variables(capsys: Capture) -> None:
    def failing(auth: str) -> None:
        raise ValueError(str(len(auth)))

    try:
        failing("hunter2")
    except ValueError:
        make_logger("info", log_format="text").exception("call_failed")
    text = capsys.readouterr().err
    assert "Traceback" in text
    assert "ValueError: 7" in text
    assert "'hunter2'" not in text  # as Rich would show it; the line of code has other quotes


@pytest.mark.parametrize(("chosen", "first"), [("auto", "2"), ("text", "2"), ("json", "{")])
def test_a_terminal_gets_text_unless_json_is_asked_for(
    chosen: str, first: str, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stderr.isatty", lambda: True, raising=False)
    monkeypatch.setenv("NO_COLOR", "1")
    make_logger("info", log_format=chosen).info("worker_joined")
    assert capsys.readouterr().err.startswith(first)


@pytest.mark.parametrize(
    "key",
    ["password", "auth_password", "Password", "token", "api_token", "secret", "hook-secret", "Authorization", "Set-Cookie",
     "x-api-key"],
)  # fmt: skip
def test_a_value_whose_key_names_a_secret_is_redacted_however_deep(capsys: Capture, key: str) -> None:
    log = make_logger("info").bind(**{key: "hunter2"})
    log.info("called", request={"headers": [{key: b"hunter2"}, {key: 4711}]})
    (record,) = records(capsys)
    assert record[key] == "***"
    assert record["request"] == {"headers": [{key: "***"}, {key: "***"}]}


def test_what_only_sounds_like_a_secret_is_kept(capsys: Capture) -> None:
    make_logger("info").info("listed", tokens=3, token_name="pbx", password=None, any_token=True, passwords_seen=0)
    (record,) = records(capsys)
    kept = {"tokens": 3, "token_name": "pbx", "password": None, "any_token": True, "passwords_seen": 0}
    assert {key: record[key] for key in kept} == kept


class Client:
    """Something whose representation has a password."""

    def __repr__(self) -> str:
        return "<Client redis://u:hunter2@h>"


@pytest.mark.parametrize(
    "value",
    [
        "redis://:hunter2@h:6379/0",
        "cannot reach redis://me:hunter2@h and https://x:hunter2@y/z",
        "POST /v1/hooks/pbx?ext=1&token=hunter2 HTTP/1.1",
        "unix:///run/s?password=hunter2",
        "Authorization: Digest hunter2hunter2hunter2",
        "sent Bearer hunter2hunter2hunter2",
        "rsy_hunter2hunter2hunter2 is no token",
        ValueError("redis://:hunter2@h"),
        Client(),
        ["redis://:hunter2@h"],
        {"url": ("redis://:hunter2@h",)},
    ],
    ids=repr,
)
def test_a_secret_in_a_text_is_redacted(capsys: Capture, value: object) -> None:
    log = make_logger("info")
    log.info("called", value=value)
    log.info(str(value))
    assert len(text := capsys.readouterr().err) > 0
    assert "hunter2" not in text
    assert "***" in text


def test_a_secret_in_a_traceback_is_redacted(capsys: Capture) -> None:
    make_logger("info").error("failed", exc_info=ValueError("redis://:hunter2@h"))
    (record,) = records(capsys)
    assert str(record["exception"]).endswith("ValueError: redis://:***@h")


@pytest.mark.parametrize(
    "text",
    [
        "https://h/a?b=c",
        "sip:a@b;transport=udp",
        "a: b@c",
        "http://h:80/x@y",
        "Bearer of news",
        "basic information",
        "x=1&y=2",
    ],
)
def test_a_text_without_secrets_is_kept(text: str) -> None:
    assert redact_text(text) == text


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("", ""),
        ("redis://h:1/0", "redis://h:1/0"),
        ("redis://:p@h", "redis://:***@h"),
        ("redis://me:p/a@b:c@h:1/0", "redis://me:***@h:1/0"),
        (
            "redis+sentinel://:p@a:1,b:2/s/0?sentinel_password=q",
            "redis+sentinel://:***@a:1,b:2/s/0?sentinel_password=***",
        ),
        ("unix:///s?password=p@q&db=1", "unix:///s?password=***&db=1"),
    ],
)
def test_a_url_is_shown_without_its_password(url: str, shown: str) -> None:
    assert redact_url(url) == shown


@pytest.mark.parametrize("part", ["a", "://a:", "?a", "&password", "Bearer ", "a://", "=", "token"])
def test_long_texts_of_strangers_are_redacted_in_linear_time(part: str) -> None:
    began = time.process_time()
    redact_text(part * (400_000 // len(part)) + "=://")
    assert time.process_time() - began < 1.0


def test_a_value_that_contains_itself_ends(capsys: Capture) -> None:
    loop: list[object] = []
    loop.append(loop)
    make_logger("info").info("looped", loop=loop)
    assert records(capsys)[0]["loop"] == [[[[[["…"]]]]]]


@pytest.fixture
def libraries() -> Iterator[None]:
    """The libraries' loggers as they were, whatever a test does with them."""
    names = [*LIBRARIES, "uvicorn.access"]
    kept = [(one, one.handlers, one.propagate, one.level) for one in map(logging.getLogger, names)]
    yield
    for one, handlers, propagate, level in kept:
        one.handlers, one.propagate = handlers, propagate
        one.setLevel(level)


@pytest.mark.usefixtures("libraries")
@pytest.mark.parametrize("name", ["uvicorn", "uvicorn.error", "taskiq", "taskiq.receiver", "apscheduler.scheduler"])
def test_what_a_library_logs_has_our_form_and_comes_once(capsys: Capture, name: str) -> None:
    capture_stdlib(make_logger("info").bind(worker="w-1"), "info")
    library = logging.getLogger(name)
    library.debug("quiet")
    library.info("listening on %s", "redis://:hunter2@h")
    library.critical("gone")
    first, second = records(capsys)
    del first["timestamp"]
    assert first == {"event": "listening on redis://:***@h", "level": "info", "logger": name, "worker": "w-1"}
    assert (second["event"], second["level"]) == ("gone", "error")


@pytest.mark.usefixtures("libraries")
def test_what_a_library_caught_comes_with_its_traceback(capsys: Capture) -> None:
    capture_stdlib(make_logger("info"), "info")
    logging.getLogger("taskiq").error("task failed", exc_info=ValueError("redis://:hunter2@h"))
    (record,) = records(capsys)
    assert record["level"] == "error"
    assert "ValueError: redis://:***@h" in str(record["exception"])


@pytest.mark.usefixtures("libraries")
def test_a_threshold_holds_for_libraries_too(capsys: Capture) -> None:
    threshold = Threshold("warning")
    capture_stdlib(make_logger(threshold), threshold)
    library = logging.getLogger("apscheduler")
    library.info("before")
    threshold.level = "debug"
    library.debug("after")
    assert [record["event"] for record in records(capsys)] == ["after"]


@pytest.mark.usefixtures("libraries")
@pytest.mark.parametrize(("access", "events"), [(False, []), (True, ["GET /?token=***"])])
def test_requests_are_logged_only_when_asked_for(capsys: Capture, access: bool, events: list[str]) -> None:
    capture_stdlib(make_logger("info"), "info", access=access)
    logger = logging.getLogger("uvicorn.access")
    logger.info("GET %s", "/?token=hunter2")
    assert [record["event"] for record in records(capsys)] == events
    assert logger.hasHandlers() == access


@pytest.mark.usefixtures("libraries")
def test_a_record_that_cannot_be_formatted_stops_nobody(capsys: Capture, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logging, "raiseExceptions", False)
    capture_stdlib(make_logger("info"), "info")
    logging.getLogger("taskiq").info("%d", "no number")
    logging.getLogger("taskiq").info("next")
    assert [record["event"] for record in records(capsys)] == ["next"]


def test_the_loggers_can_be_given_back() -> None:
    library = logging.getLogger("uvicorn")
    before = (library.handlers, library.propagate, library.level)
    undo = capture_stdlib(make_logger("info"), "info")
    assert not library.propagate
    undo()
    assert (library.handlers, library.propagate, library.level) == before


class Gone(io.StringIO):
    """A terminal that has been closed."""

    def write(self, _: str) -> int:
        """Fail as the system does."""
        raise BrokenPipeError


def test_a_terminal_that_has_gone_stops_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stderr", Gone())
    make_logger("info").info("nobody_reads")
