"""The user agent client core against phones that answer well, badly, late, twice or not at all. Time is moved by hand."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import Final

import pytest
from hypothesis import given
from hypothesis import strategies as st

from resyncctl.sip.digest import Authorization, Credentials, parse_authorization, verify
from resyncctl.sip.hop import Hop, Transport
from resyncctl.sip.message import Request, Response, parse
from resyncctl.sip.notify import NotifyTemplate, Sender
from resyncctl.sip.transaction import Timers
from resyncctl.sip.uac import Ending, Output, Reply, Result, Transmit, UserAgentClient
from resyncctl.sip.uas import Address, reply

HERE: Final[Address] = ("192.0.2.1", 5060)
PHONE: Final[Address] = ("192.0.2.9", 5062)
TO_PHONE: Final = Hop(PHONE)
OVER_TCP: Final = Hop(PHONE, Transport.TCP)
OTHER: Final[Address] = ("192.0.2.10", 5060)
ALICE: Final = Credentials("alice", "wonderland")
TEMPLATE: Final = NotifyTemplate(
    Sender("sip:resyncctl@192.0.2.1", "sip:resyncctl@192.0.2.1:5060", "resyncctl"), "check-sync"
)
REALM: Final = 'Digest realm="phone", nonce="n1", qop="auth"'


@dataclass(frozen=True)
class Notify:
    """A NOTIFY to a phone."""

    destination: Hop = TO_PHONE
    credentials: Credentials | None = ALICE
    method: str = "NOTIFY"
    request_uri: str = "sip:1001@192.0.2.9:5062"
    body: bytes = b""

    def render(self, *, token: str, branch: str, cseq: int, extra: str) -> bytes:
        return TEMPLATE.render(
            request_uri=self.request_uri,
            to_uri="sip:1001@pbx",
            via="SIP/2.0/UDP 192.0.2.1:5060",
            token=token,
            branch=branch,
            cseq=cseq,
            extra=extra,
        )


def client(*, timers: Timers | None = None) -> UserAgentClient:
    numbers = itertools.count(1)
    return UserAgentClient(timers=timers or Timers(), new_token=lambda: f"{next(numbers):08x}")


def request(data: bytes) -> Request:
    message = parse(data)
    assert isinstance(message, Request)
    return message


def response(data: bytes, status: int, *headers: tuple[str, str]) -> bytes:
    return bytes(reply(request(data), status, source=HERE, headers=headers))


def sent(output: Output | None) -> bytes:
    assert isinstance(output, Transmit)
    assert output.destination == TO_PHONE
    return output.data


def ended(output: Output | None) -> Result:
    assert isinstance(output, Result)
    return output


def answers(data: bytes) -> dict[tuple[str, str], Authorization]:
    """The credentials of a request by header name and realm; each one proves Alice's password."""
    message = request(data)
    found = {}
    for name in ("Authorization", "Proxy-Authorization"):
        for value in message.all(name):
            authorization = parse_authorization(value)
            assert authorization is not None
            assert verify(authorization, "wonderland", method="NOTIFY")
            assert (name, authorization.realm) not in found
            found[name, authorization.realm] = authorization
    return found


# Plain answers


def test_answer_ends_the_request() -> None:
    core = client()
    data = core.start(Notify(), "phone 1", now=10.0)
    assert core.in_flight == 1
    result = core.receive(response(data, 200), PHONE, now=10.25)
    assert result == Result("phone 1", Ending.ANSWERED, 200, 10.0, 10.25, -1, "")
    assert core.in_flight == 0


def test_each_request_has_its_own_branch_tag_and_call_id() -> None:
    core = client()
    first, second = (request(core.start(Notify(), key, now=0.0)) for key in (1, 2))
    assert (first.top_via.branch, second.top_via.branch) == ("z9hG4bK000000011", "z9hG4bK000000021")
    assert first.call_id != second.call_id
    assert first.from_.tag != second.from_.tag


