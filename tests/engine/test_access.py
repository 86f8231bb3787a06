"""Tokens and the audit log on a real Redis; time is moved by hand."""

from __future__ import annotations

import asyncio
import hashlib
import inspect
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import FrozenInstanceError, dataclass

import pytest

from resyncctl.engine.access import Access, Caller, Scope, TokenRecord, token_report
from resyncctl.errors import AccessError, InputError, NotFoundError, StoreError
from resyncctl.store import keys
from resyncctl.store.audit import Actor, AuditEntry, AuditLog
from resyncctl.store.redis_store import RedisStore
from resyncctl.store.tokens import MARK, StoredToken, TokenStore
from tests.peers.redis_server import RedisServer

pytestmark = pytest.mark.needs("redis-server")

BEGINNING = 1_767_225_600_000_000
"""2026-01-01T00:00:00Z"""
HERE = "192.0.2.7"
OPS = Actor("root@pbx")


@dataclass
class Clock:
    """Wall clock and monotonic clock, moved by hand."""

    seconds: float = 0.0

    def now_us(self) -> int:
        return BEGINNING + round(self.seconds * 1_000_000)

    def monotonic(self) -> float:
        return self.seconds


@pytest.fixture
def url(shared_redis: RedisServer) -> str:
    """A database that no other test of the engine uses."""
    return shared_redis.url.removesuffix("/0") + "/9"


@pytest.fixture
async def store(url: str) -> AsyncIterator[RedisStore]:
    async with opened(url) as one:
        await one.client.flushdb()
        yield one


@asynccontextmanager
async def opened(url: str) -> AsyncIterator[RedisStore]:
    """A store, as another process has one."""
    one = RedisStore(url)
    try:
        yield one
    finally:
        await one.close()


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def access(store: RedisStore, clock: Clock) -> Access:
    return Access(store, now_us=clock.now_us, monotonic=clock.monotonic)


async def made(access: Access, name: str = "ops", scope: Scope = Scope.OPERATE, *networks: str) -> str:
    """Make a token that lasts for ever."""
    return await access.create(name, scope, expires_us=None, networks=networks)


async def refusal(access: Access, authorization: str | None, source: str = HERE) -> str:
    """Return why a request is refused; it must be refused as one that nobody knows."""
    with pytest.raises(AccessError) as caught:
        await access.authenticate(authorization, source)
    assert caught.value.known is False
    return str(caught.value)


async def reads(store: RedisStore) -> int:
    """How often this server was asked for all tokens."""
    stats = (await store.client.info("commandstats")).get("cmdstat_hgetall", {"calls": 0})
    return int(stats["calls"])


# Who gets in


async def test_a_token_names_its_caller_and_scope(access: Access) -> None:
    token = await made(access)
    caller = await access.authenticate(f"Bearer {token}", HERE)
    assert caller == Caller("ops", Scope.OPERATE, HERE)
    assert caller.actor == Actor("token:ops", HERE)


async def test_a_token_is_rsy_and_32_random_bytes(access: Access) -> None:
    one, other = await made(access, "one"), await made(access, "other")
    for token in (one, other):
        assert token.startswith("rsy_")
        assert len(token) == 4 + 43
    assert one[4:20] != other[4:20]


@pytest.mark.parametrize("scheme", ["Bearer ", "bearer ", "BEARER   "])
async def test_the_scheme_may_be_written_in_any_case(access: Access, scheme: str) -> None:
    token = await made(access)
    assert (await access.authenticate(scheme + token, HERE)).name == "ops"


@pytest.mark.parametrize("header", [None, ""])
async def test_a_missing_header_is_told_what_to_send(access: Access, header: str | None) -> None:
    assert await refusal(access, header) == (
        "this needs a token: send `Authorization: Bearer TOKEN`; `resyncctl token create` makes a token"
    )


@pytest.mark.parametrize("form", ["Basic {}", "{}", "Bearer", "Bearer ", "Token {}", "Bearer{}"])
async def test_a_wrong_scheme_is_refused_without_repeating_what_was_sent(access: Access, form: str) -> None:
    token = await made(access)
    text = await refusal(access, form.format(token))
    assert text.startswith("the Authorization header does not carry a bearer token: send")
    assert token[4:] not in text


