"""Who is in a call, from a file that scripts write: real files, a clock moved by hand."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from resyncctl.inventory.busy import MAX_FILE, BusyFile
from resyncctl.rollout.model import Busy
from tests import virtual_time

IDLE_FOR = 5.0
Write = Callable[[str], None]


class Clock:
    """Stands at `now` until a test moves it."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "busy"


def opened(path: Path, clock: Clock) -> BusyFile:
    return BusyFile(path, idle_for=IDLE_FOR, clock=clock)


def state(source: BusyFile, clock: Clock, *lines: str) -> Busy:
    return source.state(lines, now=clock.now)


def test_a_line_in_the_file_is_busy_and_others_are_idle(path: Path, clock: Clock) -> None:
    path.write_text("1000@pbx\n")
    source = opened(path, clock)
    assert state(source, clock, "1000@pbx") is Busy.BUSY
    assert state(source, clock, "1001@pbx") is Busy.IDLE
    assert state(source, clock, "1000@other") is Busy.IDLE
    assert source.idle_at(["1000@pbx"], now=clock.now) is None
    assert source.idle_at(["1001@pbx"], now=clock.now) == 1000.0


@pytest.mark.parametrize(
    ("entry", "line", "busy"),
    [
        ("1000", "1000@pbx", Busy.BUSY),  # a bare user is that user on every host
        ("1000", "1000", Busy.BUSY),
        ("1000@pbx", "1000", Busy.BUSY),  # a phone known by its bare user only may be that one
        ("1000@pbx emergency", "1000", Busy.EMERGENCY),
        ("100", "1000@pbx", Busy.IDLE),
        ("sip:1000@PBX", "1000@pbx", Busy.BUSY),
        ("<sip:1000@pbx>;x=1", "1000@pbx", Busy.BUSY),
        ("  1000@pbx  ", "1000@pbx", Busy.BUSY),
        ("1000@pbx EMERGENCY", "1000@pbx", Busy.EMERGENCY),
        ("1000 emergency", "1000@pbx", Busy.EMERGENCY),
        ("1000@pbx ringing", "1000@pbx", Busy.BUSY),
        ("# 1000@pbx", "1000@pbx", Busy.IDLE),
        ("#1000@pbx", "1000@pbx", Busy.IDLE),
        ("", "1000@pbx", Busy.IDLE),
        ("\ufeff1000@pbx", "1000@pbx", Busy.BUSY),
        ("1000@pbx\n\n# and\r\n1001@pbx\r\n", "1001@pbx", Busy.BUSY),
        ("1000@pbx emergency\n1000@pbx", "1000@pbx", Busy.EMERGENCY),  # two calls on one line
        ("1000@pbx\n1000@pbx emergency", "1000@pbx", Busy.EMERGENCY),
        ("1000@pbx\n1000 emergency", "1000@pbx", Busy.EMERGENCY),
    ],
)
def test_an_entry_is_an_aor_or_a_user_and_perhaps_an_emergency(
    path: Path, clock: Clock, entry: str, line: str, busy: Busy
) -> None:
    path.write_text(entry, encoding="utf-8")
    assert state(opened(path, clock), clock, line) is busy


def test_a_phone_is_busy_when_any_of_its_lines_is(path: Path, clock: Clock) -> None:
    path.write_text("1002@pbx\n1003@pbx emergency\n")
    source = opened(path, clock)
    assert state(source, clock, "1000@pbx", "1001@pbx", "1002@pbx") is Busy.BUSY
    assert state(source, clock, "1002@pbx", "1003@pbx") is Busy.EMERGENCY
    assert state(source, clock, "1000@pbx", "1001@pbx") is Busy.IDLE
    assert source.idle_at(["1000@pbx", "1002@pbx"], now=clock.now) is None


def test_a_line_that_leaves_the_file_is_idle_some_seconds_later(path: Path, clock: Clock) -> None:
    path.write_text("1000@pbx\n")
    source = opened(path, clock)
    clock.now = 1010.0
    path.write_text("1001@pbx\n")
    source.refresh()
    assert state(source, clock, "1000@pbx") is Busy.BUSY
    assert source.idle_at(["1000@pbx"], now=clock.now) == 1015.0
    clock.now = 1014.999
    assert state(source, clock, "1000@pbx") is Busy.BUSY
    clock.now = 1015.0
    assert state(source, clock, "1000@pbx") is Busy.IDLE
    assert source.idle_at(["1000@pbx"], now=1020.0) == 1020.0