def test_answers_find_their_requests_in_any_order() -> None:
    core = client()
    sent_data = [core.start(Notify(), key, now=0.0) for key in range(3)]
    order = [ended(core.receive(response(sent_data[key], 200), PHONE, now=1.0)).key for key in (2, 0, 1)]
    assert order == [2, 0, 1]


def test_provisional_answer_ends_nothing() -> None:
    core = client()
    data = core.start(Notify(), 1, now=0.0)
    assert core.receive(response(data, 100), PHONE, now=0.1) is None
    assert core.receive(response(data, 180), PHONE, now=0.2) is None
    assert core.in_flight == 1
    assert core.strays == 0


@pytest.mark.parametrize("status", [302, 403, 404, 481, 489, 503, 603])
def test_other_final_answers_end_the_request_with_their_reason(status: int) -> None:
    core = client()
    data = core.start(Notify(), 1, now=0.0)
    result = ended(core.receive(response(data, status), PHONE, now=1.0))
    assert (result.ending, result.status) == (Ending.ANSWERED, status)
    assert result.detail == request_reason(status)


def request_reason(status: int) -> str:
    return {
        302: "Moved Temporarily",
        403: "Forbidden",
        404: "Not Found",
        481: "Call/Transaction Does Not Exist",
        489: "Bad Event",
        503: "Service Unavailable",
        603: "Decline",
    }[status]


def test_reason_of_a_phone_is_shown_without_control_characters() -> None:
    core = client()
    data = response(core.start(Notify(), 1, now=0.0), 486).replace(b"Busy Here", b"Bu\x1b[2Jsy\xff")
    assert ended(core.receive(data, PHONE, now=1.0)).detail == "Bu\ufffd[2Jsy\ufffd"


@pytest.mark.parametrize(
    ("value", "seconds", "detail"),
    [
        ("120", 120, "Service Unavailable"),
        ("5 (later);duration=60", 5, "Service Unavailable"),
        ("0", 0, "Service Unavailable"),
        ("soon", -1, "Service Unavailable; unreadable Retry-After"),
        ("949302838503028349304023988", -1, "Service Unavailable; unreadable Retry-After"),
    ],
)
def test_retry_after_is_handed_on(value: str, seconds: int, detail: str) -> None:
    core = client()
    data = core.start(Notify(), 1, now=0.0)
    result = ended(core.receive(response(data, 503, ("Retry-After", value)), PHONE, now=1.0))
    assert (result.retry_after, result.detail) == (seconds, detail)


def test_malformed_refusal_still_ends_the_request() -> None:
    core = client()
    data = response(core.start(Notify(), 1, now=0.0), 503).replace(b"Content-Length: 0", b"Content-Length: 9")
    result = ended(core.receive(data, PHONE, now=1.0))
    assert (result.ending, result.status, result.detail) == (Ending.ANSWERED, 503, "the response is malformed")
    assert core.in_flight == 0


# Matching (RFC 3261 17.1.3)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b"CSeq: 1 NOTIFY", b"CSeq:  01   NOTIFY"),
        (b"CSeq: 1 NOTIFY", b"cseq: 1\r\n NOTIFY"),
        (b"Via: ", b"v:"),
        (b";rport=5060", b" ;rport=5060"),
        (b";branch=", b"\r\n ;Branch = "),
        (b"SIP/2.0 200 OK", b"\r\nsip/2.0 200"),
    ],
)
def test_answer_in_another_spelling_is_the_answer(old: bytes, new: bytes) -> None:
    core = client()
    data = response(core.start(Notify(), 1, now=0.0), 200)
    assert data.count(old) == 1
    assert ended(core.receive(data.replace(old, new), PHONE, now=1.0)).status == 200
    assert core.strays == 0


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b"branch=z9hG4bK000000011", b"branch=z9hG4bK000000012"),
        (b";branch=z9hG4bK000000011", b""),
        (b"CSeq: 1 NOTIFY", b"CSeq: 1 OPTIONS"),
        (b"CSeq: 1 NOTIFY", b"CSeq: 2 NOTIFY"),
        (b"CSeq: 1 NOTIFY", b"CSeq: x"),
        (b"CSeq: 1 NOTIFY\r\n", b""),
        (b"Via: ", b"Via: SIP/2.0/UDP h;branch=other,"),
        (b"Via: ", b"Via: SIP/2.0/UDP h;branch=other\r\nVia: "),
        (b"SIP/2.0 200", b"SIP/2.0 2000"),
    ],
)
def test_answer_to_something_else_is_a_stray(old: bytes, new: bytes) -> None:
    core = client()
    data = response(core.start(Notify(), 1, now=0.0), 200)
    assert data.count(old) == 1
    assert core.receive(data.replace(old, new), PHONE, now=1.0) is None
    assert (core.strays, core.in_flight) == (1, 1)


