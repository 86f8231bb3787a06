"""What the transport tests need of the machine."""

from __future__ import annotations

import socket

import pytest


@pytest.fixture
def ipv6() -> str:
    """The IPv6 loopback address; skips where there is none."""
    try:
        with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as probe:
            probe.bind(("::1", 0))
    except OSError as error:
        pytest.skip(f"IPv6 loopback: {error}")
    return "::1"
