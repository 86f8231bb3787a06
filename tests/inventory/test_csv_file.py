"""Phone lists as people and PBXs write them, and everything that can be wrong with one."""

from __future__ import annotations

import csv
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from resyncctl.errors import InputError, PhoneListError
from resyncctl.inventory.csv_file import CsvPhones
from resyncctl.inventory.phone import Phone
from resyncctl.rollout.device import FromSip, Profile

Write = Callable[[str | bytes], Path]
A1000 = Phone(aor="sip:1000@pbx", contact="sip:1000@10.0.0.1:5060")


@pytest.fixture
def write(tmp_path: Path) -> Write:
    def write_file(content: str | bytes) -> Path:
        path = tmp_path / "phones.csv"
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return path

    return write_file


def phones(path: Path) -> list[Phone]:
    return [phone for _, _, phone in CsvPhones(path).rows()]


def lines(path: Path) -> list[int]:
    return [line for line, _, _ in CsvPhones(path).rows()]


def complaint(path: Path) -> str:
    """Return the error's text with the file's name cut to PHONES."""
    with pytest.raises(InputError) as caught:
        phones(path)
    assert caught.value.exit_status == 2
    return str(caught.value).replace(str(path), "PHONES")


def bad_rows(path: Path) -> tuple[str, ...]:
    with pytest.raises(PhoneListError) as caught:
        phones(path)
    return caught.value.problems


@pytest.mark.parametrize(
    "text",
    [
        "aor,contact\nsip:1000@pbx,sip:1000@10.0.0.1:5060\n",
        "contact,aor\nsip:1000@10.0.0.1:5060,sip:1000@pbx\n",
        "aor,contact\nsip:1000@pbx,sip:1000@10.0.0.1:5060",  # no newline at the end
        "aor,contact\r\nsip:1000@pbx,sip:1000@10.0.0.1:5060\r\n",
        "aor,contact\rsip:1000@pbx,sip:1000@10.0.0.1:5060\r",
        "\ufeffaor,contact\nsip:1000@pbx,sip:1000@10.0.0.1:5060\n",
        "aor;contact\nsip:1000@pbx;sip:1000@10.0.0.1:5060\n",
        "aor\tcontact\nsip:1000@pbx\tsip:1000@10.0.0.1:5060\n",
        '"aor","contact"\n"sip:1000@pbx","sip:1000@10.0.0.1:5060"\n',
        " AOR , Contact \n sip:1000@pbx , sip:1000@10.0.0.1:5060 \n",
        "aor,contact\n\n\nsip:1000@pbx,sip:1000@10.0.0.1:5060\n\n",
        "aor,contact\n,\n , \nsip:1000@pbx,sip:1000@10.0.0.1:5060\n,\n",
        "aor,contact\nsip:1000@pbx,sip:1000@10.0.0.1:5060,,\n",
        "aor,contact,\nsip:1000@pbx,sip:1000@10.0.0.1:5060,\n",
        "aor,contact,site\nsip:1000@pbx,sip:1000@10.0.0.1:5060\n",  # a row may be short
    ],
)
def test_a_phone_list_is_read_however_it_was_saved(write: Write, text: str) -> None:
    assert phones(write(text)) == [A1000]


def test_every_column_reaches_the_phone(write: Write) -> None:
    path = write(
        "site,tags,call_id,auth_password,auth_username,instance,mac,model,vendor,user_agent,path,contact,aor,"
        "DBID_RESYNC_FROM_SIP,DBID_RANDOM_DELAY,dbid_resync_delay\n"
        'berlin,"a, b",abc@10.0.0.1,geheim,1000,<urn:uuid:AB>,00:15:65:AB:CD:EF,T46S,Yealink,Yealink SIP-T46S 66.86,'
        "<sip:edge;lr>,sip:1000@10.0.0.1,sip:1000@pbx,1,20,600\n"
    )
    assert phones(path) == [
        Phone(
            aor="sip:1000@pbx",
            contact="sip:1000@10.0.0.1",
            path="<sip:edge;lr>",
            user_agent="Yealink SIP-T46S 66.86",
            vendor="yealink",
            model="T46S",
            mac="001565abcdef",
            instance="urn:uuid:ab",
            site="berlin",
            tags="a, b",
            auth_username="1000",
            auth_password="geheim",
            call_id="abc@10.0.0.1",
            profile=Profile(FromSip.ALWAYS_REBOOT, 20.0, 600.0),
        )
    ]


