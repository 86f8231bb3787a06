"""Many events of a PBX become one rollout: quiet periods, cool-downs, several processes, crashes. Time is moved by hand."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import structlog
from redis import Redis

from resyncctl.engine.hook_signature import sign
from resyncctl.engine.hooks import CLAIM, HookAuth, HookEvent, Hooks, new_hook
from resyncctl.engine.launch import Launcher
from resyncctl.engine.order import read_order
from resyncctl.engine.results import results
from resyncctl.errors import AccessError, InputError, NotFoundError, StateError
from resyncctl.rollout.model import RolloutId
from resyncctl.store import keys
from resyncctl.store.audit import Actor, AuditLog
from resyncctl.store.hooks import HookStore, listed
from resyncctl.store.redis_store import RedisStore
from resyncctl.store.service import Freeze, ServiceStore
from tests.peers.redis_server import RedisServer
from tests.peers.waiting import wait_until_async

pytestmark = pytest.mark.needs("redis-server")

START = 1_800_000_000.0
SECRET = "a secret of a hook"
ADMIN = Actor("admin@pbx")
ALL = HookEvent()
PHONES = ["aor,contact", *(f"sip:{n}@pbx.test,sip:line{n}@127.0.0.1:9" for n in range(1000, 1010))]


@dataclass
class Clock:
    """Seconds since 1970 that stand still unless they are moved."""

    at: float = START

    def now_us(self) -> int:
        return round(self.at * 1_000_000)


@dataclass
class Pbx:
    """One hook, told of events and observed."""

    store: RedisStore
    clock: Clock
    phones: Path
    log: structlog.testing.LogCapture = field(default_factory=structlog.testing.LogCapture)

    def process(self, store: RedisStore | None = None) -> Hooks:
        """One of the processes that take calls and launch."""
        used = store or self.store
        log: structlog.typing.FilteringBoundLogger = structlog.wrap_logger(None, processors=[self.log])
        return Hooks(used, Launcher(used, {}), log, now_us=self.clock.now_us)

    async def hook(self, hooks: Hooks, *, cool_down: float = 0.0, auth: HookAuth = HookAuth.HMAC) -> None:
        order: dict[str, object] = {"phones_file": str(self.phones)}
        record = new_hook("pbx", order, now_us=1, secret=SECRET, cool_down=cool_down, auth=auth)
        await hooks.add(record, ADMIN)

    async def rollouts(self) -> dict[str, list[str]]:
        """The users of each rollout's targets, by ID."""
        found: dict[str, list[str]] = {}
        for record in reversed(await self.store.newest(100)):
            rows = [target async for target, _, _ in results(self.store, record, frozenset())]
            found[record.id] = sorted(target.aor.removeprefix("sip:").partition("@")[0] for target in rows)
        return found

    async def note(self) -> str:
        return (await HookStore(self.store).status("pbx")).last_note


@pytest.fixture
def url(shared_redis: RedisServer) -> str:
    """A database of its own, empty."""
    own = shared_redis.url.replace("/0", "/7")
    with Redis.from_url(own) as client:
        client.flushdb()
    return own


@pytest.fixture
async def pbx(url: str, tmp_path: Path) -> AsyncIterator[Pbx]:
    phones = tmp_path / "phones.csv"
    phones.write_text("\n".join(PHONES))
    store = RedisStore(url)
    yield Pbx(store, Clock(), phones)
    await store.close()


@pytest.fixture
async def hooks(pbx: Pbx) -> Hooks:
    """A process with the hook `pbx`: quiet for 5 s, waiting 60 s at most."""
    made = pbx.process()
    await pbx.hook(made)
    return made


def event(*extensions: str) -> HookEvent:
    return HookEvent(extensions)


async def call(hooks: Hooks, told: HookEvent = ALL) -> dict[str, object]:
    return await hooks.call("pbx", event=told, source="10.0.0.9")


# Coalescing


async def test_forty_calls_in_ten_seconds_become_one_rollout_after_the_quiet_period(pbx: Pbx, hooks: Hooks) -> None:
    answers = []
    for number in range(40):
        answers.append(await call(hooks, event(str(1000 + number % 3))))
        await hooks.fire()
        pbx.clock.at += 0.25
    pbx.clock.at = START + 39 * 0.25 + 4.999
    await hooks.fire()
    assert await pbx.rollouts() == {}
    pbx.clock.at += 0.001
    await hooks.fire()
    await hooks.fire()
    assert await pbx.rollouts() == {"hook-pbx-1": ["1000", "1001", "1002"]}
    assert answers[0] == {"rollout": "hook-pbx-1", "fires_at": "2027-01-15T08:01:00.000000Z", "joined": False}
    assert answers[1:] == [{**answers[0], "joined": True}] * 39
    assert [(one["event"], one["calls"]) for one in pbx.log.entries] == [("hook_fired", 40)]


