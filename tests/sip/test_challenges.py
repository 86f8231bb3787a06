"""Challenges and what they are answered with."""

from __future__ import annotations

from itertools import count

import pytest

from resyncctl.sip.challenges import MAX_ANSWERS, Answered, Answers, Unanswered, Why, respond
from resyncctl.sip.digest import Credentials
from resyncctl.sip.message import HeaderFields, Response

ALICE = Credentials("alice", "secret")
PHONE = 'Digest realm="phone", nonce="n1", algorithm=MD5, qop="auth"'
PROXY = 'Digest realm="proxy", nonce="p1", algorithm=MD5, qop="auth"'


def answered_by(
    response: Response, answered: Answered = (), *, credentials: Credentials | None = ALICE, round_number: int = 1
) -> Answers | Unanswered:
    tokens = count()
    return respond(
        response,
        answered,
        method="NOTIFY",
        uri="sip:100@phone",
        body=b"",
        credentials=credentials,
        round_number=round_number,
        new_token=lambda: f"token{next(tokens)}",
    )


def challenge(status: int, *values: str) -> Response:
    name = "Proxy-Authenticate" if status == 407 else "WWW-Authenticate"
    headers: HeaderFields = tuple((name, value) for value in values)
    return Response(headers, status=status, reason="")


def test_a_challenge_is_answered_with_the_credentials() -> None:
    answers = answered_by(challenge(401, PHONE))
    assert isinstance(answers, Answers)
    assert answers.lines.startswith(
        'Authorization: Digest username="alice", realm="phone", nonce="n1", uri="sip:100@phone"'
    )
    assert answers.lines.count("\r\n") == 1


def test_what_answered_a_proxy_stays_when_the_phone_asks_too() -> None:
    first = answered_by(challenge(407, PROXY))
    assert isinstance(first, Answers)
    second = answered_by(challenge(401, PHONE), first.answered, round_number=2)
    assert isinstance(second, Answers)
    names = [line.partition(":")[0] for line in second.lines.splitlines()]
    assert names == ["Proxy-Authorization", "Authorization"]
    assert "nc=00000002" in second.lines.splitlines()[0]


def test_the_same_challenge_again_is_a_refusal_unless_its_nonce_was_stale() -> None:
    first = answered_by(challenge(401, PHONE))
    assert isinstance(first, Answers)
    again = answered_by(challenge(401, PHONE), first.answered, round_number=2)
    assert again == Unanswered(Why.REFUSED, "the challenge is for realm 'phone'")
    stale = answered_by(challenge(401, f"{PHONE}, stale=true".replace("n1", "n2")), first.answered, round_number=2)
    assert isinstance(stale, Answers)
    assert 'nonce="n2"' in stale.lines
    endless = answered_by(challenge(401, f"{PHONE}, stale=true"), first.answered, round_number=MAX_ANSWERS + 1)
    assert isinstance(endless, Unanswered)


@pytest.mark.parametrize(
    ("response", "credentials", "expected"),
    [
        (challenge(401, PHONE), None, Unanswered(Why.NO_CREDENTIALS, "the challenge is for realm 'phone'")),
        (challenge(401), ALICE, Unanswered(Why.UNANSWERABLE, "no digest that we speak")),
        (challenge(401, 'Basic realm="phone"'), ALICE, Unanswered(Why.UNANSWERABLE, "no digest that we speak")),
    ],
)
def test_what_cannot_be_answered_says_why(
    response: Response, credentials: Credentials | None, expected: Unanswered
) -> None:
    assert answered_by(response, credentials=credentials) == expected


def test_a_challenge_that_cannot_be_read_is_unanswerable() -> None:
    unread = answered_by(challenge(401, "Digest realm="))
    assert isinstance(unread, Unanswered)
    assert (unread.why, unread.detail.startswith("bad challenge: ")) == (Why.UNANSWERABLE, True)