def test_a_quoted_field_may_hold_the_separator_and_quotes(write: Write) -> None:
    path = write('contact,path,user_agent\nsip:1@h,"sip:a;lr,sip:b;lr","a ""good"" phone"\n')
    [phone] = phones(path)
    assert phone.path == "sip:a;lr,sip:b;lr"
    assert phone.user_agent == 'a "good" phone'


def test_parameters_of_a_contact_are_no_separator_when_the_header_has_none(write: Write) -> None:
    assert [phone.contact for phone in phones(write("contact\nsip:1@h;transport=udp\n"))] == ["sip:1@h;transport=udp"]


def test_the_row_as_text_comes_with_the_phone(write: Write) -> None:
    [(line, values, _)] = CsvPhones(write("contact,Vendor,room\nsip:1@h,YEALINK,12\n")).rows()
    assert (line, values) == (2, {"contact": "sip:1@h", "vendor": "YEALINK"})


def test_a_row_is_numbered_by_the_line_that_it_begins_at(write: Write) -> None:
    path = write('contact,note\nsip:1@h,"one\ntwo\nthree"\n\nsip:2@h,\nsip:3@h,"one\r\ntwo"\nsip:4@h,\n')
    assert lines(path) == [2, 6, 7, 9]


def test_all_bad_rows_are_reported_together_with_their_lines(write: Write) -> None:
    path = write(
        "aor,contact,mac,note\n"
        "sip:1@pbx,sip:1@h,,\n"
        "sip:2@pbx,sip:2@h,12:34,\n"
        ',,,"a note of\ntwo lines"\n'
        "\n"
        "sip:3@pbx,http://h,,\n"
        "sip:4@pbx,sip:4@h,,,surplus\n"
        "sip:5@pbx,sip:5@h,,\n"
        '"sip:6@pbx"x,sip:6@h,,\n'
        "1000,,,\n"
    )
    assert bad_rows(path) == (
        "line 3: not a MAC address: '12:34'",
        "line 4: neither aor nor contact is given",
        "line 7: contact: not a sip: or sips: URI: 'http://h'",
        "line 8: 5 fields, the header has 4; quote fields that hold the separator",
        "line 10: not CSV: ',' expected after '\"'; check its quotes",
        "line 11: aor '1000' is not user@host, and there is no contact to send to",
    )


def test_one_bad_row_reads_as_a_sentence(write: Write) -> None:
    assert complaint(write("contact,mac\nsip:1@h,zz\n")) == (
        "PHONES: 1 row cannot be used, nothing was sent: line 2: not a MAC address: 'zz'."
        " Correct the file and run the command again."
    )


def test_of_more_than_twenty_bad_rows_the_rest_is_counted(write: Write) -> None:
    path = write("contact\n" + "nonsense\n" * 1_000)
    with pytest.raises(PhoneListError) as caught:
        phones(path)
    assert caught.value.total == 1_000
    assert len(caught.value.problems) == 20
    assert caught.value.problems[19].startswith("line 21: ")
    assert str(caught.value).endswith("; and 980 more. Correct the file and run the command again.")


def test_rows_behind_a_bad_one_are_checked_and_not_handed_out(write: Write) -> None:
    rows = CsvPhones(write("contact\nsip:1@h\nbad\nsip:3@h\n")).rows()
    assert next(rows)[2].contact == "sip:1@h"
    with pytest.raises(PhoneListError, match="line 3: "):
        next(rows)


def test_an_unclosed_quote_is_reported_where_it_opens(write: Write) -> None:
    assert bad_rows(write('contact,site\nsip:1@h,a\nsip:2@h,"b\nsip:3@h,c\n')) == (
        "line 3: not CSV: unexpected end of data; check its quotes",
    )


@pytest.mark.parametrize(
    ("header", "text"),
    [
        ("aor,contct", "unknown column 'contct'; did you mean contact?"),
        ("aor,Contakt", "unknown column 'Contakt'; did you mean contact?"),
        ("aor,user agent", "unknown column 'user agent'; did you mean user_agent?"),
        ("aor,DBID_RANDOM_DELAYS", "unknown column 'DBID_RANDOM_DELAYS'; did you mean DBID_RANDOM_DELAY?"),
        ("aor,dbid_resync_form_sip", "unknown column 'dbid_resync_form_sip'; did you mean DBID_RESYNC_FROM_SIP?"),
        ("aor,aor", "the column aor is there twice"),
        ("contact,AOR,Contact", "the column contact is there twice"),
    ],
)
def test_a_header_that_looks_like_a_mistake_is_refused(write: Write, header: str, text: str) -> None:
    assert complaint(write(f"{header}\nsip:1@h,sip:1@h,\n")) == f"PHONES: line 1: {text}"


