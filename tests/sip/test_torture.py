"""The torture messages of RFC 4475, and which of our readers refuses each of them."""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Final, NamedTuple

import pytest

from resyncctl.errors import SipParseError
from resyncctl.sip.digest import parse_authorization
from resyncctl.sip.headers import NameAddr, Via, split_values
from resyncctl.sip.message import Message, Request, Response, check_request, parse
from resyncctl.sip.transaction import Timers
from resyncctl.sip.uac import Reply, UserAgentClient
from resyncctl.sip.uri import Uri

FILE: Final = Path(__file__).with_name("rfc4475.txt")
SOURCE: Final = ("192.0.2.77", 5077)


class Case(NamedTuple):
    """One message. Readers that are not named in `refused` accept it."""

    name: str
    answer: int
    """The status of what our user agent answers; 0 = nothing."""
    refused: dict[str, str]
    """Reader (`parse`, `check_request`, `vias`, `from`, `to`, `cseq`, `call_id`, `uri`, `contact`) and words of its error."""
    note: str = ""
    """Where the verdict differs from the RFC's advice: why."""


IGNORED: Final = "we never act on this header of a request, so it is not judged"

CASES: Final = [
    # 3.1.1 valid messages
    Case("wsinv", 405, {}),
    Case("intmeth", 405, {}),
    Case("esc01", 405, {}),
    Case("escnull", 405, {}),
    Case("esc02", 405, {}),
    Case("lwsdisp", 200, {}),
    Case("longreq", 405, {}),
    Case("dblreq", 405, {}),
    Case("semiuri", 200, {}),
    Case("transports", 200, {}),
    Case("mpart01", 405, {}),
    Case("unreason", 0, {}),
    Case("noreason", 0, {}),
    # 3.1.2 invalid messages
    Case(
        "badinv01",
        0,
        {"check_request": "bad parameter name", "vias": "bad parameter name", "contact": "bad parameter name"},
        "the RFC wants 400; without a Via that can be read there is no branch to answer to",
    ),
    Case("clerr", 0, {"parse": "Content-Length is 9999, but 5 bytes follow"}, "RFC 3261 18.3 wants 400; see ncl"),
    Case(
        "ncl",
        0,
        {"parse": "Content-Length is not a number"},
        "the RFC wants 400 and the connection closed; what is not framed is not answered, a stream's Framer closes",
    ),
    Case("scalar02", 400, {"check_request": "CSeq number", "cseq": "CSeq number"}),
    Case("scalarlg", 0, {"cseq": "CSeq number"}, "Retry-After is read only when the response is ours"),
    Case("quotbal", 400, {"check_request": "unbalanced quote", "to": "unbalanced quote"}),
    Case("ltgtruri", 0, {"parse": "not a Request-URI"}, "the RFC wants 400; see lwsstart"),
    Case("lwsruri", 0, {"parse": "not a request line"}, "the RFC wants 400; see lwsstart"),
    Case(
        "lwsstart",
        0,
        {"parse": "not a request line"},
        "the RFC allows to take the spaces as one, or 400; we answer nobody whose first line is not SIP",
    ),
    Case("trws", 0, {"parse": "not a request line"}, "as lwsstart"),
    Case(
        "escruri",
        405,
        {},
        "the RFC wants 400, or the header fields ignored: we ignore them, as Uri keeps them apart from the rest",
    ),
    Case("baddate", 405, {}, IGNORED),
    Case("regbadct", 405, {"contact": "needs angle brackets"}),
    Case("badaspec", 400, {"check_request": "white space", "to": "white space"}),
    Case("baddn", 400, {"check_request": "needs quotes", "from": "needs quotes", "to": "needs quotes"}),
    Case(
        "badvers",
        0,
        {"parse": "version 'SIP/7.0' instead of SIP/2.0"},
        "the RFC wants 505; of another version we could not know where its Via is",
    ),
    Case("mismatch01", 400, {"check_request": "CSeq is for INVITE, the request is OPTIONS"}),
    Case(
        "mismatch02",
        400,
        {"check_request": "CSeq is for INVITE, the request is NEWMETHOD"},
        "the RFC allows 501 too",
    ),
    Case("bigcode", 0, {"parse": "not a status line"}),
    # 3.2 transaction layer
    Case("badbranch", 200, {}, "the branch names no transaction for us: the answer is stateless (RFC 3261 8.2.7)"),
    # 3.3 application layer
    Case(
        "insuf",
        400,
        {
            "check_request": "no From header",
            "from": "no From header",
            "to": "no To header",
            "call_id": "no Call-ID header",
        },
    ),
    Case("unkscm", 416, {"uri": "not a sip: or sips: URI"}),
    Case("novelsc", 416, {"uri": "not a sip: or sips: URI"}),
    Case("unksm2", 405, {"contact": "not a sip: or sips: URI"}),
    Case("bext01", 420, {}),
    Case("invut", 405, {}, "415 comes behind 405 (RFC 3261 8.2)"),
    Case("regaut01", 405, {}, IGNORED),
    Case(
        "multi01",
        400,
        {
            "check_request": "more than one",
            "from": "more than one From header",
            "to": "more than one To header",
            "cseq": "more than one CSeq header",
            "call_id": "more than one Call-ID header",
        },
    ),
    Case("mcl01", 0, {"parse": "two Content-Length headers that differ"}, "the RFC wants 400; see ncl"),
    Case("bcast", 0, {}, "no branch of ours, so it is dropped and nothing is sent to the second Via"),
    Case("zeromf", 200, {}),
    Case("cparam01", 405, {}),
    Case("cparam02", 405, {}),
    Case("regescrt", 405, {}),
    Case("sdp01", 405, {}, "406 comes behind 405 (RFC 3261 8.2)"),
    Case("inv2543", 405, {}),
]