@pytest.mark.parametrize("data", [b"", b"\0", b"hello", b"SIP/2.0 200 OK\r\n\r\n", b"HTTP/1.1 200 OK\r\n\r\n"])
def test_what_is_not_sip_is_a_stray(data: bytes) -> None:
    core = client()
    assert core.receive(data, PHONE, now=0.0) is None
    assert core.strays == 1


def test_keep_alive_is_neither_answered_nor_a_stray() -> None:
    core = client()
    assert core.receive(b"\r\n\r\n", PHONE, now=0.0) is None
    assert core.strays == 0


@pytest.mark.parametrize("spelling", [b"Via: ", b"v: "])
def test_retransmitted_final_answer_is_absorbed_until_timer_k(spelling: bytes) -> None:
    core = client()
    answer = response(core.start(Notify(), 1, now=0.0), 200).replace(b"Via: ", spelling)
    assert ended(core.receive(answer, PHONE, now=1.0)).status == 200
    assert core.receive(answer, PHONE, now=1.5) is None
    assert list(core.advance(now=5.9)) == []
    assert core.receive(answer, PHONE, now=5.9) is None
    assert core.strays == 0
    assert list(core.advance(now=6.0)) == []
    assert core.receive(answer, PHONE, now=6.1) is None
    assert core.strays == 1


# Timers


def test_request_is_sent_again_and_given_up_after_timer_f() -> None:
    core = client()
    data = core.start(Notify(), "k", now=100.0)
    times = []
    outputs: list[Output] = []
    while (deadline := core.next_deadline()) is not None:
        found = list(core.advance(now=deadline))
        times += [deadline] * len(found)
        outputs += found
    assert times == [100.5, 101.5, 103.5, 107.5, 111.5, 115.5, 119.5, 123.5, 127.5, 131.5, 132.0]
    assert outputs[:-1] == [Transmit(data, TO_PHONE)] * 10
    assert outputs[-1] == Result("k", Ending.TIMEOUT, 0, 100.0, 132.0, -1, "")
    assert (core.retransmissions, core.in_flight) == (10, 0)


def test_provisional_answer_slows_retransmission() -> None:
    core = client()
    data = core.start(Notify(), 1, now=0.0)
    core.receive(response(data, 100), PHONE, now=0.1)
    times = []
    while core.in_flight:
        deadline = core.next_deadline()
        assert deadline is not None
        times += [deadline for _ in core.advance(now=deadline)]
    assert times == [0.5, 4.5, 8.5, 12.5, 16.5, 20.5, 24.5, 28.5, 32.0]


def test_late_wake_up_sends_each_request_once() -> None:
    core = client()
    for key in range(3):
        core.start(Notify(), key, now=key / 10)
    assert len(list(core.advance(now=20.0))) == 3
    assert core.next_deadline() == 21.0
    assert len(list(core.advance(now=20.0))) == 0


def test_answered_request_is_not_sent_again() -> None:
    core = client()
    first, second = (core.start(Notify(), key, now=0.0) for key in (1, 2))
    core.receive(response(first, 200), PHONE, now=0.4)
    assert list(core.advance(now=0.5)) == [Transmit(second, TO_PHONE)]
    core.receive(response(second, 200), PHONE, now=0.6)
    assert list(core.advance(now=4.0)) == []