async def test_calls_that_never_pause_are_launched_at_the_longest_wait(pbx: Pbx, hooks: Hooks) -> None:
    for _ in range(60):
        await call(hooks)
        await hooks.fire()
        pbx.clock.at += 1
    assert await pbx.rollouts() == {}
    await call(hooks)
    await hooks.fire()
    assert list(await pbx.rollouts()) == ["hook-pbx-1"]


async def test_a_call_for_all_absorbs_the_extensions(pbx: Pbx, hooks: Hooks) -> None:
    for told in (event("1001"), ALL, event("1002")):
        await call(hooks, told)
    pbx.clock.at += 5
    await hooks.fire()
    assert await pbx.rollouts() == {"hook-pbx-1": [str(n) for n in range(1000, 1010)]}


async def test_a_call_after_the_launch_opens_the_next_rollout(pbx: Pbx, hooks: Hooks) -> None:
    for told in (event("1001"), event("1002")):
        await call(hooks, told)
        pbx.clock.at += 5
        await hooks.fire()
    assert await pbx.rollouts() == {"hook-pbx-1": ["1001"], "hook-pbx-2": ["1002"]}


@pytest.mark.parametrize("spelling", ["1003", "1003@pbx.test", "SIP:1003@PBX.test;user=phone", "line1003"])
async def test_a_phone_is_named_by_its_user_its_aor_or_its_contact(pbx: Pbx, hooks: Hooks, spelling: str) -> None:
    await call(hooks, event(spelling, "1003@elsewhere.test"))
    pbx.clock.at += 5
    await hooks.fire()
    assert await pbx.rollouts() == {"hook-pbx-1": ["1003"]}


async def test_phones_of_a_large_file_are_chosen_in_the_process_that_plans_it(pbx: Pbx, hooks: Hooks) -> None:
    pbx.phones.write_text("\n".join(["aor,model", *(f"sip:{n}@pbx.test,{'x' * 500}" for n in range(2500))]))
    await call(hooks, event("7", "2499"))
    pbx.clock.at += 5
    await hooks.fire()
    assert await pbx.rollouts() == {"hook-pbx-1": ["2499", "7"]}


async def test_naming_every_phone_gives_the_plan_of_naming_none(pbx: Pbx) -> None:
    launcher = Launcher(pbx.store, {})
    order = read_order({"phones_file": str(pbx.phones), "options": {"seed": 1}})
    named = read_order({**order.model_dump(mode="json"), "extensions": [str(n) for n in range(1000, 1010)]})
    assert (await launcher.plan(order)).hash == (await launcher.plan(named)).hash


async def test_no_phone_that_matches_is_nothing_to_do_and_no_error(pbx: Pbx, hooks: Hooks) -> None:
    await call(hooks, event("4711"))
    pbx.clock.at += 5
    await hooks.fire()
    assert await pbx.rollouts() == {}
    assert (await pbx.note()).startswith("nothing to do: no phone is left")
    pbx.clock.at += 3600
    await hooks.fire()
    assert [one["event"] for one in pbx.log.entries] == ["hook_ended_without_rollout"]
    assert (await HookStore(pbx.store).status("pbx")).rollouts == 0


# Several processes, and crashes


async def test_any_number_of_processes_take_calls_and_one_of_them_launches(pbx: Pbx, hooks: Hooks, url: str) -> None:
    stores = [RedisStore(url) for _ in range(4)]
    processes = [pbx.process(store) for store in stores]
    answers = await asyncio.gather(*(call(process, event("1001")) for process in processes for _ in range(50)))
    assert [answer["joined"] for answer in answers].count(False) == 1
    pbx.clock.at += 5
    await asyncio.gather(*(process.fire() for process in processes))
    assert await pbx.rollouts() == {"hook-pbx-1": ["1001"]}
    launches = [one for one in await AuditLog(pbx.store).newest(100) if one.action == "rollout.launch"]
    assert [(one.actor, one.source, one.subject) for one in launches] == [("hook:pbx", "10.0.0.9", "hook-pbx-1")]
    assert sum(int(one["calls"]) for one in pbx.log.entries) == 200
    for store in stores:
        await store.close()