async def test_wrong_tokens_are_refused(access: Access) -> None:
    token = await made(access)
    digest = hashlib.sha256(token.encode()).hexdigest()
    swapped = token[:-2] + token[-1] + ("A" if token[-2] != "A" else "B")
    wrong = [token[:-1], token + "A", token[4:], token.upper(), swapped, f"{token} {token}", digest, "x", "\udcff", "é"]
    for other in wrong:
        assert (await refusal(access, f"Bearer {other}")).startswith("this token is not accepted from 192.0.2.7")


async def test_the_whole_hash_is_compared(access: Access, store: RedisStore) -> None:
    digest = hashlib.sha256(b"rsy_close").digest()
    record = TokenRecord("ops", Scope.ADMIN, BEGINNING, None, ())
    await TokenStore(store).add(StoredToken(record, digest[:31] + bytes([digest[31] ^ 1])))
    await refusal(access, "Bearer rsy_close")


async def test_nobody_gets_in_while_there_is_no_token(access: Access) -> None:
    await refusal(access, "Bearer x")
    await refusal(access, f"Bearer {MARK}{'A' * 43}")


async def test_the_refusal_does_not_tell_an_unknown_token_from_a_known_one(access: Access, clock: Clock) -> None:
    far = await made(access, "far", Scope.READ, "10.0.0.0/8")
    old = await access.create("old", Scope.READ, expires_us=clock.now_us() + 1, networks=())
    gone = await made(access, "gone")
    await access.revoke("gone")
    clock.seconds = 1
    texts = {await refusal(access, f"Bearer {token}") for token in (far, old, gone, "rsy_unknown")}
    assert len(texts) == 1


async def test_a_token_ends_at_its_expiry_also_in_the_cache(access: Access, clock: Clock) -> None:
    token = await access.create("brief", Scope.READ, expires_us=clock.now_us() + 500_000, networks=())
    clock.seconds = 0.499_999
    await access.authenticate(f"Bearer {token}", HERE)
    clock.seconds = 0.5
    await refusal(access, f"Bearer {token}")


@pytest.mark.parametrize(
    ("network", "inside", "outside"),
    [
        ("10.0.0.0/8", "10.255.0.1", "11.0.0.1"),
        ("192.0.2.7", "192.0.2.7", "192.0.2.8"),
        ("10.0.0.0/8", "::ffff:10.0.0.1", "::ffff:11.0.0.1"),
        ("::ffff:10.0.0.0/104", "10.1.2.3", "::ffff:11.0.0.1"),
        ("2001:db8::/32", "2001:db8::1", "2001:db9::1"),
        ("2001:db8::1", "2001:DB8:0::1", "2001:db8::2"),
        ("fe80::/10", "fe80::1%eth0", "fec0::1"),
        ("0.0.0.0/0", "203.0.113.1", "2001:db8::1"),
        ("::/0", "2001:db8::1", "203.0.113.1"),
        ("10.0.0.0/8", "10.0.0.1", "local"),
        ("0.0.0.0/0", "10.0.0.1", ""),
    ],
)
async def test_a_token_works_only_from_its_networks(access: Access, network: str, inside: str, outside: str) -> None:
    token = await made(access, "near", Scope.READ, "198.51.100.0/24", network)
    assert (await access.authenticate(f"Bearer {token}", inside)).name == "near"
    await refusal(access, f"Bearer {token}", outside)


@pytest.mark.parametrize(
    ("source", "shown"), [("::ffff:192.0.2.1", "192.0.2.1"), ("2001:DB8::0:1", "2001:db8::1"), ("local", "local")]
)
async def test_where_a_request_comes_from_is_told_in_one_form(access: Access, source: str, shown: str) -> None:
    token = await made(access)
    assert (await access.authenticate(f"Bearer {token}", source)).source == shown


@pytest.mark.parametrize(
    ("scope", "allowed"),
    [
        (Scope.READ, [True, False, False, False]),
        (Scope.TRIGGER, [True, True, False, False]),
        (Scope.OPERATE, [True, True, True, False]),
        (Scope.ADMIN, [True, True, True, True]),
    ],
)
async def test_each_scope_includes_the_lower_ones_and_no_higher(
    access: Access, scope: Scope, allowed: list[bool]
) -> None:
    caller = await access.authenticate(f"Bearer {await made(access, 'one', scope)}", HERE)
    for needed, may in zip((Scope.READ, Scope.TRIGGER, Scope.OPERATE, Scope.ADMIN), allowed, strict=True):
        if may:
            caller.require(needed)
            continue
        with pytest.raises(AccessError, match=f"needs a token with the scope {needed.label}; the token one") as caught:
            caller.require(needed)
        assert caught.value.known is True