def test_answer_after_timer_f_is_a_stray() -> None:
    core = client()
    data = core.start(Notify(), 1, now=0.0)
    assert [ended(one).ending for one in core.advance(now=32.0)] == [Ending.TIMEOUT]
    assert core.receive(response(data, 200), PHONE, now=32.1) is None
    assert core.strays == 1
    assert core.next_deadline() is None


def test_next_deadline_is_that_of_the_first_timer() -> None:
    core = client()
    assert core.next_deadline() is None
    first = core.start(Notify(), 1, now=0.0)
    core.start(Notify(), 2, now=0.2)
    assert core.next_deadline() == 0.5
    core.receive(response(first, 200), PHONE, now=0.3)
    assert core.next_deadline() == 0.7
    list(core.advance(now=0.7))
    assert core.next_deadline() == 1.7


def test_forgetting_answered_requests_may_be_a_quarter_second_late() -> None:
    core = client()
    data = core.start(Notify(), 1, now=0.0)
    core.receive(response(data, 200), PHONE, now=1.0)
    assert core.next_deadline() == 6.25
    assert list(core.advance(now=6.25)) == []
    assert core.next_deadline() is None


# Digest


@pytest.mark.parametrize(
    ("status", "challenge", "header"),
    [(401, "WWW-Authenticate", "Authorization"), (407, "Proxy-Authenticate", "Proxy-Authorization")],
)
def test_challenge_is_answered_then_the_phone_accepts(status: int, challenge: str, header: str) -> None:
    core = client()
    first = core.start(Notify(), "k", now=0.0)
    second = sent(core.receive(response(first, status, (challenge, REALM)), PHONE, now=1.0))
    authorization = answers(second)[header, "phone"]
    assert (authorization.username, authorization.uri) == ("alice", "sip:1001@192.0.2.9:5062")
    assert (authorization.nonce, authorization.nonce_count, authorization.cnonce) == ("n1", 1, "00000002")
    result = core.receive(response(second, 200), PHONE, now=1.5)
    assert result == Result("k", Ending.ANSWERED, 200, 0.0, 1.5, -1, "")


def test_second_request_keeps_call_id_and_tag_and_has_a_higher_cseq_and_a_new_branch() -> None:
    """RFC 3261 22.2 and 8.1.3.5."""
    core = client()
    first = core.start(Notify(), 1, now=0.0)
    second = sent(core.receive(response(first, 401, ("WWW-Authenticate", REALM)), PHONE, now=1.0))
    before, after = request(first), request(second)
    assert (before.call_id, before.from_, before.to, before.uri) == (after.call_id, after.from_, after.to, after.uri)
    assert (str(before.cseq), str(after.cseq)) == ("1 NOTIFY", "2 NOTIFY")
    assert (before.top_via.branch, after.top_via.branch) == ("z9hG4bK000000011", "z9hG4bK000000012")


def test_second_request_has_timers_of_its_own() -> None:
    core = client()
    first = core.start(Notify(), 1, now=0.0)
    challenge = response(first, 401, ("WWW-Authenticate", REALM))
    second = sent(core.receive(challenge, PHONE, now=10.0))
    assert core.receive(challenge, PHONE, now=10.1) is None
    assert core.strays == 0
    assert core.next_deadline() == 10.5
    assert list(core.advance(now=10.5)) == [Transmit(second, TO_PHONE)]
    assert [ended(one).sent_at for one in core.advance(now=42.0)] == [0.0]


def test_proxy_then_phone_then_success_carries_both_credentials() -> None:
    core = client()
    first = core.start(Notify(), 1, now=0.0)
    proxy = 'Digest realm="edge", nonce="p1", qop="auth"'
    second = sent(core.receive(response(first, 407, ("Proxy-Authenticate", proxy)), PHONE, now=1.0))
    third = sent(core.receive(response(second, 401, ("WWW-Authenticate", REALM)), PHONE, now=2.0))
    found = answers(third)
    assert list(found) == [("Authorization", "phone"), ("Proxy-Authorization", "edge")]
    assert found["Proxy-Authorization", "edge"].nonce_count == 2
    assert found["Authorization", "phone"].nonce_count == 1
    assert str(request(third).cseq) == "3 NOTIFY"
    assert ended(core.receive(response(third, 200), PHONE, now=3.0)).status == 200


