"""The peers of tests/peers do what other tests rely on, proved with requests written by hand.

The status codes and odd habits asserted here are what SIPp 3.6.1, Kamailio 5.6.3, baresip 1.0, PJSIP 2.15.1 and
aiosip 0.2.0 really do. When an upgrade changes one, this file says so before an interoperability test confuses people.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import pytest
from redis import Redis

from tests.peers.aiosip_phone import AiosipPhone
from tests.peers.baresip import NOTIFY_ANSWER, BaresipPhone
from tests.peers.digest import Credentials, DigestInput, answer_challenge, digest_parameters, digest_response, is_right
from tests.peers.kamailio import Kamailio
from tests.peers.message import SipText, seconds_between
from tests.peers.pjsip_phone import PjsipPhone
from tests.peers.plain_client import Address, PlainClient
from tests.peers.ports import free_port, udp_port_is_open
from tests.peers.process import REPOSITORY, PeerError
from tests.peers.redis_server import RedisServer
from tests.peers.sipp import (
    Scenario,
    SippPhone,
    answers,
    busy_then_ok,
    challenge_expected,
    challenge_verified,
    silent,
    trying_then_ok,
)

ALICE = Credentials("alice", "wonderland")
WRONG = Credentials("alice", "looking-glass")


@pytest.fixture
def client() -> Iterator[PlainClient]:
    with PlainClient() as plain:
        yield plain


def answer_to_challenge(
    client: PlainClient, uri: str, destination: Address, credentials: Credentials
) -> tuple[SipText, SipText]:
    """Send a NOTIFY, answer its challenge; return the challenge and the final answer."""
    challenge = client.exchange(client.notify(uri), destination)
    asked, given = ("WWW-Authenticate", "Authorization")
    if challenge.status == 407:
        asked, given = ("Proxy-Authenticate", "Proxy-Authorization")
    field = answer_challenge(challenge.header(asked) or "", credentials, method="NOTIFY", uri=uri)
    again = client.notify(uri, call_id=challenge.header("Call-ID"), cseq=2, extra=(f"{given}: {field}",))
    return challenge, client.exchange(again, destination)


def test_digest_of_the_tests_agrees_with_the_example_of_rfc_2617() -> None:
    given = DigestInput(
        realm="testrealm@host.com",
        nonce="dcd98b7102dd2f0e8b11d0f600bfb0c093",
        uri="/dir/index.html",
        method="GET",
        qop="auth",
        cnonce="0a4f113b",
    )

    assert digest_response(Credentials("Mufasa", "Circle Of Life"), given) == "6629fae49393a05397450978507c4ef1"


def test_digest_of_the_tests_agrees_with_the_sha_256_example_of_rfc_7616() -> None:
    given = DigestInput(
        realm="http-auth@example.org",
        nonce="7ypf/xlj9XXwfDPEoM4URrv/xwf94BcCAzFZH4GiTo0v",
        uri="/dir/index.html",
        method="GET",
        algorithm="SHA-256",
        qop="auth",
        cnonce="f2/wE4q74E6zIJEtWaHKaf5wv/H5QzzpXusqGemxURZJ",
    )

    expected = "753927fa0e85d155564e2e272a28d1802ca10daf4496794697cf8db5856cb6c1"
    assert digest_response(Credentials("Mufasa", "Circle of Life"), given) == expected


# SIPp


@pytest.mark.needs("sipp")
@pytest.mark.parametrize(("status", "reason"), [(200, "OK"), (404, "Not Found"), (489, "Bad Event"), (603, "Decline")])
def test_sipp_phone_gives_the_answer_it_was_told(client: PlainClient, status: int, reason: str) -> None:
    with SippPhone(answers(status, reason)) as phone:
        answer = client.exchange(client.notify(phone.uri()), phone.address)

        assert answer.start_line == f"SIP/2.0 {status} {reason}"
        assert [message.header("Event") for message in phone.received()] == ["check-sync"]
        assert [response.start_line for response in phone.wait_for_answers(1)] == [answer.start_line]
        assert phone.answer_counts() == {status: 1}


@pytest.mark.needs("sipp")
def test_sipp_phone_serves_many_calls_and_counts_them_when_they_have_ended(client: PlainClient) -> None:
    with SippPhone(answers(200), linger=0.1) as phone:
        for number in range(20):
            assert client.exchange(client.notify(phone.uri(str(number))), phone.address).status == 200
        phone.finish()

        counts = phone.counts()
        assert (counts.calls, counts.successful, counts.failed) == (20, 20, 0)
        assert len(phone.received()) == 20


@pytest.mark.needs("sipp")
def test_sipp_phone_answers_a_retransmission_again(client: PlainClient) -> None:
    with SippPhone(answers(200)) as phone:
        notify = client.notify(phone.uri())
        first, second = (client.exchange(notify, phone.address) for _ in range(2))

        assert first.text == second.text
        assert len(phone.received()) == 2


@pytest.mark.needs("sipp")
def test_sipp_phone_answers_to_the_source_of_the_request_and_not_to_its_via(client: PlainClient) -> None:
    with SippPhone(answers(200)) as phone:
        here = f"127.0.0.1:{client.address[1]};"
        answer = client.exchange(client.notify(phone.uri()).replace(here, "192.0.2.1:9;"), phone.address)

        assert answer.status == 200
        assert (answer.header("Via") or "").endswith(";rport")  # and does not fill in rport


@pytest.mark.needs("sipp")
def test_sipp_phone_listens_on_ipv6() -> None:
    with PlainClient("::1") as client, SippPhone(answers(200), host="::1") as phone:
        assert client.exchange(client.notify(phone.uri()), phone.address).status == 200


@pytest.mark.needs("sipp")
def test_slow_sipp_phone_says_trying_at_once_and_ok_after_its_pause(client: PlainClient) -> None:
    with SippPhone(trying_then_ok(pause=0.3)) as phone:
        notify = client.notify(phone.uri())
        statuses = [client.exchange(notify, phone.address).status, client.exchange(notify, phone.address).status]
        statuses += [client.receive().status, client.exchange(notify, phone.address).status]

        assert statuses == [100, 100, 200, 200]
        trying, _, ok, _ = phone.wait_for_answers(4)
        assert trying.traced_time is not None
        assert ok.traced_time is not None
        assert 0.28 < (ok.traced_time - trying.traced_time).total_seconds() < 1.0


@pytest.mark.needs("sipp")
def test_busy_sipp_phone_asks_for_patience_once_and_then_answers(client: PlainClient) -> None:
    with SippPhone(busy_then_ok(retry_after=2)) as phone:
        notify = client.notify(phone.uri())
        refused, repeated = (client.exchange(notify, phone.address) for _ in range(2))
        same_call = client.notify(phone.uri(), call_id=refused.header("Call-ID"), cseq=2)

        assert (refused.status, refused.header("Retry-After")) == (503, "2")
        assert repeated.status == 503  # a retransmission is no new request
        assert client.exchange(same_call, phone.address).status == 200
        assert client.exchange(client.notify(phone.uri()), phone.address).status == 200


@pytest.mark.needs("sipp")
def test_silent_sipp_phone_keeps_the_times_of_the_retransmissions_it_ignores(client: PlainClient) -> None:
    with SippPhone(silent()) as phone:
        notify = client.notify(phone.uri())
        sent_at = []
        for pause in (0.2, 0.4, 0.01):
            sent_at.append(time.monotonic())
            client.send(notify, phone.address)
            with pytest.raises(TimeoutError):
                client.receive(within=pause)
        received = phone.wait_for(3)

        assert len({message.text for message in received}) == 1
        assert phone.answer_counts() == {}
        ours = [sent_at[1] - sent_at[0], sent_at[2] - sent_at[1]]
        assert seconds_between(received) == pytest.approx(ours, abs=0.08)


@pytest.mark.needs("sipp")
@pytest.mark.parametrize(("credentials", "status"), [(ALICE, 200), (WRONG, 403)])
def test_sipp_verifies_md5_credentials_itself(client: PlainClient, credentials: Credentials, status: int) -> None:
    with SippPhone(challenge_verified(ALICE)) as phone:
        challenge, answer = answer_to_challenge(client, phone.uri("alice"), phone.address, credentials)

        asked = digest_parameters(challenge.header("WWW-Authenticate") or "")
        assert (challenge.status, asked["algorithm"], asked["qop"], asked["opaque"]) == (401, "MD5", "auth", "b3BhcXVl")
        assert answer.status == status
        authorization = phone.received()[1].header("Authorization") or ""
        assert is_right(authorization, ALICE) is (status == 200)


@pytest.mark.needs("sipp")
def test_sipp_refuses_credentials_for_an_older_nonce(client: PlainClient) -> None:
    with SippPhone(challenge_verified(ALICE)) as phone:
        uri = phone.uri("alice")
        answer_to_challenge(client, uri, phone.address, ALICE)
        stale = phone.received()[1].header("Authorization")
        challenge = client.exchange(client.notify(uri), phone.address)
        again = client.notify(uri, call_id=challenge.header("Call-ID"), cseq=2, extra=(f"Authorization: {stale}",))

        assert client.exchange(again, phone.address).status == 403


@pytest.mark.needs("sipp")
def test_sipp_3_6_1_cannot_verify_sha_256(client: PlainClient) -> None:
    with SippPhone(challenge_verified(ALICE, algorithm="SHA-256")) as phone:
        _, answer = answer_to_challenge(client, phone.uri("alice"), phone.address, ALICE)

        assert answer.status == 403
        assert "authentication must use MD5 or AKAv1-MD5, value is 'SHA-256'" in phone.log()


@pytest.mark.needs("sipp")
@pytest.mark.parametrize(("credentials", "status"), [(ALICE, 200), (WRONG, 403)])
@pytest.mark.parametrize("scenario", ["407 MD5", "407 SHA-256", "401 SHA-256"])
def test_sipp_accepts_only_the_response_that_was_computed_before(
    client: PlainClient, scenario: str, credentials: Credentials, status: int
) -> None:
    uri = "sip:alice@phone.test"
    scenarios: dict[str, Scenario] = {
        "407 MD5": challenge_expected(ALICE, uri),
        "407 SHA-256": challenge_expected(ALICE, uri, algorithm="SHA-256"),
        "401 SHA-256": challenge_expected(ALICE, uri, status=401, algorithm="SHA-256"),
    }
    with SippPhone(scenarios[scenario]) as phone:
        challenge, answer = answer_to_challenge(client, uri, phone.address, credentials)

        assert (challenge.status, answer.status) == (int(scenario[:3]), status)


@pytest.mark.needs("sipp")
def test_sipp_that_cannot_start_shows_its_own_words() -> None:
    broken = SippPhone(Scenario("answer", status_line="SIP/2.0 99 Nonsense"))

    with pytest.raises(PeerError, match="Response codes must be in the range of 100-700"):
        broken.start()
    assert not broken.directory.exists()


@pytest.mark.needs("sipp")
def test_stopped_peer_leaves_no_process_and_no_directory_but_its_messages(client: PlainClient) -> None:
    with SippPhone(answers(200)) as phone:
        client.exchange(client.notify(phone.uri()), phone.address)
        pid, directory, port = phone.pid, phone.directory, phone.port

    assert not Path(f"/proc/{pid}").exists()
    assert not directory.exists()
    assert not udp_port_is_open(port)
    assert len(phone.received()) == 1


# Kamailio


@pytest.mark.needs("kamailio", "sipp")
def test_kamailio_relays_a_notify_for_an_address_of_record_to_its_contact(client: PlainClient) -> None:
    with Kamailio() as registrar, SippPhone(answers(200)) as phone:
        assert registrar.register("100", phone.uri("100"), user_agent="Test 1.0").status == 200
        answer = client.exchange(client.notify(registrar.aor("100")), registrar.address)
        [binding] = registrar.contacts()
        [request] = phone.received()

        assert (binding.aor, binding.address, binding.user_agent) == ("100", phone.uri("100"), "Test 1.0")
        assert (answer.status, len(answer.headers("Via"))) == (200, 1)
        assert request.start_line == f"NOTIFY {phone.uri('100')} SIP/2.0"
        assert len(request.headers("Via")) == 2
        assert request.header("Max-Forwards") == "69"


@pytest.mark.needs("kamailio", "sipp")
def test_kamailio_follows_the_path_of_a_registration(client: PlainClient) -> None:
    with Kamailio() as registrar, Kamailio() as edge, SippPhone(answers(200)) as phone:
        registered = registrar.register("100", phone.uri("100"), path=edge.route)
        answer = client.exchange(client.notify(registrar.aor("100")), registrar.address)
        [binding] = registrar.contacts()
        [request] = phone.received()

        assert registered.header("Path") == edge.route
        assert (binding.address, binding.path) == (phone.uri("100"), edge.route)
        assert answer.status == 200
        hops = [via.split(";")[0].rpartition(":")[2] for via in request.headers("Via")]
        assert hops == [str(edge.port), str(registrar.port), str(client.address[1])]
        assert request.headers("Route") == []  # the edge took itself off


@pytest.mark.needs("kamailio", "sipp")
def test_kamailio_forks_a_notify_to_every_binding_and_returns_the_best_answer(client: PlainClient) -> None:
    with Kamailio() as registrar, SippPhone(answers(200)) as desk, SippPhone(answers(404, "Not Found")) as kitchen:
        for phone in (desk, kitchen):
            registrar.register("100", phone.uri("100"))
        answer = client.exchange(client.notify(registrar.aor("100")), registrar.address)

        assert answer.status == 200
        assert [len(phone.wait_for(1)) for phone in (desk, kitchen)] == [1, 1]


@pytest.mark.needs("kamailio", "sipp")
def test_kamailio_keeps_the_trying_of_a_phone_to_itself(client: PlainClient) -> None:
    with Kamailio() as registrar, SippPhone(trying_then_ok(pause=0.2)) as phone:
        registrar.register("100", phone.uri("100"))

        assert client.exchange(client.notify(registrar.aor("100")), registrar.address).status == 200
        assert [message.status for message in phone.wait_for_answers(2)] == [100, 200]


@pytest.mark.needs("kamailio", "sipp")
def test_kamailio_passes_on_a_notify_that_is_routed_to_it(client: PlainClient) -> None:
    with Kamailio() as edge, SippPhone(answers(200)) as phone:
        notify = client.notify(phone.uri("100"), extra=(f"Route: {edge.route}",))

        assert client.exchange(notify, edge.address).status == 200
        assert phone.received()[0].headers("Route") == []


@pytest.mark.needs("kamailio", "sipp")
def test_kamailio_answers_404_for_a_stranger_and_408_for_a_silent_phone(client: PlainClient) -> None:
    with Kamailio(relay_timeout=0.8) as registrar, SippPhone(silent()) as phone:
        registrar.register("100", phone.uri("100"))

        assert client.exchange(client.notify(registrar.aor("999")), registrar.address).status == 404
        assert client.exchange(client.notify(registrar.aor("100")), registrar.address).status == 408
        assert len(phone.received()) == 2  # it retransmits by itself, after 0.5 s


@pytest.mark.needs("kamailio")
def test_kamailio_authenticates_registrations() -> None:
    with Kamailio(authenticate_register=True) as registrar:
        contact = "sip:100@127.0.0.1:9"

        assert registrar.register("100", contact).status == 401
        assert registrar.register("100", contact, credentials=WRONG).status == 401
        assert registrar.contacts() == []
        assert registrar.register("100", contact, credentials=registrar.credentials("100")).status == 200
        assert [binding.aor for binding in registrar.contacts()] == ["100"]


@pytest.mark.needs("kamailio", "sipp")
@pytest.mark.parametrize("algorithm", ["MD5", "SHA-256"])
@pytest.mark.parametrize("qop", [True, False])
def test_kamailio_verifies_the_credentials_of_a_notify(
    client: PlainClient, algorithm: Literal["MD5", "SHA-256"], qop: bool
) -> None:
    proxy = Kamailio(authenticate_notify=True, algorithm=algorithm, qop=qop)
    with proxy as registrar, SippPhone(answers(200)) as phone:
        registrar.register("100", phone.uri("100"))
        uri = registrar.aor("100")
        right = answer_to_challenge(client, uri, registrar.address, registrar.credentials("100"))
        wrong = answer_to_challenge(client, uri, registrar.address, WRONG)

        asked = digest_parameters(right[0].header("Proxy-Authenticate") or "")
        assert (asked["algorithm"], asked.get("qop")) == (algorithm, "auth" if qop else None)
        assert [answer.status for answer in right] == [407, 200]
        assert [answer.status for answer in wrong] == [407, 407]
        assert digest_parameters(wrong[1].header("Proxy-Authenticate") or "").get("stale") is None
        [request] = phone.received()
        assert request.header("Proxy-Authorization") is None  # it keeps the credentials to itself


# baresip


@pytest.mark.needs("kamailio", "baresip")
def test_registered_baresip_answers_481_to_a_notify_for_its_address_of_record(client: PlainClient) -> None:
    with (
        Kamailio(authenticate_register=True) as registrar,
        BaresipPhone("200", registrar=registrar.address, password=registrar.password) as phone,
    ):
        [binding] = registrar.contacts()
        answer = client.exchange(client.notify(registrar.aor("200")), registrar.address)

        assert binding.user_agent == "baresip v1.0.0 (x86_64/linux)"
        assert answer.start_line == "SIP/2.0 481 Subscription Does Not Exist"
        assert NOTIFY_ANSWER == 481
        assert [(request.method, request.header("Event")) for request in phone.received()] == [("NOTIFY", "check-sync")]
        phone.stop()
        assert registrar.contacts() == []  # it takes its registration with it


@pytest.mark.needs("baresip")
@pytest.mark.parametrize(
    ("removed", "status"),
    [("", 481), ("Event: check-sync\r\n", 489), ("Subscription-State: terminated\r\n", 400)],
)
def test_baresip_answers_by_what_the_notify_lacks(client: PlainClient, removed: str, status: int) -> None:
    with BaresipPhone("200", registrar=None) as phone:
        notify = client.notify(phone.uri).replace(removed, "")

        assert client.exchange(notify, phone.address).status == status


# PJSIP


@pytest.mark.needs("kamailio", "pjsua2")
def test_registered_pjsip_phone_answers_200_to_a_notify_for_its_address_of_record(client: PlainClient) -> None:
    with (
        Kamailio(authenticate_register=True) as registrar,
        PjsipPhone("300", registrar=registrar.address, password=registrar.password) as phone,
    ):
        [binding] = registrar.contacts()
        answer = client.exchange(client.notify(registrar.aor("300")), registrar.address)
        [request] = phone.wait_for(1)

        assert binding.address == f"{phone.uri};ob"
        assert answer.status == 200
        assert request.header("Event") == "check-sync"
        assert request.source == f"127.0.0.1:{registrar.port}"


@pytest.mark.needs("pjsua2")
def test_pjsip_leaves_the_port_out_of_the_from_and_to_that_it_sends_back(client: PlainClient) -> None:
    with PjsipPhone("300") as phone:
        notify = client.notify(phone.uri)
        answer, repeated = (client.exchange(notify, phone.address) for _ in range(2))

        assert SipText(notify).header("To") == f"<sip:300@127.0.0.1:{phone.port}>"
        assert (answer.header("To") or "").startswith("<sip:300@127.0.0.1>;tag=")
        assert (answer.header("From") or "").startswith("<sip:resyncctl@127.0.0.1>;tag=")
        assert repeated.text == answer.text  # from its transaction


@pytest.mark.needs("pjsua2")
def test_pjsip_by_itself_answers_message_summary_and_drops_check_sync(client: PlainClient) -> None:
    with PjsipPhone("300", answer=None) as phone:
        client.send(client.notify(phone.uri), phone.address)
        with pytest.raises(TimeoutError):
            client.receive(within=0.5)
        answer = client.exchange(client.notify(phone.uri, event="message-summary"), phone.address)

        assert answer.status == 200
        assert [request.header("Event") for request in phone.wait_for(2)] == ["check-sync", "message-summary"]
        assert "was dropped/unhandled by any modules" in phone.log()


# aiosip


@pytest.mark.needs("kamailio", "aiosip")
def test_registered_aiosip_phone_answers_200_to_a_notify_for_its_address_of_record(client: PlainClient) -> None:
    with (
        Kamailio(authenticate_register=True, qop=False) as registrar,
        AiosipPhone("400", registrar=registrar.address, password=registrar.password) as phone,
    ):
        [binding] = registrar.contacts()
        answer = client.exchange(client.notify(registrar.aor("400")), registrar.address)
        [request] = phone.wait_for(1)

        assert binding.user_agent == f"Python/{'.'.join(map(str, sys.version_info[:3]))} aiosip/0.1.0"
        assert answer.status == 200
        assert request.source == f"127.0.0.1:{registrar.port}"


@pytest.mark.needs("kamailio", "aiosip")
def test_aiosip_cannot_register_where_the_challenge_offers_qop() -> None:
    with Kamailio(authenticate_register=True) as registrar:
        phone = AiosipPhone("400", registrar=registrar.address, password=registrar.password)

        with pytest.raises(PeerError, match="Too many unauthorized attempts"):
            phone.start()


@pytest.mark.needs("aiosip")
def test_aiosip_is_silent_about_a_uri_parameter_without_a_value(client: PlainClient) -> None:
    with AiosipPhone("400") as phone:
        client.send(client.notify(phone.uri, to=f"{phone.uri};ob"), phone.address)
        phone.wait_until(lambda: "ValueError: dictionary update sequence" in phone.log(), "failing to parse ;ob")

        assert client.exchange(client.notify(phone.uri), phone.address).status == 200  # the answer to this one only


# Redis


@pytest.mark.needs("redis-server")
def test_redis_keeps_what_was_written_before_it_was_killed() -> None:
    with RedisServer() as server, Redis.from_url(server.url) as redis:
        redis.set("phone", "accepted")
        killed = server.pid
        server.kill()

        assert not server.running
        assert not server.answers()
        server.restart()
        assert server.pid != killed
        assert redis.get("phone") == b"accepted"


@pytest.mark.needs("redis-server")
def test_frozen_redis_answers_nothing_until_it_is_thawed() -> None:
    with RedisServer() as server:
        server.freeze()

        assert not server.answers()
        server.thaw()
        server.wait_until(server.answers, "answering again")


# What the peers stand on


def test_free_port_is_free_with_its_followers_and_below_the_ephemeral_range() -> None:
    port = free_port(adjacent=4)

    assert 20_000 <= port < 32_000
    assert not any(udp_port_is_open(port + offset) for offset in range(4))


@pytest.mark.parametrize(("ci", "outcome"), [("", "1 skipped"), ("true", "1 error")])
def test_missing_program_skips_by_name_but_fails_in_ci(tmp_path: Path, ci: str, outcome: str) -> None:
    shutil.copy(REPOSITORY / "tests" / "conftest.py", tmp_path)
    (tmp_path / "test_needs.py").write_text(
        "import pytest\n\n@pytest.mark.needs('sipp', 'no-such-sipp')\ndef test_phone(): pass\n", encoding="ascii"
    )
    command = [sys.executable, "-m", "pytest", "-q", "-rs", "-p", "no:cacheprovider", "-W", "ignore", str(tmp_path)]
    run = subprocess.run(
        command, cwd=tmp_path, env={**os.environ, "CI": ci}, capture_output=True, text=True, timeout=30, check=False
    )

    assert outcome in run.stdout
    assert "no-such-sipp is not installed" in run.stdout
