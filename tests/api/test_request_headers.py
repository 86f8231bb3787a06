"""What the headers of a request say: where it comes from, and which form of an answer is liked."""

from __future__ import annotations

import pytest
from fastapi import Request

from resyncctl.api.client import address_of
from resyncctl.api.problems import ProblemError
from resyncctl.api.reports import CSV, JSON, NDJSON, chosen


def request(peer: str | None, *forwarded: str) -> Request:
    """Make a request from a peer."""
    headers = [(b"x-forwarded-for", one.encode()) for one in forwarded]
    client = None if peer is None else (peer, 50000)
    return Request({"type": "http", "method": "GET", "path": "/", "headers": headers, "client": client})


@pytest.mark.parametrize(
    ("peer", "forwarded", "address"),
    [
        ("192.0.2.1", (), "192.0.2.1"),
        ("192.0.2.1", ("203.0.113.9",), "192.0.2.1"),
        ("127.0.0.1", (), "127.0.0.1"),
        ("127.0.0.1", ("203.0.113.9",), "203.0.113.9"),
        ("127.0.0.1", ("10.9.9.9, 203.0.113.9",), "203.0.113.9"),
        ("127.0.0.1", ("10.9.9.9", "203.0.113.9"), "203.0.113.9"),
        ("127.0.0.1", ("203.0.113.9, 127.0.0.1",), "203.0.113.9"),
        ("127.0.0.1", ("203.0.113.9, nonsense",), "127.0.0.1"),
        ("127.0.0.1", ("127.0.0.1",), "127.0.0.1"),
        ("::1", ("[2001:db8::1]",), "2001:db8::1"),
        ("::ffff:127.0.0.1", ("203.0.113.9",), "203.0.113.9"),
        ("::ffff:192.0.2.1", ("203.0.113.9",), "192.0.2.1"),
        ("127.0.0.1", ("::ffff:203.0.113.9",), "203.0.113.9"),
        (None, ("203.0.113.9",), "203.0.113.9"),
    ],
)
def test_only_a_proxy_on_this_machine_is_believed(peer: str | None, forwarded: tuple[str, ...], address: str) -> None:
    assert address_of(request(peer, *forwarded)) == address


@pytest.mark.parametrize(
    ("accept", "kind"),
    [
        ("*/*", JSON),
        ("application/json", JSON),
        ("text/csv", CSV),
        ("TEXT/CSV; charset=utf-8", CSV),
        ("text/*", CSV),
        ("application/*", JSON),
        ("application/x-ndjson", NDJSON),
        ("application/json;q=0.2, text/csv;q=0.9", CSV),
        ("text/html, */*;q=0.1", JSON),
        ("text/csv;q=0, */*", JSON),
        ("text/csv;q=2, application/json;q=0.9", CSV),
    ],
)
def test_the_form_that_is_liked_best_is_chosen(accept: str, kind: str) -> None:
    assert chosen(accept) == kind


@pytest.mark.parametrize("accept", ["image/png", "text/csv;q=0", "text/csv;q=x", "", ";", "a/b/c"])
def test_a_form_that_cannot_be_made_is_refused(accept: str) -> None:
    with pytest.raises(ProblemError, match="text/csv"):
        chosen(accept)
