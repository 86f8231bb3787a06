"""Phone lists that cannot be used: every bad row with its line, exit status 2, nothing sent or stored."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.cli.command import HEADER, Ear, Resyncctl
from tests.cli.conftest import Ask


def test_all_bad_rows_are_reported_together_with_their_lines(ask: Ask, resyncctl: Resyncctl, ear: Ear) -> None:
    good = ear.rows()[1]
    phones = resyncctl.file(
        "bad.csv", HEADER, good, "sip:2@x,garbage,,", "bob,,,", good, "sip:3@x,,,,too,many", '"a\nb",,,', good
    )
    answer = ask("run", phones, "--now")
    assert answer.status == 2
    assert "4 rows cannot be used, nothing was sent" in answer.complaint
    assert "line 3: contact: not a sip: or sips: URI: 'garbage'" in answer.complaint
    assert "line 4: aor 'bob' is not user@host" in answer.complaint
    assert "line 6: 6 fields, the header has 4" in answer.complaint
    assert "line 7: aor holds a control character" in answer.complaint
    assert ear.heard() == []
    assert resyncctl.has_stored_nothing


def test_unknown_vendors_are_reported_with_their_lines(ask: Ask, resyncctl: Resyncctl, ear: Ear) -> None:
    good = ear.rows()[1]
    answer = ask("run", resyncctl.file("v.csv", HEADER, f"{good}nokia", good, f"{good}siemens"), "--now")
    assert answer.status == 2
    assert "line 2: unknown vendor 'nokia'; `resyncctl vendors list` shows the known ones" in answer.complaint
    assert "line 4: unknown vendor 'siemens'" in answer.complaint
    assert ear.heard() == []
    assert resyncctl.has_stored_nothing


@pytest.mark.parametrize(
    ("lines", "complaint"),
    [
        ([], "line 1: neither a column aor nor a column contact"),
        (["name,phone", "a,b"], "line 1: neither a column aor nor a column contact"),
        (["aor,aor", "a@b,c@d"], "line 1: the column aor is there twice"),
        (["aor,contakt", "a@b,"], "line 1: unknown column 'contakt'; did you mean contact?"),
        (["aor"], "no phones behind the header row"),
        (["aor", "1@x\x00"], "line 2: "),
    ],
)
def test_a_list_without_phones_says_what_is_missing(
    ask: Ask, resyncctl: Resyncctl, lines: list[str], complaint: str
) -> None:
    answer = ask("plan", resyncctl.file("list.csv", *lines))
    assert answer.status == 2
    assert complaint in answer.complaint


def test_a_list_that_is_no_text_is_refused(ask: Ask, tmp_path: Path) -> None:
    (tmp_path / "list.csv").write_bytes(b"aor\n\xff\xfe\x00\n")
    answer = ask("plan", tmp_path / "list.csv")
    assert answer.status == 2
    assert "not UTF-8 text" in answer.complaint


@pytest.mark.parametrize(
    ("name", "complaint"),
    [("nowhere.csv", "cannot be read (No such file or directory)"), (".", "cannot be read (Is a directory)")],
)
def test_a_list_that_cannot_be_read_is_named(ask: Ask, tmp_path: Path, name: str, complaint: str) -> None:
    answer = ask("run", tmp_path / name)
    assert answer.status == 2
    assert f"{tmp_path / name}: {complaint}; give a CSV file of phones" in answer.complaint


def test_a_column_name_that_looks_like_markup_is_shown_as_it_is(ask: Ask, resyncctl: Resyncctl) -> None:
    answer = ask("plan", resyncctl.file("list.csv", "contact,[/red]", "sip:1@[fd00::1],x"))
    assert answer.status == 0
    assert "columns without meaning are ignored: [/red]" in answer.out


def test_the_address_of_a_skipped_phone_is_shown_whole(ask: Ask, resyncctl: Resyncctl) -> None:
    answer = ask("plan", resyncctl.file("list.csv", "contact,DBID_RESYNC_FROM_SIP", "sip:1@[fd00::1],2"))
    assert answer.status == 0
    assert "sip:1@[fd00::1]" in answer.out


@pytest.mark.slow
def test_one_bad_row_among_a_million_is_found_in_little_memory(resyncctl: Resyncctl) -> None:
    block = "".join(f"sip:{n}@x.invalid,sip:{n}@127.0.0.1:9,,\n" for n in range(1000))
    phones = resyncctl.directory / "million.csv"
    with phones.open("w") as file:
        file.write(f"{HEADER}\n")
        file.writelines(block for _ in range(900))
        file.write("sip:1@x.invalid,nonsense,,\n")
        file.writelines(block for _ in range(100))
    answer = resyncctl.measured("run", phones, within=120)
    assert answer.status == 2
    assert "1 row cannot be used, nothing was sent: line 900002: contact: " in answer.complaint
    assert answer.peak < 400_000_000
    assert resyncctl.has_stored_nothing