def test_two_proxies_in_a_row_get_both_credentials() -> None:
    """RFC 3261 22.3: a proxy leaves alone what answers another realm."""
    core = client()
    data = core.start(Notify(), 1, now=0.0)
    for realm in ("one", "two"):
        challenge = ("Proxy-Authenticate", f'Digest realm="{realm}", nonce="{realm}"')
        data = sent(core.receive(response(data, 407, challenge), PHONE, now=1.0))
    assert list(answers(data)) == [("Proxy-Authorization", "one"), ("Proxy-Authorization", "two")]


def test_every_realm_of_one_answer_gets_credentials() -> None:
    core = client()
    first = core.start(Notify(), 1, now=0.0)
    challenges = [("WWW-Authenticate", f'Digest realm="{realm}", nonce="n"') for realm in ("a", "b")]
    second = sent(core.receive(response(first, 401, *challenges), PHONE, now=1.0))
    assert list(answers(second)) == [("Authorization", "a"), ("Authorization", "b")]


def test_strongest_of_two_challenges_is_answered() -> None:
    core = client()
    first = core.start(Notify(), 1, now=0.0)
    weak = ("WWW-Authenticate", 'Digest realm="phone", nonce="weak"')
    strong = ("WWW-Authenticate", 'Digest realm="phone", nonce="strong", algorithm=SHA-256')
    unknown = ("WWW-Authenticate", 'Bearer realm="phone"')
    second = sent(core.receive(response(first, 401, unknown, weak, strong), PHONE, now=1.0))
    assert answers(second)["Authorization", "phone"].algorithm == "SHA-256"


def test_stale_nonce_is_answered_with_the_new_one() -> None:
    core = client()
    data = core.start(Notify(), 1, now=0.0)
    for number in (1, 2, 3):
        stale = ("WWW-Authenticate", f'Digest realm="phone", nonce="n{number}", stale=true')
        data = sent(core.receive(response(data, 401, stale), PHONE, now=1.0))
        assert answers(data)["Authorization", "phone"].nonce == f"n{number}"
    result = ended(core.receive(response(data, 401, ("WWW-Authenticate", f"{REALM}, stale=true")), PHONE, now=2.0))
    assert (result.ending, result.status) == (Ending.CREDENTIALS_REFUSED, 401)


def test_wrong_password_is_not_tried_twice() -> None:
    core = client()
    first = core.start(Notify(), "k", now=0.0)
    second = sent(core.receive(response(first, 401, ("WWW-Authenticate", REALM)), PHONE, now=1.0))
    again = ("WWW-Authenticate", 'Digest realm="phone", nonce="n2", qop="auth"')
    result = core.receive(response(second, 401, again), PHONE, now=2.0)
    assert result == Result("k", Ending.CREDENTIALS_REFUSED, 401, 0.0, 2.0, -1, "the challenge is for realm 'phone'")


def test_challenge_without_credentials_ends_the_request() -> None:
    core = client()
    data = core.start(Notify(credentials=None), 1, now=0.0)
    result = ended(core.receive(response(data, 401, ("WWW-Authenticate", REALM)), PHONE, now=1.0))
    assert (result.ending, result.detail) == (Ending.NO_CREDENTIALS, "the challenge is for realm 'phone'")


