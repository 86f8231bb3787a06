"""What the tests of the engine share: one redis-server, and phones and a controller of their own for each test."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.engine.controller import Controller
from tests.engine.recorder import Recorder
from tests.peers.redis_server import RedisServer


@pytest.fixture(scope="session")
def shared_redis() -> Iterator[RedisServer]:
    """Start a redis-server that no test disturbs."""
    with RedisServer() as server:
        yield server


@pytest.fixture
def redis_server() -> Iterator[RedisServer]:
    """Start a redis-server that the test may kill."""
    with RedisServer() as server:
        yield server


@pytest.fixture
def phones() -> Iterator[Recorder]:
    """Start phones that record what they receive."""
    with Recorder() as recorder:
        yield recorder


@pytest.fixture
def controller(tmp_path: Path, shared_redis: RedisServer) -> Controller:
    """Return a controller on the shared redis-server."""
    return Controller(tmp_path / "data", shared_redis.url)