def test_the_line_that_left_last_decides_when_a_phone_is_idle(path: Path, clock: Clock) -> None:
    path.write_text("1000\n1001\n")
    source = opened(path, clock)
    path.write_text("1001\n")
    source.refresh()
    clock.now = 1003.0
    path.write_text("")
    source.refresh()
    assert source.idle_at(["1000@pbx", "1001@pbx"], now=clock.now) == 1008.0


def test_a_line_that_comes_back_is_busy_again(path: Path, clock: Clock) -> None:
    path.write_text("1000\n")
    source = opened(path, clock)
    for text in ("", "1000\n"):
        clock.now += 1
        path.write_text(text)
        source.refresh()
    clock.now += 100
    assert state(source, clock, "1000") is Busy.BUSY


def test_a_file_truncated_and_written_again_interrupts_no_call(path: Path, clock: Clock) -> None:
    path.write_text("1000\n")
    source = opened(path, clock)
    path.write_text("")  # seen between `>` and the first line
    source.refresh()
    assert state(source, clock, "1000") is Busy.BUSY
    path.write_text("1000\n")
    source.refresh()
    assert state(source, clock, "1000") is Busy.BUSY
    assert source.idle_at(["1000"], now=clock.now) is None


def test_a_file_replaced_by_rename_is_read(path: Path, clock: Clock) -> None:
    path.write_text("1000\n")
    source = opened(path, clock)
    new = path.with_name("busy.new")
    new.write_text("1001\n")
    new.replace(path)
    source.refresh()
    assert state(source, clock, "1001") is Busy.BUSY


def test_the_version_grows_only_when_something_changed(path: Path, clock: Clock) -> None:
    path.write_text("1000\n")
    source = opened(path, clock)
    versions = [source.version]
    for text in ("1000\n", "# a comment\n1000\n", "1000 emergency\n", "1001\n", "1001\n"):
        path.write_text(text)
        source.refresh()
        versions.append(source.version)
    assert versions == [1, 1, 1, 2, 3, 3]


def test_a_second_write_of_the_same_size_within_one_clock_tick_is_seen(path: Path, clock: Clock) -> None:
    path.write_text("1000\n")
    stamp = path.stat().st_mtime_ns + 3_600_000_000_000  # not yet aged, however slow this test is
    os.utime(path, ns=(stamp, stamp))
    source = opened(path, clock)
    path.write_text("1001\n")
    os.utime(path, ns=(stamp, stamp))
    source.refresh()
    assert state(source, clock, "1001") is Busy.BUSY


def test_a_file_that_has_not_changed_for_a_while_is_not_read_again(path: Path, clock: Clock) -> None:
    path.write_text("1000\n")
    stamp = path.stat().st_mtime_ns - 3_600_000_000_000
    os.utime(path, ns=(stamp, stamp))
    source = opened(path, clock)
    path.write_text("1001\n")  # a change that leaves size, time and inode as they are shows that nobody reads
    os.utime(path, ns=(stamp, stamp))
    source.refresh()
    assert state(source, clock, "1000") is Busy.BUSY
    os.utime(path, ns=(stamp + 1, stamp + 1))
    source.refresh()
    assert state(source, clock, "1001") is Busy.BUSY


def test_a_file_missing_at_the_start_makes_all_unknown_and_is_said_once(path: Path, clock: Clock) -> None:
    source = opened(path, clock)
    assert source.trouble == f"{path}: No such file or directory"
    assert state(source, clock, "1000") is Busy.UNKNOWN
    assert source.idle_at(["1000"], now=clock.now) is None
    version = source.version
    clock.now += 100
    source.refresh()
    assert source.version == version


def test_a_file_that_appears_is_read_and_ends_the_trouble(path: Path, clock: Clock) -> None:
    source = opened(path, clock)
    version = source.version
    path.write_text("1000\n")
    source.refresh()
    assert source.trouble == ""
    assert source.version == version + 1
    assert state(source, clock, "1000") is Busy.BUSY
    assert state(source, clock, "1001") is Busy.IDLE


