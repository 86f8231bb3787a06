"""Answer 401 and 407 (RFC 3261 22.2, 22.3): which header lines to add when the request is sent again, or why not."""

from __future__ import annotations

from collections.abc import Callable
from enum import Enum, auto
from typing import Final, NamedTuple

from resyncctl.errors import SipParseError
from resyncctl.sip.digest import Challenge, Credentials, authorize, parse_challenge, strongest
from resyncctl.sip.message import Response
from resyncctl.sip.notify import fields

MAX_ANSWERS: Final = 3
"""Requests that answer a challenge, at most, for one attempt: one for 401, one for 407, one for a stale nonce."""

Answered = tuple[tuple[Challenge, int], ...]
"""The challenges that a request answers, each with how often its nonce has been used by now."""


class Answers(NamedTuple):
    """What to send again with: header lines for `render(extra=…)`, and what the next challenge is compared with."""

    lines: str
    answered: Answered


class Why(Enum):
    """Why a challenge is not answered."""

    NO_CREDENTIALS = auto()
    REFUSED = auto()
    """It was answered before, and is here again: the credentials are wrong."""
    UNANSWERABLE = auto()
    """It cannot be read, or wants what we do not speak."""


class Unanswered(NamedTuple):
    """A challenge that is not answered."""

    why: Why
    detail: str


def respond(
    response: Response,
    answered: Answered,
    *,
    method: str,
    uri: str,
    body: bytes,
    credentials: Credentials | None,
    round_number: int,
    new_token: Callable[[], str],
) -> Answers | Unanswered:
    """Answer the challenges of a 401 or 407 to the request number `round_number` (from 1) of an attempt."""
    try:
        challenges = _challenges(response)
    except SipParseError as error:
        return Unanswered(Why.UNANSWERABLE, f"bad challenge: {error}")
    if not challenges:
        return Unanswered(Why.UNANSWERABLE, "no digest that we speak")
    known = {(challenge.realm, challenge.proxy): (challenge, uses) for challenge, uses in answered}
    fresh = all(one.stale or (one.realm, one.proxy) not in known for one in challenges)
    if credentials is None or not fresh or round_number > MAX_ANSWERS:
        why = Why.NO_CREDENTIALS if credentials is None else Why.REFUSED
        return Unanswered(why, f"the challenge is for realm {challenges[0].realm!r}")
    # RFC 3261 22.3: what answered another proxy on the way stays when the next one asks, or the phone itself.
    answers = {space: (challenge, uses + 1) for space, (challenge, uses) in known.items()}
    answers |= {(one.realm, one.proxy): (one, 1) for one in challenges}
    lines = [
        authorize(challenge, credentials, method=method, uri=uri, body=body, cnonce=new_token(), nonce_count=uses)
        for challenge, uses in answers.values()
    ]
    return Answers(fields(*lines), tuple(answers.values()))


def _challenges(response: Response) -> list[Challenge]:
    """Return the challenges that we can answer, one for each realm; raise SipParseError."""
    proxy = response.status == 407
    name = "Proxy-Authenticate" if proxy else "WWW-Authenticate"
    parsed = (parse_challenge(value, proxy=proxy) for value in response.all(name))
    return strongest(challenge for challenge in parsed if challenge is not None)
