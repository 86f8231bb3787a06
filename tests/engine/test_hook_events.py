"""What PBX scripts send to a hook, and who may: events in three forms, signatures, clocks, replays."""

from __future__ import annotations

import hashlib
import hmac
import json

import pytest

from resyncctl.engine.hook_event import MOST, HookEvent, parse_event
from resyncctl.engine.hook_signature import canonical_query, check_signature, sign
from resyncctl.errors import AccessError, InputError

FORM = "application/x-www-form-urlencoded"
SECRET = "a secret of a hook"
NOW = 1_800_000_000
NOW_US = NOW * 1_000_000


class Parameters(dict[str, str]):
    """A query as web frameworks hand it over: a mapping that knows only the last value of a name."""

    def __init__(self, *pairs: tuple[str, str]) -> None:
        super().__init__(pairs)
        self._pairs = list(pairs)

    def multi_items(self) -> list[tuple[str, str]]:
        return self._pairs


@pytest.mark.parametrize(
    ("kind", "body", "extensions"),
    [
        ("application/json", '{"extension": "1001"}', ("1001",)),
        ("application/json; charset=utf-8", '{"extensions": ["1001", "1002", "1001"]}', ("1001", "1002")),
        ("application/json", '{"aor": "sip:1001@pbx.test"}', ("sip:1001@pbx.test",)),
        ("application/json", '{"extension": 1001}', ("1001",)),
        ("application/json", '{"extensions": "1001, 1002"}', ("1001", "1002")),
        ("application/json", '{"event": "reload", "at": {"deep": [1]}}', ()),
        ("application/json", "", ()),
        (FORM, '{"extension": "1001"}', ("1001",)),  # curl -d without a header
        (FORM, "extension=1001&extension=1002", ("1001", "1002")),
        (FORM, "extension=1001,1002&nonce=77", ("1001", "1002")),
        (FORM, "aor=sip%3A1001%40pbx.test", ("sip:1001@pbx.test",)),
        (FORM, "event=reload", ()),
        ("", " \r\n", ()),
        ("text/plain", "extension=1001", ("1001",)),
    ],
)
def test_an_event_is_read_from_json_and_from_a_form(kind: str, body: str, extensions: tuple[str, ...]) -> None:
    assert parse_event(kind, body.encode(), ()) == HookEvent(extensions)


def test_the_extensions_of_url_and_body_are_united() -> None:
    query = Parameters(("extension", "1001"), ("extension", "1002"), ("token", "x"))
    assert parse_event(FORM, b"extension=1003", query).extensions == ("1001", "1002", "1003")
    assert parse_event("", b"", {"extension": "1001,1002"}).extensions == ("1001", "1002")
    assert parse_event("", b"", ()) == HookEvent()


def test_the_reason_is_kept_short_and_on_one_line() -> None:
    event = parse_event("application/json", json.dumps({"reason": "Apply\nConfig" + "x" * 999}).encode(), ())
    assert event.reason == "Apply Config" + "x" * 244


@pytest.mark.parametrize(
    ("kind", "body", "complaint"),
    [
        ("application/json", '{"extension": true}', "extension: write an extension"),
        ("application/json", '{"extension": null}', "extension: write an extension"),
        ("application/json", '{"extension": 10.5}', "extension: write an extension"),
        ("application/json", '{"extensions": {"a": 1}}', "extensions: write an extension"),
        ("application/json", '{"extensions": [["1001"]]}', "extensions: write an extension"),
        ("application/json", '{"extensions": []}', "extensions: the list is empty"),
        ("application/json", '{"extension": ""}', "extension: an empty extension"),
        ("application/json", '{"reason": 5}', "reason: write text"),
        ("application/json", '["1001"]', "no object"),
        ("application/json", '{"extension": "1001"', "not JSON"),
        ("application/json", '{"extension": "\\ud800"}', "control character"),
        ("application/json", '{"extension": "1001\\r\\nX: y"}', "control character"),
        (FORM, "extension=", "extension in the form: an empty extension"),
        (FORM, "extension=1001,,1002", "an empty extension"),
        (FORM, "extension=" + "9" * 257, "longer than 256 characters"),
        (FORM, "1001", "cannot be read"),
        ("multipart/form-data; boundary=x", "--x\r\nextension=1001", "cannot be read"),
        (FORM, "extension=%FF", "the form cannot be read"),
    ],
)
def test_what_is_obviously_wrong_is_refused_and_never_means_all_phones(kind: str, body: str, complaint: str) -> None:
    with pytest.raises(InputError, match=complaint):
        parse_event(kind, body.encode(), ())