def test_an_empty_file_that_appears_changes_unknown_to_idle(path: Path, clock: Clock) -> None:
    source = opened(path, clock)
    version = source.version
    path.write_text("")
    source.refresh()
    assert source.version == version + 1
    assert state(source, clock, "1000") is Busy.IDLE


def test_a_file_missing_for_less_than_a_second_keeps_what_is_known(path: Path, clock: Clock) -> None:
    path.write_text("1000\n")
    source = opened(path, clock)
    path.unlink()
    for now in (1010.0, 1010.5, 1010.99):
        clock.now = now
        source.refresh()
        assert source.trouble == ""
        assert state(source, clock, "1000") is Busy.BUSY
        assert state(source, clock, "1001") is Busy.IDLE
    path.write_text("1001\n")
    clock.now = 1011.5
    source.refresh()
    assert state(source, clock, "1001") is Busy.BUSY


def test_a_file_missing_for_a_second_makes_all_unknown(path: Path, clock: Clock) -> None:
    path.write_text("1000\n")
    source = opened(path, clock)
    version = source.version
    path.unlink()
    source.refresh()
    clock.now = 1001.0
    source.refresh()
    assert source.trouble == f"{path}: No such file or directory"
    assert source.version == version + 1
    assert state(source, clock, "1000") is Busy.UNKNOWN
    assert source.idle_at(["1000"], now=clock.now) is None


def test_the_second_of_grace_begins_anew_when_the_file_is_back(path: Path, clock: Clock) -> None:
    path.write_text("1000\n")
    source = opened(path, clock)
    for _ in range(5):
        path.unlink()
        clock.now += 0.5
        source.refresh()
        path.write_text("1000\n")
        clock.now += 0.6
        source.refresh()
    assert source.trouble == ""


def test_a_line_that_was_busy_when_the_file_was_lost_gets_its_rest_when_it_is_back(path: Path, clock: Clock) -> None:
    path.write_text("1000\n")
    source = opened(path, clock)
    path.unlink()
    source.refresh()
    clock.now = 1001.0
    source.refresh()
    path.write_text("")
    clock.now = 1002.0
    source.refresh()
    assert state(source, clock, "1000") is Busy.BUSY
    assert source.idle_at(["1000"], now=clock.now) == 1006.0


def test_a_directory_in_its_place_is_unknown(path: Path, clock: Clock) -> None:
    path.mkdir()
    source = opened(path, clock)
    assert source.trouble == f"{path}: not a regular file"
    assert state(source, clock, "1000") is Busy.UNKNOWN


def test_a_pipe_is_refused_and_not_waited_for(path: Path, clock: Clock) -> None:
    os.mkfifo(path)
    assert opened(path, clock).trouble == f"{path}: not a regular file"


def test_a_file_of_more_than_sixteen_megabytes_is_refused(path: Path, clock: Clock) -> None:
    with path.open("wb") as file:
        file.truncate(MAX_FILE + 1)
    assert opened(path, clock).trouble == f"{path}: larger than 16777216 bytes"


def test_utf_16_is_unknown_and_not_idle(path: Path, clock: Clock) -> None:
    path.write_text("1000\n", encoding="utf-16")
    source = opened(path, clock)
    assert source.trouble == f"{path}: holds NUL bytes; write it as UTF-8"
    assert state(source, clock, "1000") is Busy.UNKNOWN


def test_a_line_that_is_not_utf_8_spoils_no_other(path: Path, clock: Clock) -> None:
    path.write_bytes(b"# B\xfcro\n1000\n")
    assert state(opened(path, clock), clock, "1000") is Busy.BUSY


def test_following_looks_five_times_a_second_until_cancelled(path: Path) -> None:
    async def story() -> None:
        source = BusyFile(path, idle_for=IDLE_FOR, clock=asyncio.get_running_loop().time)
        follower = asyncio.create_task(source.follow())
        await asyncio.sleep(0.1)
        Path.write_text(path, "1000\n")
        assert source.trouble
        await asyncio.sleep(0.15)
        assert source.state(["1000"], now=0.25) is Busy.BUSY
        follower.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await follower

    virtual_time.run(story())