async def take_and_die(pbx: Pbx) -> None:
    taken = await HookStore(pbx.store).take("pbx", now_us=pbx.clock.now_us(), token="dead", claim=CLAIM)
    assert taken is not None


async def test_what_a_process_took_before_it_died_is_launched_by_another(pbx: Pbx, hooks: Hooks) -> None:
    await call(hooks, event("1001"))
    pbx.clock.at += 5
    await take_and_die(pbx)
    await call(hooks, event("1002"))
    pbx.clock.at += CLAIM - 0.001
    await hooks.fire()
    assert await pbx.rollouts() == {}
    pbx.clock.at += 0.001
    await hooks.fire()
    assert await pbx.rollouts() == {"hook-pbx-1": ["1001"]}
    await hooks.fire()
    assert await pbx.rollouts() == {"hook-pbx-1": ["1001"], "hook-pbx-2": ["1002"]}


async def test_a_process_that_dies_after_the_launch_leaves_one_rollout(pbx: Pbx, hooks: Hooks) -> None:
    await call(hooks, event("1001"))
    pbx.clock.at += 5
    await take_and_die(pbx)
    order = read_order({"phones_file": str(pbx.phones), "extensions": ["1001"]})
    await Launcher(pbx.store, {}).launch(order, ADMIN, name="hook-pbx-1")
    pbx.phones.write_text("\n".join(PHONES[:3]))  # whoever plans it again would find other phones
    pbx.clock.at += CLAIM
    await hooks.fire()
    assert await pbx.rollouts() == {"hook-pbx-1": ["1001"]}
    status = await HookStore(pbx.store).status("pbx")
    assert (status.launching, status.last_rollout, status.rollouts) == ("", "hook-pbx-1", 1)


async def test_a_claim_that_was_lost_ends_nothing_that_another_has_taken(pbx: Pbx, hooks: Hooks) -> None:
    kept = HookStore(pbx.store)
    await call(hooks)
    pbx.clock.at += 5
    await take_and_die(pbx)
    pbx.clock.at += CLAIM
    assert await kept.take("pbx", now_us=pbx.clock.now_us(), token="second", claim=CLAIM) is not None
    assert not await kept.done("pbx", token="dead", now_us=pbx.clock.now_us(), cool_down=0)
    assert not await kept.renew("pbx", token="dead", until_us=pbx.clock.now_us() + 10**9)
    assert (await kept.status("pbx")).launching == "hook-pbx-1"


async def test_phones_that_cannot_be_read_are_tried_five_times_and_no_call_piles_up_behind_them(
    pbx: Pbx, hooks: Hooks
) -> None:
    pbx.phones.write_text("aor\nno address\n")
    await call(hooks)
    pbx.clock.at += 5
    for _ in range(100):
        await hooks.fire()
        pbx.clock.at += 1
    assert [one["event"] for one in pbx.log.entries] == ["hook_put_off"] * 4 + ["hook_gave_up"]
    assert [one.get("seconds") for one in pbx.log.entries] == [2, 4, 8, 16, None]
    assert (await pbx.note()).startswith("gave up after 5 tries: ")
    pbx.phones.write_text("\n".join(PHONES))
    await call(hooks, event("1001"))
    pbx.clock.at += 5
    await hooks.fire()
    assert await pbx.rollouts() == {"hook-pbx-2": ["1001"]}


async def test_during_a_freeze_calls_are_kept_until_it_is_lifted(pbx: Pbx, hooks: Hooks) -> None:
    service = ServiceStore(pbx.store)
    await service.freeze(Freeze("admin", 1, "fire drill"))
    await call(hooks, event("1001"))
    for _ in range(600):
        pbx.clock.at += 5
        await hooks.fire()
    assert await pbx.rollouts() == {}
    assert "fire drill" in await pbx.note()
    await call(hooks, event("1002"))
    await service.thaw()
    pbx.clock.at += 60
    await hooks.fire()
    await hooks.fire()
    assert await pbx.rollouts() == {"hook-pbx-1": ["1001"], "hook-pbx-2": ["1002"]}


# Cool-down


async def fires(pbx: Pbx, hooks: Hooks, *, at: float) -> dict[str, list[str]]:
    """Launch what is due until that time, second by second; return the rollouts that there are then."""
    while pbx.clock.at < START + at:
        pbx.clock.at = min(pbx.clock.at + 1, START + at)
        await hooks.fire()
    return await pbx.rollouts()