@cache
def messages() -> dict[str, bytes]:
    """Read the file: name to octets."""
    found = {}
    for section in FILE.read_text(encoding="utf-8").removesuffix("\n").split("\n#### ")[1:]:
        title, _, text = section.partition("\n")
        text = re.sub(r"<repeat count=(\d+)>(.*?)</repeat>", lambda m: m[2] * int(m[1]), text, flags=re.DOTALL)
        octets = f"{text}\n".replace("\n", "\r\n").encode()
        found[title.partition(":")[0]] = re.sub(rb"<hex>(.*?)</hex>", lambda m: bytes.fromhex(m[1].decode()), octets)
    return found


def request(name: str) -> Request:
    message = parse(messages()[name])
    assert isinstance(message, Request)
    return message


def response(name: str) -> Response:
    message = parse(messages()[name])
    assert isinstance(message, Response)
    return message


def contacts(message: Message) -> list[Uri]:
    return [Uri.parse(NameAddr.parse(each).uri) for line in message.all("Contact") for each in split_values(line)]


def readers(message: Message) -> dict[str, Callable[[], object]]:
    """Everything that reads a parsed message further, by the names that the table uses."""
    found: dict[str, Callable[[], object]] = {
        "vias": lambda: message.vias,
        "from": lambda: message.from_,
        "to": lambda: message.to,
        "cseq": lambda: message.cseq,
        "call_id": lambda: message.call_id,
        "contact": lambda: contacts(message),
    }
    if isinstance(message, Request):
        found |= {"check_request": lambda: check_request(message), "uri": lambda: Uri.parse(message.uri)}
    return found


def refusals(data: bytes) -> dict[str, str]:
    try:
        message = parse(data)
    except SipParseError as error:
        return {"parse": str(error)}
    assert isinstance(message, Message)
    found = {}
    for name, read in readers(message).items():
        try:
            read()
        except SipParseError as error:
            found[name] = str(error)
    return found


def test_table_has_every_message_once() -> None:
    assert [case.name for case in CASES] == list(messages())
    assert len(CASES) == 49


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_message_is_refused_by_exactly_the_readers_of_the_table(case: Case) -> None:
    found = refusals(messages()[case.name])
    assert found.keys() == case.refused.keys()
    for name, words in case.refused.items():
        assert words in found[name]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_our_user_agent_answers_with_the_status_of_the_table(case: Case) -> None:
    client = UserAgentClient(timers=Timers(), new_token=lambda: "0" * 16)
    output = client.receive(messages()[case.name], SOURCE, now=0.0)
    if case.answer == 0:
        assert output is None
        return
    assert isinstance(output, Reply)
    answer = parse(output.data)
    assert isinstance(answer, Response)
    assert answer.status == case.answer


@pytest.mark.parametrize("case", [case for case in CASES if "parse" not in case.refused], ids=lambda case: case.name)
def test_message_survives_writing_and_reading(case: Case) -> None:
    message = parse(messages()[case.name])
    assert isinstance(message, Request | Response)
    assert parse(bytes(message)) == message


# What the valid messages say


def test_wsinv_is_read_through_its_white_space() -> None:
    message = request("wsinv")
    assert message.method == "INVITE"
    assert message.to == NameAddr("", "sip:vivek@chair.example.com", (("tag", "1918181833n"),))
    assert message.from_ == NameAddr(r'"J Rosenberg \\\""', "sip:jdrosen@example.com", (("tag", "98asjd8"),))
    assert str(message.cseq) == "9 INVITE"
    assert message.get("Subject") == ""
    assert message.get("NewFangledHeader") == "newfangled value continued newfangled value"
    assert message.get("UnknownHeaderWithUnusualValue") == ";;,,;;,;"
    assert message.vias == [
        Via("UDP", "192.0.2.2", None, (("branch", "390skdjuw"),)),
        Via("TCP", "spindle.example.com", None, (("branch", "z9hG4bK9ikj8"),)),
        Via("UDP", "192.168.255.111", None, (("branch", "z9hG4bK30239"),)),
    ]
    assert NameAddr.parse(message.require("Contact")).parameters == (
        ("newparam", "newvalue"),
        ("secondparam", None),
        ("q", "0.33"),
    )
    assert message.body == b"v=0\r\ns=-\r\n"