# Making, listing, revoking


@pytest.mark.parametrize(
    "name", ["", " ", "a b", "a/b", "a\n", "-a", ".a", "ä", "a" * 65, "a\x00", "a:b", "{a}", "*", "'; FLUSHALL"]
)
async def test_a_name_that_is_none_is_refused_and_stores_nothing(access: Access, store: RedisStore, name: str) -> None:
    for action in (lambda: made(access, name), lambda: access.revoke(name), lambda: access.get(name)):
        with pytest.raises(InputError, match="cannot name a token: use up to 64 letters"):
            await action()
    assert await store.client.keys("*") == []


async def test_what_looks_like_a_token_is_no_name_and_is_not_repeated(access: Access) -> None:
    token = await made(access)
    for action in (lambda: made(access, token), lambda: access.revoke(token)):
        with pytest.raises(InputError, match="a token's name does not begin with rsy_") as caught:
            await action()
        assert token not in str(caught.value)


@pytest.mark.parametrize("name", ["a", "A.b_c-9", "0", "a" * 64])
async def test_a_plain_name_is_taken(access: Access, name: str) -> None:
    token = await made(access, name)
    assert (await access.authenticate(f"Bearer {token}", HERE)).name == name


@pytest.mark.parametrize("network", ["", "10.0.0.5/8", "10.0.0.0/33", "pbx.example", "10.0.0.0/8, 11.0.0.0/8", "10/8"])
async def test_a_wrong_network_is_named(access: Access, network: str) -> None:
    with pytest.raises(InputError, match="is not a network") as caught:
        await made(access, "ops", Scope.READ, "192.0.2.0/24", network)
    assert repr(network) in str(caught.value)
    assert await access.list() == []


async def test_a_token_that_would_have_expired_is_refused(access: Access, clock: Clock) -> None:
    with pytest.raises(InputError, match="the token late would have expired already"):
        await access.create("late", Scope.READ, expires_us=clock.now_us(), networks=())


async def test_a_taken_name_is_refused_and_its_token_goes_on(access: Access) -> None:
    token = await made(access)
    with pytest.raises(InputError, match="there is a token ops already"):
        await made(access, "ops", Scope.ADMIN)
    assert (await access.authenticate(f"Bearer {token}", HERE)).scope is Scope.OPERATE


async def test_of_many_creations_at_once_exactly_one_wins(url: str, store: RedisStore) -> None:
    async with opened(url) as one, opened(url) as other:
        both = [Access(one), Access(other)] * 5
        answers = await asyncio.gather(*(made(access) for access in both), return_exceptions=True)
        tokens = [answer for answer in answers if isinstance(answer, str)]
        assert len(tokens) == 1
        assert all(isinstance(answer, InputError) for answer in answers if answer not in tokens)
        assert (await both[0].authenticate(f"Bearer {tokens[0]}", HERE)).name == "ops"
        assert [entry.action for entry in await AuditLog(store).newest(100)] == ["token.create"]


async def test_tokens_are_listed_by_name_with_all_that_may_be_told(access: Access, clock: Clock) -> None:
    token = await access.create(
        "b", Scope.ADMIN, expires_us=BEGINNING + 90_000_000, networks=["10.0.0.0/8", "10.0.0.0/8"]
    )
    await made(access, "a", Scope.READ)
    clock.seconds = 60
    await access.authenticate(f"Bearer {token}", "10.0.0.1")
    assert await access.list() == [
        TokenRecord("a", Scope.READ, BEGINNING, None, (), 0),
        TokenRecord("b", Scope.ADMIN, BEGINNING, BEGINNING + 90_000_000, ("10.0.0.0/8",), BEGINNING + 60_000_000),
    ]
    assert token_report(await access.get("b"), BEGINNING + 90_000_000) == {
        "name": "b",
        "scope": "admin",
        "created_at": "2026-01-01T00:00:00.000000Z",
        "expires_at": "2026-01-01T00:01:30.000000Z",
        "expired": True,
        "last_used_at": "2026-01-01T00:01:00.000000Z",
        "networks": ["10.0.0.0/8"],
    }