async def test_a_phone_in_its_cool_down_is_sent_to_when_that_ends(pbx: Pbx) -> None:
    hooks = pbx.process()
    await pbx.hook(hooks, cool_down=600)
    await call(hooks, event("1001"))
    assert await fires(pbx, hooks, at=5) == {"hook-pbx-1": ["1001"]}
    answer = await call(hooks, event("1001", "1002"))
    assert answer["fires_at"] == "2027-01-15T08:11:05.000000Z"  # START + 5 + 600, and the longest wait
    assert await fires(pbx, hooks, at=604.9) == {"hook-pbx-1": ["1001"], "hook-pbx-2": ["1002"]}
    assert await fires(pbx, hooks, at=605) == {"hook-pbx-1": ["1001"], "hook-pbx-2": ["1002"], "hook-pbx-3": ["1001"]}
    assert await fires(pbx, hooks, at=2000) == {
        "hook-pbx-1": ["1001"], "hook-pbx-2": ["1002"], "hook-pbx-3": ["1001"],
    }  # fmt: skip


async def test_phones_whose_cool_downs_end_close_together_share_a_rollout(pbx: Pbx) -> None:
    hooks = pbx.process()
    await pbx.hook(hooks, cool_down=600)
    for number in range(4):
        await call(hooks, event(f"100{number}"))
        await fires(pbx, hooks, at=6 * number + 6)
    await call(hooks, event("1000", "1001", "1002", "1003"))
    made = await fires(pbx, hooks, at=2000)
    assert made == {f"hook-pbx-{n + 1}": [f"100{n}"] for n in range(4)} | {
        "hook-pbx-5": ["1000", "1001", "1002", "1003"]
    }
    five = await pbx.store.get(RolloutId("hook-pbx-5"))
    assert five.targets == 4


async def test_phones_that_wait_for_their_cool_down_hurry_no_others_and_are_not_held_up_by_them(pbx: Pbx) -> None:
    hooks = pbx.process()
    await pbx.hook(hooks, cool_down=600)
    await call(hooks, event("1001"))
    await fires(pbx, hooks, at=45)
    await call(hooks, event("1002"))
    await fires(pbx, hooks, at=60)
    await call(hooks, event("1001", "1002"))  # may be sent to again at 605 and 650: together, at 650
    await fires(pbx, hooks, at=200)
    await call(hooks, event("1003"))
    assert len(await fires(pbx, hooks, at=204)) == 2
    assert len(await fires(pbx, hooks, at=205)) == 3
    await fires(pbx, hooks, at=640)
    for second in range(640, 665):
        await call(hooks, event("1004"))
        assert len(await fires(pbx, hooks, at=second + 1 if second < 664 else 664.9)) == 3
    made = await fires(pbx, hooks, at=665)  # 605 and the longest wait
    assert list(made.values())[3:] == [["1001", "1002", "1004"]]
    assert 0 < await pbx.store.client.pttl(keys.hook("pbx", "sent")) <= 600_000


async def test_nobody_takes_what_is_not_due(pbx: Pbx, hooks: Hooks) -> None:
    await call(hooks)
    pbx.clock.at += 4.9
    kept = HookStore(pbx.store)
    assert await kept.take("pbx", now_us=pbx.clock.now_us(), token="early", claim=CLAIM) is None
    assert await kept.due() == [("pbx", round((START + 5) * 1_000_000))]


async def test_a_cool_down_knows_a_phone_by_user_and_by_aor(pbx: Pbx) -> None:
    hooks = pbx.process()
    await pbx.hook(hooks, cool_down=600)
    await call(hooks, event("1001@pbx.test", "1002"))
    assert len(await fires(pbx, hooks, at=5)) == 1
    await call(hooks, event("1001", "1002@pbx.test", "SIP:1001@PBX.test;user=phone"))
    assert len(await fires(pbx, hooks, at=500)) == 1
    await call(hooks, event("1001@other.test"))  # another phone of the same number, elsewhere
    assert len(await fires(pbx, hooks, at=520)) == 1
    assert "nothing to do" in await pbx.note()