@pytest.mark.parametrize(
    ("challenges", "detail"),
    [
        ([], "no digest that we speak"),
        ([("WWW-Authenticate", 'Basic realm="phone"')], "no digest that we speak"),
        ([("WWW-Authenticate", 'Digest realm="phone", nonce="n", algorithm=AKAv1-MD5')], "no digest that we speak"),
        ([("Proxy-Authenticate", REALM)], "no digest that we speak"),
        ([("WWW-Authenticate", "Digest")], "bad challenge: digest header field: parameter 'realm' is missing"),
        (
            [("WWW-Authenticate", 'Digest realm="phone')],
            "bad challenge: digest header field: expected a closing quote or printable text, found the end (at byte 19)",
        ),
    ],
)
def test_challenge_that_cannot_be_read_or_answered_ends_the_request(
    challenges: list[tuple[str, str]], detail: str
) -> None:
    core = client()
    data = core.start(Notify(), 1, now=0.0)
    result = ended(core.receive(response(data, 401, *challenges), PHONE, now=1.0))
    assert (result.ending, result.status, result.detail) == (Ending.UNANSWERABLE, 401, detail)
    assert core.in_flight == 0


def test_realm_that_is_no_utf_8_is_answered_as_it_came() -> None:
    core = client()
    first = core.start(Notify(), 1, now=0.0)
    challenge = response(first, 401, ("WWW-Authenticate", 'Digest realm="cafe", nonce="n"'))
    second = sent(core.receive(challenge.replace(b"cafe", b"caf\xe9"), PHONE, now=1.0))
    assert b'realm="caf\xe9"' in second
    assert ("Authorization", "caf\udce9") in answers(second)


def test_password_is_in_no_value_that_the_core_hands_out() -> None:
    core = client()
    first = core.start(Notify(), 1, now=0.0)
    output = core.receive(response(first, 401, ("WWW-Authenticate", REALM)), PHONE, now=1.0)
    assert "wonderland" not in repr((output, vars(core)))


# Delivery failures


def test_icmp_error_ends_the_request_whose_branch_it_quotes() -> None:
    core = client()
    data = [core.start(Notify(), key, now=0.0) for key in (1, 2)]
    results = list(core.fail(data[1], PHONE, Ending.REFUSED, "ICMP: Connection refused", now=0.1))
    assert results == [Result(2, Ending.REFUSED, 0, 0.0, 0.1, -1, "ICMP: Connection refused")]
    assert core.in_flight == 1
    assert list(core.advance(now=0.5)) == [Transmit(data[0], TO_PHONE)]


@pytest.mark.parametrize("length", [0, 8, 40, 80, 95])
def test_icmp_error_that_quotes_no_whole_branch_ends_all_requests_to_that_destination(length: int) -> None:
    core = client()
    data = core.start(Notify(), 1, now=0.0)
    core.start(Notify(destination=Hop(OTHER)), 2, now=0.0)
    core.start(Notify(), 3, now=0.0)
    assert b";rport" not in data[:length]
    results = list(core.fail(data[:length], PHONE, Ending.NO_ROUTE, "no route", now=0.1))
    assert [(one.key, one.ending) for one in results] == [(1, Ending.NO_ROUTE), (3, Ending.NO_ROUTE)]
    assert core.in_flight == 1


def test_icmp_error_of_an_ended_request_ends_nothing() -> None:
    core = client()
    data = core.start(Notify(), 1, now=0.0)
    core.receive(response(data, 200), PHONE, now=0.1)
    core.start(Notify(), 2, now=0.2)
    assert list(core.fail(data, PHONE, Ending.REFUSED, "", now=0.3)) == []
    assert core.in_flight == 1


def test_icmp_error_about_an_answer_of_ours_ends_nothing() -> None:
    core = client()
    core.start(Notify(), 1, now=0.0)
    assert (
        list(core.fail(b"SIP/2.0 200 OK\r\nVia: SIP/2.0/UDP 192.0.2.9\r\n", PHONE, Ending.REFUSED, "", now=0.1)) == []
    )
    assert core.in_flight == 1


def test_icmp_error_ends_the_request_that_answers_a_challenge() -> None:
    core = client()
    first = core.start(Notify(), 1, now=0.0)
    second = sent(core.receive(response(first, 401, ("WWW-Authenticate", REALM)), PHONE, now=1.0))
    assert list(core.fail(first, PHONE, Ending.REFUSED, "", now=1.1)) == []
    assert [one.sent_at for one in core.fail(second, PHONE, Ending.REFUSED, "", now=1.2)] == [0.0]


