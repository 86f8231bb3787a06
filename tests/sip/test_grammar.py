"""Lexical rules: quoting, splitting, numbers, parameters."""

from __future__ import annotations

import pytest

from resyncctl.errors import SipError, SipParseError
from resyncctl.sip.grammar import (
    MAX_INTEGER,
    Parameters,
    end_of_quoted,
    is_token,
    parameter,
    parse_integer,
    parse_parameters,
    printable,
    require_clean,
    split_outside_quotes,
)


@pytest.mark.parametrize(
    ("text", "pieces"),
    [
        ("", [""]),
        ("a", ["a"]),
        ("a,b,,c", ["a", "b", "", "c"]),
        ('"a,b",c', ['"a,b"', "c"]),
        (r'"a\",b",c', [r'"a\",b"', "c"]),
        (r'"\\",c', [r'"\\"', "c"]),
        ("<a,b>,c", ["<a,b>", "c"]),
        ('<a"b>,c', ['<a"b>', "c"]),
        ('"<",c', ['"<"', "c"]),
        ('x="a",y="b,"', ['x="a"', 'y="b,"']),
        ("<>,a>b", ["<>", "a>b"]),
    ],
)
def test_only_separators_outside_quotes_and_brackets_split(text: str, pieces: list[str]) -> None:
    assert split_outside_quotes(text, ",") == pieces


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('"', "quote"),
        ('a"b,c', "quote"),
        (r'"a\"', "quote"),
        ('"\\', "quote"),
        ("<a,b", "bracket"),
        ('"<" <', "bracket"),
    ],
)
def test_what_is_opened_must_be_closed(text: str, words: str) -> None:
    with pytest.raises(SipParseError, match=f"unbalanced .*{words}"):
        split_outside_quotes(text, ",")


def test_end_of_quoted_is_behind_the_closing_quote() -> None:
    assert end_of_quoted('x"a\\"b"c', 1) == 7


@pytest.mark.parametrize("text", ["a\r\nb", "a\nb", "\r", "\x00", "\x1b[2J", "\x7f"])
def test_control_characters_are_refused_by_name(text: str) -> None:
    with pytest.raises(SipError, match="the display name holds a control character"):
        require_clean(text, "the display name")


def test_text_that_utf_8_cannot_carry_is_refused() -> None:
    assert require_clean("caf\xe9 \t\udce9", "the header X") == "caf\xe9 \t\udce9"
    with pytest.raises(SipError, match="the header X holds a lone surrogate"):
        require_clean("\ud800", "the header X")


def test_text_of_a_peer_is_made_printable_and_short() -> None:
    assert printable("No\x1b[2Jw\udcff caf\xe9") == "No\ufffd[2Jw\ufffd caf\xe9"
    assert printable("x" * 200) == "x" * 128


@pytest.mark.parametrize(("text", "value"), [("0", 0), ("0009", 9), ("2147483647", MAX_INTEGER), ("0000000001", 1)])
def test_number_is_read(text: str, value: int) -> None:
    assert parse_integer(text, "CSeq") == value


@pytest.mark.parametrize("text", ["", "-1", "+1", "1 ", "1_0", "0x1", "\u0661", "\xb2", "00000000001"])
def test_what_is_no_number_is_refused_by_name(text: str) -> None:
    with pytest.raises(SipParseError, match="CSeq is not a number of at most ten digits"):
        parse_integer(text, "CSeq")


def test_number_above_its_limit_is_refused() -> None:
    assert parse_integer("255", "Max-Forwards", 255) == 255
    with pytest.raises(SipParseError, match="Max-Forwards is larger than 255: '256'"):
        parse_integer("256", "Max-Forwards", 255)
    with pytest.raises(SipParseError, match="larger than 2147483647"):
        parse_integer("2147483648", "CSeq")


@pytest.mark.parametrize(
    ("text", "parameters"),
    [
        ("", ()),
        (" \t", ()),
        (";a", (("a", None),)),
        (" ; a = b ;\tC", (("a", "b"), ("C", None))),
        (';a="x;y=z";b', (("a", '"x;y=z"'), ("b", None))),
        (";a=b=c", (("a", "b=c"),)),
        (";received=2001:db8::1", (("received", "2001:db8::1"),)),
    ],
)
def test_parameters_are_kept_in_order_as_written(text: str, parameters: Parameters) -> None:
    assert parse_parameters(text) == parameters


@pytest.mark.parametrize("text", ["a", "a;b", ";", ";;a", ";a;", ";a=", ";=b", ";a b", ';"a"', ";é", ';a="'])
def test_malformed_parameters_are_refused(text: str) -> None:
    with pytest.raises(SipParseError):
        parse_parameters(text)


def test_parameter_is_found_by_any_case_and_the_first_counts() -> None:
    parameters = (("Tag", "1"), ("tag", "2"), ("lr", None))
    assert parameter(parameters, "tag") == "1"
    assert parameter(parameters, "lr") == ""
    assert parameter(parameters, "ob") is None


def test_token_is_not_empty_and_has_no_separators() -> None:
    assert is_token("check-sync.v1!%*_+`'~")
    assert not any(is_token(text) for text in ("", "a b", "a:b", 'a"', "é", "a\r", "a/b", "a@b"))