async def test_a_call_for_all_waits_for_the_whole_hook_and_what_comes_then_too(pbx: Pbx) -> None:
    hooks = pbx.process()
    await pbx.hook(hooks, cool_down=600)
    everybody = [str(n) for n in range(1000, 1010)]
    await call(hooks, event("1001"))
    await fires(pbx, hooks, at=5)
    assert (await call(hooks))["fires_at"] == "2027-01-15T08:10:05.000000Z"
    assert len(await fires(pbx, hooks, at=604)) == 1
    assert await fires(pbx, hooks, at=605) == {"hook-pbx-1": ["1001"], "hook-pbx-2": everybody}
    await call(hooks, event("1009"))  # was sent to with all the others
    assert len(await fires(pbx, hooks, at=1204)) == 2
    assert await fires(pbx, hooks, at=1205) == {
        "hook-pbx-1": ["1001"], "hook-pbx-2": everybody, "hook-pbx-3": ["1009"],
    }  # fmt: skip


async def test_what_was_not_sent_has_no_cool_down(pbx: Pbx) -> None:
    hooks = pbx.process()
    await pbx.hook(hooks, cool_down=600)
    await call(hooks, event("4711"))
    await fires(pbx, hooks, at=5)
    pbx.phones.write_text("aor\nsip:4711@pbx.test")
    await call(hooks, event("4711"))
    assert await fires(pbx, hooks, at=10) == {"hook-pbx-2": ["4711"]}


# Hooks themselves


async def test_a_hook_that_is_removed_is_forgotten_but_its_rollouts_numbers_never_come_again(
    pbx: Pbx, hooks: Hooks
) -> None:
    await call(hooks)
    pbx.clock.at += 5
    await hooks.fire()
    await call(hooks)
    await hooks.remove("pbx", ADMIN)
    assert await HookStore(pbx.store).due() == []
    pbx.clock.at += 500
    await hooks.fire()
    assert list(await pbx.rollouts()) == ["hook-pbx-1"]
    for refused in (call(hooks), hooks.remove("pbx", ADMIN)):
        with pytest.raises(NotFoundError, match="there is no hook 'pbx'"):
            await refused
    left = [key.decode() for key in await pbx.store.client.keys("resyncctl:hook*")]
    assert left == [keys.hook("pbx", "windows")]
    await pbx.hook(hooks)
    assert (await call(hooks))["rollout"] == "hook-pbx-3"
    entries = [(one.action, one.actor) for one in await AuditLog(pbx.store).newest(9) if one.subject == "pbx"]
    assert entries == [("hook.add", "admin@pbx"), ("hook.remove", "admin@pbx"), ("hook.add", "admin@pbx")]


async def test_a_hook_that_could_never_launch_is_not_kept(pbx: Pbx, tmp_path: Path) -> None:
    hooks = pbx.process()

    def order(**more: object) -> dict[str, object]:
        return {"phones_file": str(pbx.phones), **more}

    wrong: list[Callable[[], object]] = [
        lambda: new_hook("a b", order(), now_us=1, secret=SECRET),
        lambda: new_hook("x" * 41, order(), now_us=1, secret=SECRET),
        lambda: new_hook("a", {"phones": [{"aor": "sip:1@pbx.test"}]}, now_us=1, secret=SECRET),
        lambda: new_hook("a", order(extensions=["1"]), now_us=1, secret=SECRET),
        lambda: new_hook("a", order(options={"colour": "red"}), now_us=1, secret=SECRET),
        lambda: new_hook("a", order(), now_us=1, secret=SECRET, quiet=61),
        lambda: new_hook("a", order(), now_us=1, secret=SECRET, cool_down=-1),
        lambda: new_hook("a", order(), now_us=1, secret="short"),
    ]
    for make in wrong:
        with pytest.raises(InputError):
            make()
    absent = new_hook("a", {"phones_file": str(tmp_path / "absent.csv")}, now_us=1, secret=SECRET)
    dangerous = new_hook(
        "a", {"phones_file": str(tmp_path / "aastra.csv"), "options": {"action": "resync"}}, now_us=1, secret=SECRET
    )
    (tmp_path / "aastra.csv").write_text("aor,user_agent\nsip:1@10.0.0.1,Aastra 6865i/4.2.0.2023\n")
    for record, complaint in ((absent, "absent.csv"), (dangerous, "needs the option yes")):
        with pytest.raises(InputError, match=complaint):
            await hooks.add(record, ADMIN)
    await pbx.hook(hooks)
    with pytest.raises(StateError, match="a hook 'pbx' already"):
        await pbx.hook(hooks)
    assert [record.name for record in await HookStore(pbx.store).list()] == ["pbx"]