def test_columns_without_meaning_are_ignored_and_named(write: Write) -> None:
    phone_list = CsvPhones(write("room,contact,,Owner\n12,sip:1@h,x,\x01\n"))
    assert [phone for _, _, phone in phone_list.rows()] == [Phone(contact="sip:1@h")]
    assert phone_list.ignored == ("room", "Owner")


NO_HEADER = (
    "PHONES: line 1: neither a column aor nor a column contact; the first row names the columns, for example:"
    " aor,contact,user_agent,mac,site"
)


@pytest.mark.parametrize("text", ["", "\n", "sip:1000@pbx,sip:1000@10.0.0.1\n", "mac,site\n", "x" * 200_000])
def test_a_list_without_a_header_is_refused(write: Write, text: str) -> None:
    assert complaint(write(text)) == NO_HEADER


@pytest.mark.parametrize("text", ["contact\n", "contact", "contact\n\n\n", "aor,contact\n,\n,\n"])
def test_a_list_without_phones_is_refused(write: Write, text: str) -> None:
    assert complaint(write(text)) == "PHONES: no phones behind the header row"


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    text = "PHONES: cannot be read (No such file or directory); give a CSV file of phones"
    assert complaint(tmp_path / "nobody.csv") == text


def test_a_directory_is_no_phone_list(tmp_path: Path) -> None:
    assert complaint(tmp_path) == "PHONES: cannot be read (Is a directory); give a CSV file of phones"


@pytest.mark.parametrize(
    "content",
    ["contact,site\nsip:1@h,Köln\n".encode("latin-1"), "contact\nsip:1@h\n".encode("utf-16"), b"contact\nsip:\xff@h\n"],
)
def test_a_file_that_is_not_utf_8_is_refused(write: Write, content: bytes) -> None:
    text = complaint(write(content))
    assert text.startswith("PHONES: not UTF-8 text (invalid ")
    assert text.endswith("; save the file as UTF-8")


@pytest.mark.parametrize("field", ["sip:1@h\0", '"sip:1@h\r\nEvil: 1"', '"a\tb"', "\x7f"])
def test_control_characters_are_refused(write: Write, field: str) -> None:
    assert bad_rows(write(f"contact\n{field}\n")) == ("line 2: contact holds a control character or a tab",)


def test_a_field_is_at_most_2048_characters(write: Write) -> None:
    assert phones(write(f"contact,site\nsip:1@h,{'s' * 2048}\n"))[0].site == "s" * 2048
    assert bad_rows(write(f"contact,site\nsip:1@h,{'s' * 2049}\n")) == ("line 2: site is longer than 2048 characters",)


def test_a_field_without_end_does_not_fill_the_memory(write: Write) -> None:
    [problem, *_] = bad_rows(write('contact\n"' + "x" * 300_000))
    assert problem == "line 2: not CSV: field larger than field limit (131072); check its quotes"


def test_the_process_wide_limits_of_the_csv_module_stay_untouched(write: Write) -> None:
    before = csv.field_size_limit()
    phones(write("contact\nsip:1@h\n"))
    assert csv.field_size_limit() == before


def test_two_hundred_thousand_rows_are_streamed(tmp_path: Path) -> None:
    path = tmp_path / "many.csv"
    with path.open("w", encoding="utf-8") as file:
        file.write("aor,contact,mac\n")
        for number in range(200_000):
            file.write(f"sip:{number}@pbx,sip:{number}@10.0.0.1:5060,{number:012x}\n")
    blocks: list[int] = []
    count = 0
    for line, _, _ in CsvPhones(path).rows():
        count += 1
        assert line == count + 1
        if count in {10_000, 200_000}:
            blocks.append(sys.getallocatedblocks())
    assert count == 200_000
    assert blocks[1] - blocks[0] < 2_000


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=200)
@given(st.binary(max_size=200) | st.text(st.sampled_from('aorcontact,;"\n\r\tsip:1@h\0 '), max_size=200))
def test_any_bytes_give_phones_or_an_input_error(write: Write, content: bytes | str) -> None:
    path = write(content)
    try:
        found = phones(path)
    except InputError:
        return
    assert found
