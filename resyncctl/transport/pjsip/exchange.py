"""What an agent on PJSIP has to do: requests on their way, what their responses mean, and who asks for a connection."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from dataclasses import dataclass
from typing import Final, NamedTuple

from resyncctl.errors import SipParseError
from resyncctl.sip.challenges import Answered, Unanswered, respond
from resyncctl.sip.hop import Hop
from resyncctl.sip.message import Response, parse
from resyncctl.sip.uac import UNANSWERED, Ending, Outgoing, said_in
from resyncctl.transport.flow import Passenger
from resyncctl.transport.pjsip.flow import PjsipFlow

_MAGIC: Final = "z9hG4bK"
"""RFC 3261 8.1.1.7."""


@dataclass(slots=True, eq=False)
class Exchange:
    """A request on its way. Times are on the agent's clock."""

    request: Outgoing
    key: Hashable
    hop: Hop
    token: str
    large: bool = False
    """It goes over TCP for its size alone, and over UDP where that is not spoken (RFC 3261 18.1.1)."""
    flow: PjsipFlow | None = None
    branch: str = ""
    """'' before it has been made ready for its hop."""
    number: int = 0
    """What PJSIP is asked for it by."""
    cseq: int = 1
    copies: int = 0
    """How often it was begun again, with another branch, because sending failed for another one's sake before it had left."""
    left: bool = False
    """The phone may have it: sent again it is the same request, with the same branch."""
    answered: Answered = ()
    lines: str = ""
    """What answers a challenge."""
    sent_at: float = 0.0
    begun_at: float = 0.0
    """When its transaction was begun last."""
    expires_at: float = 0.0

    def render(self) -> bytes:
        """Write the request. The same branch is the same request to the phone (RFC 3261 17.2.3)."""
        self.branch = f"{_MAGIC}{self.token}{self.cseq}{'x' * self.copies}"
        return self.request.render(token=self.token, branch=self.branch, cseq=self.cseq, extra=self.lines)


class Verdict(NamedTuple):
    """How a request has ended by its final response."""

    ending: Ending
    detail: str = ""
    retry_after: int = -1


def judge(exchange: Exchange, status: int, text: bytes, *, new_token: Callable[[], str]) -> Verdict | None:
    """Say what a final response means; None when the request answers its challenge now, and has to be sent again.

    `text` is the response; it is not looked at when it is a 2xx.
    """
    if status < 300:
        return Verdict(Ending.ANSWERED)
    try:
        response = parse(text)
    except SipParseError:
        return Verdict(Ending.ANSWERED, "the response is malformed")
    assert isinstance(response, Response)  # noqa: S101  (PJSIP has read its status)
    if status in {401, 407}:
        return _authenticate(exchange, response, new_token)
    retry_after, detail = said_in(response)
    return Verdict(Ending.ANSWERED, detail, retry_after)


def _authenticate(exchange: Exchange, response: Response, new_token: Callable[[], str]) -> Verdict | None:
    request = exchange.request
    answers = respond(
        response,
        exchange.answered,
        method=request.method,
        uri=request.request_uri,
        body=request.body,
        credentials=request.credentials,
        round_number=exchange.cseq,
        new_token=new_token,
    )
    if isinstance(answers, Unanswered):
        return Verdict(UNANSWERED[answers.why], answers.detail)
    # RFC 3261 22.2: the same Call-ID and From tag with a higher CSeq; a new branch by its own rule.
    exchange.cseq += 1
    exchange.copies, exchange.left = 0, False
    exchange.lines, exchange.answered = answers
    return None


def exchange_of(passenger: Passenger) -> Exchange:
    """Return what an agent has sent to a connection."""
    assert isinstance(passenger, Exchange)  # noqa: S101  (what it gave)
    return passenger