async def test_the_secret_is_kept_for_signatures_and_shown_nowhere(pbx: Pbx, hooks: Hooks) -> None:
    kept = HookStore(pbx.store)
    record = await kept.get("pbx")
    assert record.secret == SECRET
    shown = listed(record, await kept.status("pbx"))
    assert shown["secret"] == "***"
    audit = str(await AuditLog(pbx.store).newest(9))
    assert SECRET not in repr(record) + str(shown) + audit + str(pbx.log.entries)


async def test_a_signed_call_is_good_once(pbx: Pbx, hooks: Hooks) -> None:
    record = await HookStore(pbx.store).get("pbx")
    now = pbx.clock.now_us()

    async def verify(body: bytes, secret: str = SECRET) -> None:
        at = str(int(START))
        headers = {"x-resyncctl-timestamp": at, "x-resyncctl-signature": sign(secret, at, body)}
        await hooks.verify(record, headers=headers, query={}, body=body, now_us=now)

    with pytest.raises(AccessError, match="the signature is wrong"):
        await verify(b"1", secret="another secret of a hook")
    await verify(b"1")
    with pytest.raises(AccessError, match="used already") as refused:
        await verify(b"1")
    assert not refused.value.known
    await verify(b"2")
    [key, _] = await pbx.store.client.keys(keys.hook("pbx", "seen:*"))
    assert 590 < await pbx.store.client.ttl(key) <= 600


async def test_a_hook_for_tokens_has_no_secret_and_believes_no_signature(pbx: Pbx) -> None:
    hooks = pbx.process()
    await pbx.hook(hooks, auth=HookAuth.TOKEN)
    record = await HookStore(pbx.store).get("pbx")
    assert record.secret == ""
    headers = {"x-resyncctl-timestamp": str(int(START)), "x-resyncctl-signature": sign("", str(int(START)), b"")}
    with pytest.raises(AccessError, match="with an API token, not with a signature"):
        await hooks.verify(record, headers=headers, query={}, body=b"", now_us=pbx.clock.now_us())


# In real time


async def test_a_running_process_fires_what_another_was_told_and_survives_a_restart_of_redis(
    redis_server: RedisServer, tmp_path: Path
) -> None:
    (tmp_path / "phones.csv").write_text("\n".join(PHONES))
    with Redis.from_url(redis_server.url) as client:
        client.config_set("appendfsync", "always")
    store, other = RedisStore(redis_server.url), RedisStore(redis_server.url)
    pbx = Pbx(store, Clock(), tmp_path / "phones.csv")

    def logged(name: str) -> bool:
        return any(one["event"] == name for one in pbx.log.entries)

    hooks = pbx.process()
    await pbx.hook(hooks)
    running = asyncio.create_task(hooks.run())
    await call(pbx.process(other), event("1001"))
    redis_server.kill()
    await wait_until_async(lambda: logged("redis_lost"), "it has noticed", within=10)
    redis_server.restart()
    pbx.clock.at += 5
    await wait_until_async(lambda: logged("hook_fired"), "it has launched", within=10)
    hooks.stop()
    await asyncio.wait_for(running, 5)
    assert await pbx.rollouts() == {"hook-pbx-1": ["1001"]}
    await store.close()
    await other.close()


async def test_a_storm_of_calls_costs_little_and_fills_no_memory(pbx: Pbx, hooks: Hooks) -> None:
    times = []

    async def storm(calls: int) -> int:
        for number in range(calls):
            begun = time.perf_counter()
            await call(hooks, event(str(1000 + number % 1000)))
            times.append(time.perf_counter() - begun)
        return int(str((await pbx.store.info())["used_memory"]))

    before = await storm(2000)
    after = await storm(4000)
    assert after - before < 100_000
    assert sorted(times)[len(times) // 2] < 0.005  # 0.2 ms on an idle machine
    pbx.clock.at += 5
    await hooks.fire()
    assert list(await pbx.rollouts()) == ["hook-pbx-1"]


async def test_more_phones_than_a_rollout_may_name_are_all_phones(pbx: Pbx, hooks: Hooks) -> None:
    for part in range(11):
        await call(hooks, HookEvent(tuple(str(part * 10_000 + n) for n in range(10_000))))
    assert (await HookStore(pbx.store).status("pbx")).phones is None
    pbx.clock.at += 5
    await hooks.fire()
    assert await pbx.rollouts() == {"hook-pbx-1": [str(n) for n in range(1000, 1010)]}