# Requests to us


def incoming(
    method: str, via: str = "SIP/2.0/UDP 192.0.2.9:5070;branch=z9hG4bKx", *, call_id: str = "Call-ID: c\r\n"
) -> bytes:
    return (
        f"{method} sip:resyncctl@192.0.2.1 SIP/2.0\r\nVia: {via}\r\nFrom: <sip:a@h>;tag=1\r\nTo: <sip:b@h>\r\n"
        f"{call_id}CSeq: 1 {method}\r\nMax-Forwards: 70\r\n\r\n"
    ).encode()


@pytest.mark.parametrize(("method", "status"), [("OPTIONS", 200), ("NOTIFY", 405), ("INVITE", 405), ("x-PING", 405)])
def test_request_to_us_is_answered(method: str, status: int) -> None:
    core = client()
    output = core.receive(incoming(method), PHONE, now=0.0)
    assert isinstance(output, Reply)
    message = parse(output.data)
    assert isinstance(message, Response)
    assert message.status == status
    assert core.strays == 0


def test_malformed_request_is_answered_400_and_ack_not_at_all() -> None:
    core = client()
    output = core.receive(incoming("OPTIONS", call_id=""), PHONE, now=0.0)
    assert isinstance(output, Reply)
    assert output.data.startswith(b"SIP/2.0 400 Bad Request\r\n")
    assert core.receive(incoming("ACK"), PHONE, now=0.0) is None
    assert core.receive(incoming("OPTIONS", via="SIP/2.0/UDP"), PHONE, now=0.0) is None


def test_answer_to_a_request_with_rport_goes_where_it_came_from() -> None:
    core = client()
    output = core.receive(incoming("OPTIONS", "SIP/2.0/UDP 10.0.0.9:5070;rport;branch=z9hG4bKx"), PHONE, now=0.0)
    assert isinstance(output, Reply)
    assert output.destination == PHONE
    assert b"\r\nVia: SIP/2.0/UDP 10.0.0.9:5070;rport=5062;branch=z9hG4bKx;received=192.0.2.9\r\n" in output.data


def test_answer_to_a_request_without_rport_goes_to_the_port_of_its_via() -> None:
    core = client()
    output = core.receive(incoming("OPTIONS"), PHONE, now=0.0)
    assert isinstance(output, Reply)
    assert output.destination == ("192.0.2.9", 5070)


# Any bytes


def spoiled(octets: bytes) -> st.SearchStrategy[bytes]:
    """Octets with a piece replaced by bytes that mean something somewhere."""
    place = st.integers(0, len(octets))
    pieces = [
        b"",
        b'"',
        b"\\",
        b"<",
        b">",
        b";",
        b",",
        b"\r\n",
        b"\r\n ",
        b"\r\n\r\n",
        b"\0",
        b"\xff",
        b"%",
        b"Digest ",
        b"=",
        b"1",
    ]
    return st.builds(
        lambda start, length, piece: octets[:start] + piece + octets[start + length :],
        place,
        st.integers(0, 12),
        st.sampled_from(pieces) | st.binary(max_size=5),
    )


FIRST: Final = client().start(Notify(), 1, now=0.0)
"""What every fresh client of these tests sends first: its branch is live."""
LIVE: Final = [
    response(FIRST, 200),
    response(FIRST, 100),
    response(FIRST, 503, ("Retry-After", "5 (x);y=z")),
    response(FIRST, 401, ("WWW-Authenticate", REALM)),
    response(FIRST, 401, ("WWW-Authenticate", f'{REALM}, opaque="\\"o", algorithm=MD5-sess, stale=true')),
    response(FIRST, 407, ("Proxy-Authenticate", 'Digest realm="r", nonce="n", qop="auth-int", domain="sip:a sip:b"')),
]


