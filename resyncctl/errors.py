"""Every exception that resyncctl raises on purpose.

    ResyncError
    ├── InputError              bad usage or bad input: nothing was sent (exit status 2)
    │   ├── PhoneListError      rows of a phone list that cannot be used, all of them together
    │   └── NothingToDoError    no phone is on the list, or is selected
    ├── InfrastructureError     Redis, a socket or a disk failed us (exit status 4)
    │   ├── StoreError          Redis is unreachable or refuses to write
    │   ├── ServerError         the service that `--server` names is unreachable, or cannot answer
    │   └── TransportError      a socket cannot be opened or an address cannot be used
    ├── StateError              a command that does not fit the state of what it is about (exit status 2)
    │   ├── NotFoundError       nothing has that name
    │   └── LeaseLostError      another process owns the rollout now
    ├── AccessError             whoever asks may not: no token, a wrong one, or one without the scope (exit status 2)
    └── SipError                bytes that are not SIP, or a value that SIP cannot carry
        └── SipParseError       says what was expected and at which byte

Messages are written for the person who reads them: what is wrong, where, and what to do next.
A phone that fails is an outcome, never an exception.
"""

from __future__ import annotations

from collections.abc import Sequence


class ResyncError(Exception):
    """Base of all errors of this package; `exit_status` is what the command line returns for it."""

    exit_status = 1


class InputError(ResyncError):
    """Bad usage or bad input; raised before anything is sent."""

    exit_status = 2


class PhoneListError(InputError):
    """One or more rows of a phone list are unusable; `problems` holds one line of text for each, in file order."""

    def __init__(self, source: str, problems: Sequence[str], total: int | None = None) -> None:
        self.source = source
        self.problems = tuple(problems)
        self.total = len(self.problems) if total is None else total
        more = self.total - len(self.problems)
        tail = f"; and {more} more" if more else ""
        rows = "row" if self.total == 1 else "rows"
        super().__init__(
            f"{source}: {self.total} {rows} cannot be used, nothing was sent: {'; '.join(self.problems)}{tail}."
            " Correct the file and run the command again."
        )


class NothingToDoError(InputError):
    """There is no phone to send to: the list is empty, or nothing on it is selected."""


class InfrastructureError(ResyncError):
    """Something that we run on failed: Redis, a socket, the disk."""

    exit_status = 4


class StoreError(InfrastructureError):
    """Redis cannot be reached, or it refuses to write."""


class ServerError(InfrastructureError):
    """The service that `--server` names cannot be reached, or cannot answer now."""


class TransportError(InfrastructureError):
    """A socket cannot be opened, or an address cannot be used or resolved."""


class StateError(ResyncError):
    """The command does not fit the state of the rollout, or of whatever else it is about."""

    exit_status = 2


class NotFoundError(StateError):
    """There is no rollout, plan, schedule, hook, source or token of that name."""


class LeaseLostError(StateError):
    """Another process owns the rollout now; this one must stop sending at once."""

    exit_status = 4


class AccessError(ResyncError):
    """Whoever asks may not. `known` tells a caller that lacks a scope (403) from one that nobody knows (401)."""

    exit_status = 2

    def __init__(self, message: str, *, known: bool = False) -> None:
        self.known = known
        super().__init__(message)


class SipError(ResyncError):
    """Bytes that are not SIP, or a value that a SIP message cannot carry."""


class SipParseError(SipError):
    """The parser's only exception; `position` is the byte offset where parsing stopped, or -1."""

    def __init__(self, message: str, position: int = -1) -> None:
        self.position = position
        super().__init__(f"{message} (at byte {position})" if position >= 0 else message)