def test_a_body_that_is_not_utf8_and_one_with_too_many_extensions_are_refused() -> None:
    with pytest.raises(InputError, match="not UTF-8"):
        parse_event("", b"extension=\xff", ())
    many = json.dumps({"extensions": list(range(MOST))}).encode()
    assert len(parse_event("application/json", many, ()).extensions) == MOST
    with pytest.raises(InputError, match="10001 extensions in one call, at most 10000"):
        parse_event("application/json", many, {"extension": "x"})


def test_the_signature_is_the_plain_hmac_that_openssl_makes() -> None:
    expected = hmac.new(SECRET.encode(), b'1800000000.{"extension": "1001"}', hashlib.sha256).hexdigest()
    assert sign(SECRET, "1800000000", b'{"extension": "1001"}') == f"sha256={expected}"


def signed(body: bytes, *, at: int = NOW, secret: str = SECRET) -> dict[str, str]:
    return {"x-resyncctl-timestamp": str(at), "X-Resyncctl-Signature": sign(secret, str(at), body)}


def check(headers: dict[str, str], *, body: bytes = b"", query: object = ()) -> str:
    assert isinstance(query, dict | tuple)
    return check_signature(SECRET, headers=headers, query=query, body=body, now_us=NOW_US)


@pytest.mark.parametrize("at", [NOW - 300, NOW, NOW + 300])
def test_a_signed_body_is_believed_for_five_minutes_either_way(at: int) -> None:
    assert len(check(signed(b"extension=1001", at=at), body=b"extension=1001")) == 64


@pytest.mark.parametrize("at", [NOW - 301, NOW + 301])
def test_a_timestamp_further_off_is_refused(at: int) -> None:
    with pytest.raises(AccessError, match="more than 300 s off"):
        check(signed(b"", at=at))


def test_a_wrong_signature_is_refused_whatever_is_wrong() -> None:
    good = signed(b"extension=1001")
    with pytest.raises(AccessError, match="the signature is wrong"):
        check(good, body=b"extension=1002")
    with pytest.raises(AccessError, match="the signature is wrong"):
        check(signed(b"", secret="another secret of a hook"))
    with pytest.raises(AccessError, match="the signature is wrong"):
        check({**good, "x-resyncctl-timestamp": str(NOW + 1)}, body=b"extension=1001")
    with pytest.raises(AccessError, match="64 hexadecimal digits"):
        check({**good, "X-Resyncctl-Signature": "sha256=12"}, body=b"extension=1001")
    with pytest.raises(AccessError, match="not in seconds"):
        check({**good, "x-resyncctl-timestamp": "yesterday"})
    for missing in good:
        with pytest.raises(AccessError, match="the call is not signed"):
            check({name: value for name, value in good.items() if name != missing}, body=b"extension=1001")


def query_of(*pairs: tuple[str, str]) -> Parameters:
    kept = (*pairs, ("timestamp", str(NOW)))
    return Parameters(*kept, ("signature", sign(SECRET, str(NOW), canonical_query(kept).encode())))


def test_a_url_can_carry_the_signature_of_its_other_parameters() -> None:
    assert canonical_query([("timestamp", "1"), ("extension", "10 01&"), ("signature", "x"), ("extension", "1")]) == (
        "extension=1&extension=10%2001%26&timestamp=1"
    )
    assert len(check({}, query=query_of(("extension", "1001"), ("extension", "1002")))) == 64


def test_no_parameter_of_a_signed_url_can_be_added_changed_or_split() -> None:
    good = query_of(("extension", "1001&x=2"))
    signature, at = good["signature"], str(NOW)
    for pairs in (
        [("extension", "9"), ("extension", "1001&x=2"), ("timestamp", at)],  # a mapping would show the last only
        [("extension", "1001"), ("x", "2"), ("timestamp", at)],
        [("timestamp", at)],
    ):
        with pytest.raises(AccessError, match="the signature is wrong"):
            check({}, query=Parameters(*pairs, ("signature", signature)))
    with pytest.raises(AccessError, match="signature stands twice"):
        check({}, query=Parameters(*good.multi_items(), ("signature", signature)))


def test_what_a_signature_does_not_cover_is_refused() -> None:
    with pytest.raises(AccessError, match="not what is in the URL"):
        check(signed(b""), query={"extension": "1001"})
    with pytest.raises(AccessError, match="does not cover the body"):
        check({}, query=query_of(), body=b"extension=1001")
