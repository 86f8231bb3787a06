"""Server-sent events: they resume where a client was, end with the rollout, and cost Redis one reader for any number."""

from __future__ import annotations

import asyncio
import re
import signal
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import httpx
import pytest
from redis import Redis

from resyncctl.api.problems import ProblemError
from resyncctl.api.streams import Hub, position_of
from resyncctl.engine.access import Scope
from resyncctl.logs import make_logger
from resyncctl.store.redis_store import RedisStore
from tests.api.rollouts import AT_ONCE, SLOW, body, ended, events, launch, phone_rows, problem, read_events
from tests.api.server import ApiServer, make_token
from tests.engine.recorder import Recorder
from tests.peers.redis_server import RedisServer
from tests.peers.waiting import wait_until

pytestmark = pytest.mark.needs("redis-server")


@pytest.fixture(scope="module")
def limited(redis: RedisServer, office: Path) -> Iterator[ApiServer]:
    """Start a service that lets three follow."""
    with ApiServer(redis.url, sources={"office": office}, requests_per_second=0, max_streams=3) as running:
        yield running


def test_events_tell_the_whole_course_and_end_with_the_report(client: httpx.Client, phones: Recorder) -> None:
    rollout = launch(client, {"phones": phone_rows(phones, ["ok.course1", "ok.course2"]), "options": AT_ONCE})
    found = list(events(client, rollout))
    assert [event.kind for event in found] == [*["progress"] * (len(found) - 1), "end"]
    states = list(dict.fromkeys(event.data["state"] for event in found))
    assert states[-2:] == ["draining", "finished"]
    assert found[-1].data == body(client.get(f"/v1/rollouts/{rollout}"))
    ids = [position_of(event.id) for event in found[:-1]]
    assert ids == sorted(set(ids))


def test_a_client_that_comes_back_goes_on_after_its_last_event(client: httpx.Client, phones: Recorder) -> None:
    rollout = launch(client, {"phones": phone_rows(phones, ["ok.resume1", "ok.resume2"]), "options": AT_ONCE})
    whole = list(events(client, rollout))
    for place in (0, len(whole) // 2, len(whole) - 2):
        rest = list(events(client, rollout, after=whole[place].id))
        assert rest == whole[place + 1 :]


def test_without_a_last_event_a_stream_begins_with_the_newest(client: httpx.Client, phones: Recorder) -> None:
    rollout = launch(client, {"phones": phone_rows(phones, ["ok.newest"]), "options": AT_ONCE})
    whole = list(events(client, rollout))
    assert list(events(client, rollout, after="")) == whole[-2:]


def test_a_hundred_clients_cost_redis_one_reader_and_all_see_the_end(
    server: ApiServer, redis: RedisServer, tokens: dict[Scope, str], client: httpx.Client, phones: Recorder
) -> None:
    order = {"phones": phone_rows(phones, [f"ok.crowd{number}" for number in range(25)]), "options": SLOW}
    rollout = launch(client, order)
    watched = Redis.from_url(redis.url)

    async def follow(crowd: httpx.AsyncClient) -> tuple[str, int]:
        count, last = 0, ""
        async with crowd.stream("GET", f"/v1/rollouts/{rollout}/events") as stream:
            assert stream.status_code == 200, await stream.aread()
            async for line in stream.aiter_lines():
                if line.startswith("event: "):
                    count, last = count + 1, line
        return last, count

    async def crowd_of(size: int) -> tuple[list[tuple[str, int]], int]:
        headers = {"Authorization": f"Bearer {tokens[Scope.READ]}"}
        limits = httpx.Limits(max_connections=size)
        async with httpx.AsyncClient(base_url=server.url, headers=headers, timeout=30, limits=limits) as crowd:
            following = [asyncio.create_task(follow(crowd)) for _ in range(size)]
            most = 0
            while not all(task.done() for task in following):
                waiting = [one for one in watched.client_list() if "b" in one["flags"]]
                readers = [one for one in waiting if one["cmd"] == "xread"]
                most = max(most, len(readers))
                await asyncio.sleep(0.05)
            return [task.result() for task in following], most

    seen, most = asyncio.run(crowd_of(100))
    watched.close()
    assert {last for last, _ in seen} == {"event: end"}
    assert min(count for _, count in seen) >= 3
    assert most == 1
    assert ended(client, rollout)["counts"] == {"accepted": 25}


def test_no_more_may_follow_than_the_configuration_says_and_who_leaves_makes_room(
    limited: ApiServer, tokens: dict[Scope, str], phones: Recorder
) -> None:
    with ExitStack() as stack, limited.client(tokens[Scope.ADMIN]) as client:
        order = {"phones": phone_rows(phones, [f"ok.full{number}" for number in range(100)]), "options": SLOW}
        rollout = launch(client, order)
        path = f"/v1/rollouts/{rollout}/events"
        streams = [stack.enter_context(client.stream("GET", path)) for _ in range(3)]
        assert [stream.status_code for stream in streams] == [200, 200, 200]
        refused = client.get(path)
        assert "3 event streams" in problem(refused, 429)["detail"]
        assert refused.headers["retry-after"] == "10"
        streams[0].close()

        def lets_in() -> bool:
            with client.stream("GET", path) as one:
                return one.status_code == 200

        wait_until(lets_in, "a place", within=5)
        client.post(f"/v1/rollouts/{rollout}/abort")


def test_a_service_that_stops_ends_its_streams_at_once(redis: RedisServer, office: Path, phones: Recorder) -> None:
    token = make_token(redis.url, "stopping", Scope.ADMIN)
    with (
        ApiServer(redis.url, sources={"office": office}, requests_per_second=0) as server,
        server.client(token) as client,
    ):
        order = {"phones": phone_rows(phones, [f"ok.stop{number}" for number in range(50)]), "options": SLOW}
        rollout = launch(client, order)
        with client.stream("GET", f"/v1/rollouts/{rollout}/events") as stream:
            course = read_events(stream)
            assert next(course).kind == "progress"
            server.send_signal(signal.SIGTERM)
            assert all(event.kind == "progress" for event in course)  # until the connection is closed
            wait_until(lambda: not server.running, "ended", within=8)
        assert "Traceback" not in server.log()


async def test_silence_is_broken_by_comments(redis: RedisServer, client: httpx.Client, phones: Recorder) -> None:
    order = {"phones": phone_rows(phones, ["ok.silent1", "ok.silent2"]), "options": {**SLOW, "rate": 0.2}}
    rollout = await asyncio.to_thread(launch, client, order)
    store = RedisStore(redis.url)
    hub = Hub(store, make_logger(), most=lambda: 10, keep_alive=0.05)
    record = await store.get(rollout)  # type: ignore[arg-type]
    following = hub.follow(record.id, None)
    found = b""
    async for frame in following.frames():
        found += frame
        if found.count(b": keep-alive\n\n") >= 2:
            break
    assert re.match(rb"(: keep-alive\n\n)*(id: \d+-\d+\n)?event: progress\ndata: \{.*\}\n\n", found)
    following.leave()
    following.leave()
    assert hub.followers == 0
    hub.close()
    with pytest.raises(ProblemError):
        hub.follow(record.id, None)
    await store.close()
    await asyncio.to_thread(client.post, f"/v1/rollouts/{rollout}/abort")


@pytest.mark.parametrize(("text", "position"), [("0", (0, 0)), ("17", (17, 0)), ("17-3", (17, 3))])
def test_an_id_is_a_position(text: str, position: tuple[int, int]) -> None:
    assert position_of(text) == position