async def test_what_is_not_there_cannot_be_revoked_or_shown(access: Access) -> None:
    for action in (access.revoke, access.get):
        with pytest.raises(NotFoundError, match="there is no token nobody; `resyncctl token list`"):
            await action("nobody")


async def test_only_a_token_that_lasts_counts_as_one(access: Access, clock: Clock) -> None:
    assert not await access.any_token()
    await access.create("brief", Scope.READ, expires_us=clock.now_us() + 1_000_000, networks=())
    assert await access.any_token()
    clock.seconds = 1
    assert not await access.any_token()


async def test_a_record_of_another_version_is_named_and_lets_nobody_in(access: Access, store: RedisStore) -> None:
    token = await made(access)
    await store.client.hset(keys.TOKENS, "odd", b'{"scope": "galactic"}')
    with pytest.raises(StoreError, match="what Redis holds of the token 'odd' cannot be read"):
        await access.authenticate(f"Bearer {token}", HERE)
    await access.revoke("odd")
    await access.authenticate(f"Bearer {token}", HERE)


# The cache


async def test_a_hot_api_asks_redis_once_a_second(access: Access, store: RedisStore, clock: Clock) -> None:
    header = f"Bearer {await made(access)}"
    before = await reads(store)
    for hundredth in range(200):
        clock.seconds = hundredth / 100
        await access.authenticate(header, HERE)
    assert await reads(store) - before == 2


async def test_many_requests_at_once_share_one_read(url: str, store: RedisStore) -> None:
    access = Access(store)
    header = f"Bearer {await made(access)}"
    before = await reads(store)
    await asyncio.gather(*(access.authenticate(header, HERE) for _ in range(100)))
    assert await reads(store) - before == 1


async def test_a_flood_of_wrong_tokens_makes_one_read_at_a_time(store: RedisStore) -> None:
    access = Access(store)
    before = await reads(store)
    answers = await asyncio.gather(
        *(access.authenticate(f"Bearer {number}", HERE) for number in range(500)), return_exceptions=True
    )
    assert all(isinstance(answer, AccessError) for answer in answers)
    assert await reads(store) - before <= 3


async def test_a_token_made_elsewhere_works_at_once(access: Access, url: str, clock: Clock) -> None:
    await access.authenticate(f"Bearer {await made(access)}", HERE)  # the cache is fresh
    async with opened(url) as elsewhere:
        token = await made(Access(elsewhere), "new")
    assert (await access.authenticate(f"Bearer {token}", HERE)).name == "new"


async def test_a_token_revoked_elsewhere_is_refused_within_a_second(access: Access, url: str, clock: Clock) -> None:
    header = f"Bearer {await made(access)}"
    await access.authenticate(header, HERE)
    async with opened(url) as elsewhere:
        await Access(elsewhere).revoke("ops")
    clock.seconds = 1.0
    await refusal(access, header)


async def test_a_token_revoked_here_is_refused_at_once(access: Access) -> None:
    header = f"Bearer {await made(access)}"
    await access.authenticate(header, HERE)
    await access.revoke("ops")
    await refusal(access, header)


async def test_a_cached_check_costs_less_than_50_microseconds(store: RedisStore) -> None:
    access = Access(store)
    header = f"Bearer {await made(access, 'ops', Scope.READ, '2001:db8::/32', '10.0.0.0/8', '192.0.2.0/24')}"
    await access.authenticate(header, HERE)
    best = float("inf")
    for _ in range(10):
        began = time.thread_time()
        for _ in range(200):
            await access.authenticate(header, HERE)
        best = min(best, (time.thread_time() - began) / 200)
    assert best < 50e-6


async def test_redis_away_lets_nobody_in_once_the_second_is_over(redis_server: RedisServer, clock: Clock) -> None:
    async with opened(redis_server.url) as store:
        access = Access(store, now_us=clock.now_us, monotonic=clock.monotonic)
        header = f"Bearer {await made(access)}"
        await access.authenticate(header, HERE)
        redis_server.kill()
        clock.seconds = 0.999
        await access.authenticate(header, HERE)
        clock.seconds = 1.0
        with pytest.raises(StoreError, match="cannot be reached"):
            await access.authenticate(header, HERE)