def test_intmeth_keeps_unusual_characters() -> None:
    message = request("intmeth")
    assert message.method == "!interesting-Method0123456789_*+`.%indeed'~"
    uri = Uri.parse(message.uri)
    assert uri.user == "1_unusual.URI~(to-be!sure)&isn't+it$/crazy?,/;;*"
    assert uri.password == "&it+has=1,weird!*pas$wo~d_too.(doesn't-it)"
    assert message.to.display == '"BEL:\\\x07 NUL:\\\x00 DEL:\\\x7f"'
    assert message.from_.display == "token1~` token2'+_ token3*%!.-"
    assert message.from_.tag == "_token~1'+`*%!-."
    assert message.top_via.branch == "z9hG4bK-.!%66*_+`'~"


def test_esc01_escapes_are_kept_as_written() -> None:
    assert Uri.parse(request("esc01").uri) == Uri("sip", "sips%3Auser%40example.com", None, "example.net", None)
    assert contacts(request("esc01")) == [
        Uri("sip", "cal%6Cer", None, "host5.example.net", None, (("%6C%72", None), ("n%61me", "v%61lue%25%34%31")))
    ]


def test_escnull_has_two_different_contacts() -> None:
    assert [uri.user for uri in contacts(request("escnull"))] == ["%00", "%00%00"]


def test_esc02_method_is_not_unescaped_and_its_odd_header_is_no_contact() -> None:
    message = request("esc02")
    assert message.method == "RE%47IST%45R"
    assert [uri.user for uri in contacts(message)] == ["alias1", "alias3"]
    assert message.get("C%6Fntact") == "<sip:alias2@host2.example.com>"


def test_lwsdisp_display_name_ends_at_the_bracket() -> None:
    assert request("lwsdisp").from_ == NameAddr("caller", "sip:caller@example.com", (("tag", "323"),))


def test_longreq_is_read_whole() -> None:
    message = request("longreq")
    assert len(messages()["longreq"]) == 3522
    assert len(message.vias) == 34
    assert message.vias[33].branch == "very" + "long" * 50 + "branchvalue"
    assert Uri.parse(message.to.uri).port == 6000


def test_dblreq_second_request_of_a_datagram_is_dropped() -> None:
    message = request("dblreq")
    assert (message.method, message.body) == ("REGISTER", b"")


def test_semiuri_semicolon_belongs_to_the_user() -> None:
    assert Uri.parse(request("semiuri").uri) == Uri("sip", "user;par=u%40example.net", None, "example.com", None)


def test_transports_unknown_ones_are_read() -> None:
    assert [via.transport for via in request("transports").vias] == ["UDP", "SCTP", "TLS", "UNKNOWN", "TCP"]


def test_mpart01_body_is_kept_octet_for_octet() -> None:
    assert b"\r\n\r\n0\x82\x01R\x00\r\n\r\n\xff\r\n--7a9" in request("mpart01").body


def test_unreason_reason_is_text() -> None:
    assert response("unreason").reason == "= 2**3 * 5**2 но сто девяносто девять - простое"


def test_noreason_reason_is_empty() -> None:
    assert (response("noreason").status, response("noreason").reason) == (100, "")


# What the odd messages say


def test_escruri_header_fields_stay_apart_from_the_uri() -> None:
    assert Uri.parse(request("escruri").uri).headers == (("Route", "%3Csip:example.com%3E"),)


def test_bext01_answer_names_what_is_not_supported() -> None:
    client = UserAgentClient(timers=Timers(), new_token=lambda: "0" * 16)
    output = client.receive(messages()["bext01"], SOURCE, now=0.0)
    assert isinstance(output, Reply)
    assert b"\r\nUnsupported: nothingSupportsThis, nothingSupportsThisEither\r\n" in output.data


def test_regaut01_scheme_is_passed_over() -> None:
    assert parse_authorization(request("regaut01").require("Authorization")) is None


def test_cparam01_parameter_belongs_to_the_header_and_cparam02_to_the_uri() -> None:
    outside, inside = (NameAddr.parse(request(name).require("Contact")) for name in ("cparam01", "cparam02"))
    assert outside == NameAddr("", "sip:+19725552222@gw1.example.net", (("unknownparam", None),))
    assert inside == NameAddr("", "sip:+19725552222@gw1.example.net;unknownparam", ())


def test_regescrt_header_field_belongs_to_the_uri() -> None:
    assert contacts(request("regescrt"))[0].headers == (("Route", "%3Csip:sip.example.com%3E"),)


def test_inv2543_has_neither_branch_nor_tag() -> None:
    message = request("inv2543")
    assert (message.top_via.branch, message.from_.tag) == ("", "")
    assert message.to.parameters == (("user", "phone"),)