@given(st.lists(st.binary(max_size=80) | st.sampled_from([*LIVE, incoming("OPTIONS")]).flatmap(spoiled), max_size=6))
def test_no_bytes_make_the_core_raise_or_lose_a_request(datagrams: list[bytes]) -> None:
    core = client()
    assert core.start(Notify(), 1, now=0.0) == FIRST
    results = []
    for number, data in enumerate(datagrams):
        output = core.receive(data, PHONE, now=number / 10)
        if isinstance(output, Result):
            results.append(output)
        elif isinstance(output, Reply):
            assert 1 <= output.destination[1] <= 65_535
    assert len(results) + core.in_flight == 1
    for now in (1.0, 40.0, 80.0):
        results += [one for one in core.advance(now=now) if isinstance(one, Result)]
    assert [one.key for one in results] == [1]
    assert core.next_deadline() is None


@given(st.sampled_from(LIVE[3:]).flatmap(spoiled).flatmap(spoiled))
def test_no_challenge_makes_the_core_raise(data: bytes) -> None:
    core = client()
    core.start(Notify(), 1, now=0.0)
    output = core.receive(data, PHONE, now=1.0)
    if isinstance(output, Transmit):
        assert request(output.data).method == "NOTIFY"


@given(st.binary(max_size=60) | spoiled(FIRST))
def test_no_quotation_makes_the_core_raise(quoted: bytes) -> None:
    core = client()
    core.start(Notify(), 1, now=0.0)
    assert len(list(core.fail(quoted, PHONE, Ending.REFUSED, "", now=0.1))) + core.in_flight == 1


# Reliable transports


@pytest.mark.parametrize("transport", [Transport.TCP, Transport.TLS])
def test_nothing_is_sent_again_over_a_reliable_transport_until_timer_f(transport: Transport) -> None:
    core = client()
    core.start(Notify(destination=Hop(PHONE, transport)), "k", now=100.0)
    core.start(Notify(), "over UDP", now=100.0)
    assert core.next_deadline() == 100.5
    outputs = []
    while (deadline := core.next_deadline()) is not None:
        outputs += [(deadline, output) for output in core.advance(now=deadline)]
    mine = [(at, output) for at, output in outputs if isinstance(output, Result) and output.key == "k"]
    assert mine == [(132.0, Result("k", Ending.TIMEOUT, 0, 100.0, 132.0, -1, ""))]
    assert core.retransmissions == 10


def test_timer_k_is_zero_over_a_reliable_transport() -> None:
    core = client()
    data = core.start(Notify(destination=OVER_TCP), 1, now=0.0)
    assert ended(core.receive(response(data, 200), PHONE, now=0.1)).status == 200
    assert core.next_deadline() is None
    assert core.receive(response(data, 200), PHONE, now=0.2) is None
    assert core.strays == 1


def test_what_was_answered_is_forgotten_long_before_its_timer_f() -> None:
    core = client()
    waiting = core.start(Notify(destination=OVER_TCP), "waits", now=0.0)
    for number in range(10_000):
        data = core.start(Notify(destination=OVER_TCP), number, now=1.0)
        core.receive(response(data, 200), PHONE, now=1.0)
    assert len(core._reliable) < 1_100
    assert core.next_deadline() == 32.0
    assert ended(core.receive(response(waiting, 200), PHONE, now=2.0)).key == "waits"


def test_a_challenge_over_tcp_is_answered_over_tcp() -> None:
    core = client()
    data = core.start(Notify(destination=OVER_TCP), 1, now=0.0)
    output = core.receive(response(data, 401, ("WWW-Authenticate", REALM)), PHONE, now=0.1)
    assert isinstance(output, Transmit)
    assert output.destination == OVER_TCP
    assert ("Authorization", "phone") in answers(output.data)
    assert ended(core.receive(response(output.data, 200), PHONE, now=0.2)).status == 200


def test_a_withdrawn_request_leaves_nothing_behind() -> None:
    core = client()
    core.withdraw(core.start(Notify(), 1, now=0.0))
    assert core.in_flight == 0
    assert core.next_deadline() is None
    assert list(core.advance(now=60.0)) == []