async def test_requests_do_not_queue_up_behind_a_redis_that_does_not_answer(
    redis_server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("resyncctl.store.connection.TIMEOUT", 0.5)
    async with opened(redis_server.url) as store:
        access = Access(store)
        header = f"Bearer {await made(access)}"
        redis_server.freeze()
        try:
            began = time.monotonic()
            answers = await asyncio.gather(
                *(access.authenticate(header, HERE) for _ in range(20)), return_exceptions=True
            )
        finally:
            redis_server.thaw()
        assert all(isinstance(answer, StoreError) for answer in answers)
        assert time.monotonic() - began < 5.0  # one after the other they would take ten


# When a token was last used


async def test_its_use_is_noted_at_most_once_a_minute(access: Access, store: RedisStore, clock: Clock) -> None:
    header = f"Bearer {await made(access)}"
    noted = []
    for second in (10, 11, 40, 69, 70, 129, 131):
        clock.seconds = second
        await access.authenticate(header, HERE)
        noted.append(((await access.get("ops")).used_us - BEGINNING) // 1_000_000)
    assert noted == [10, 10, 10, 10, 70, 70, 131]


async def test_of_many_processes_one_notes_a_use(url: str, store: RedisStore, clock: Clock) -> None:
    header = f"Bearer {await made(Access(store, now_us=clock.now_us), 'ops')}"
    token = (await TokenStore(store).all())[0]
    records = [TokenRecord("ops", Scope.OPERATE, BEGINNING, None, (), second) for second in (7, 8, 9)]
    assert await asyncio.gather(*(TokenStore(store).replace(token, record) for record in records)) == [
        True,
        False,
        False,
    ]
    assert (await Access(store).authenticate(header, HERE)).name == "ops"


async def test_a_note_of_its_use_does_not_bring_a_revoked_token_back(access: Access, url: str, clock: Clock) -> None:
    header = f"Bearer {await made(access)}"
    await access.authenticate(header, HERE)
    async with opened(url) as elsewhere:
        await Access(elsewhere).revoke("ops")
        access._read_at = clock.seconds = 61.0  # what was read is believed a little longer
        await access.authenticate(header, HERE)
        assert await Access(elsewhere).list() == []


async def test_a_redis_that_cannot_write_locks_nobody_out(redis_server: RedisServer) -> None:
    async with opened(redis_server.url) as store:
        access = Access(store)
        header = f"Bearer {await made(access)}"
        await store.client.config_set("min-replicas-to-write", 1)
        assert (await access.authenticate(header, HERE)).name == "ops"
        assert (await access.get("ops")).used_us == 0


# Secrets


async def test_the_token_is_nowhere_in_redis_nor_in_its_file(redis_server: RedisServer) -> None:
    async with opened(redis_server.url) as store:
        access = Access(store)
        token = await access.create("ops", Scope.ADMIN, expires_us=None, networks=["192.0.2.0/24"], actor=OPS)
        await access.authenticate(f"Bearer {token}", HERE)
        await access.revoke("ops", actor=OPS)
        await store.client.ping()
    written = b"".join(path.read_bytes() for path in (redis_server.directory / "data").rglob("*.aof"))
    assert hashlib.sha256(token.encode()).hexdigest().encode() in written  # it is the right file
    assert token.encode() not in written
    assert token.removeprefix("rsy_").encode() not in written


async def test_no_repr_and_no_report_shows_a_hash(access: Access, store: RedisStore) -> None:
    token = await made(access)
    stored = (await TokenStore(store).all())[0]
    assert isinstance(stored, StoredToken)
    digest = hashlib.sha256(token.encode())
    assert stored.digest == digest.digest()
    shown = f"{stored!r} {await access.list()} {token_report(stored.record, 0)} {await AuditLog(store).newest(10)}"
    for secret in (digest.hexdigest(), repr(digest.digest())[2:12], token[4:]):
        assert secret not in shown


# The audit log


async def test_making_and_revoking_is_audited_with_who_and_from_where(access: Access, store: RedisStore) -> None:
    await access.create("ops", Scope.READ, expires_us=BEGINNING + 1, networks=["10.0.0.0/8"], actor=OPS)
    await access.revoke("ops", actor=Actor("token:boss", "192.0.2.9"))
    entries = await AuditLog(store).newest(10)
    assert [(one.time, one.actor, one.source, one.action, one.subject, one.details) for one in entries] == [
        ("2026-01-01T00:00:00.000000Z", "token:boss", "192.0.2.9", "token.revoke", "ops", {}),
        (
            "2026-01-01T00:00:00.000000Z",
            "root@pbx",
            "local",
            "token.create",
            "ops",
            {"scope": "read", "expires": "2026-01-01T00:00:00.000001Z", "networks": "10.0.0.0/8"},
        ),
    ]


async def test_what_was_refused_is_not_audited(access: Access, store: RedisStore) -> None:
    actions: list[Callable[[], Awaitable[object]]] = [
        lambda: access.revoke("nobody"),
        lambda: made(access, "a b"),
        lambda: made(access, "ops", Scope.READ, "nowhere"),
    ]
    for action in actions:
        with pytest.raises((InputError, NotFoundError)):
            await action()
    assert await AuditLog(store).newest(10) == []


async def test_the_audit_log_is_read_page_by_page_while_it_grows(store: RedisStore) -> None:
    log = AuditLog(store)
    for number in range(7):
        await log.record(OPS, "rollout.run", f"r{number}")
    subjects, cursor = [], ""
    for _ in range(3):
        page = await log.page(3, before=cursor)
        subjects.append([entry.subject for entry in page.entries])
        cursor = page.more
        await log.record(OPS, "rollout.run", "late")
    assert subjects == [["r6", "r5", "r4"], ["r3", "r2", "r1"], ["r0"]]
    assert cursor == ""


async def test_a_page_that_ends_with_the_log_says_that_nothing_follows(store: RedisStore) -> None:
    log = AuditLog(store)
    assert await log.page(5) == await log.page(5, before="0-0")
    for number in range(3):
        await log.record(OPS, "rollout.run", f"r{number}")
    page = await log.page(3)
    assert page.more == ""
    assert (await log.page(3, before=page.entries[-1].id)).entries == ()
    assert (await log.page(3, before="0-0")).entries == ()


@pytest.mark.parametrize("count", [-1, 0, 1])
async def test_a_page_has_one_entry_at_least(store: RedisStore, count: int) -> None:
    log = AuditLog(store)
    await log.record(OPS, "rollout.run", "r1")
    await log.record(OPS, "rollout.run", "r2")
    assert [entry.subject for entry in await log.newest(count)] == ["r2"]


async def test_a_page_has_a_thousand_entries_at_most(store: RedisStore) -> None:
    async with store.client.pipeline(transaction=False) as pipe:
        fields = {"us": 1, "actor": "a", "source": "local", "action": "b", "subject": "c", "details": "{}"}
        for _ in range(1002):
            pipe.xadd(keys.AUDIT_LOG, fields)
        await pipe.execute()
    page = await AuditLog(store).page(5000)
    assert len(page.entries) == 1000
    assert len((await AuditLog(store).page(5000, before=page.more)).entries) == 2


@pytest.mark.parametrize("cursor", ["x", "5", "-", "+", "1-", "1-2-3", "(1-1", "9" * 20 + "-0", "1-1\n", "٣-٣"])
async def test_a_wrong_cursor_is_bad_input(store: RedisStore, cursor: str) -> None:
    with pytest.raises(InputError, match="is no cursor of the audit log"):
        await AuditLog(store).page(5, before=cursor)


async def test_no_method_changes_or_removes_an_entry(store: RedisStore) -> None:
    log = AuditLog(store)
    await log.record(OPS, "rollout.run", "r1", {"plan_hash": "abc"})
    first = await log.newest(1)
    methods = {name for name, _ in inspect.getmembers(AuditLog, inspect.isfunction) if not name.startswith("_")}
    assert methods == {"record", "newest", "page"}
    await log.record(OPS, "rollout.run", "r1", {"plan_hash": "other"})
    await log.page(10)
    assert (await log.newest(10))[1:] == first
    with pytest.raises(FrozenInstanceError):
        first[0].subject = "r2"  # type: ignore[misc]


async def test_an_entry_keeps_any_text_as_it_is(store: RedisStore) -> None:
    odd = 'ä "quoted" \x1b[31m\n{}'
    await AuditLog(store).record(Actor(odd, odd), odd, odd, {odd: odd})
    entry = (await AuditLog(store).newest(1))[0]
    assert entry == AuditEntry(entry.id, entry.time, odd, odd, odd, odd, {odd: odd})
