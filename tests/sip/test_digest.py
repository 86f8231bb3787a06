"""Digest authentication against published examples, an independent implementation, and itself."""

from __future__ import annotations

import hashlib
import time
import urllib.request
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from resyncctl.errors import SipError, SipParseError
from resyncctl.sip.digest import (
    MAX_PARAMETERS,
    MAX_VALUE_OCTETS,
    Algorithm,
    Authorization,
    Challenge,
    Credentials,
    Qop,
    authorize,
    challenge_header,
    parse_authorization,
    parse_challenge,
    strongest,
    verify,
)

if TYPE_CHECKING:
    from collections.abc import Callable

BOB = Credentials("bob", "zanzibar")
BILOXI = 'Digest realm="biloxi.com", nonce="dcd98b7102dd2f0e8b11d0f600bfb0c093"'
SDP = (  # the body of draft-smith-sipping-auth-examples-01, whose MD5 the draft prints
    b"v=0\r\no=bob 2890844526 2890844526 IN IP4 media.biloxi.com\r\ns=-\r\nc=IN IP4 media.biloxi.com\r\n"
    b"t=0 0\r\nm=audio 49170 RTP/AVP 0\r\na=rtpmap:0 PCMU/8000\r\nm=video 51372 RTP/AVP 31\r\n"
    b"a=rtpmap:31 H261/90000\r\nm=video 53000 RTP/AVP 32\r\na=rtpmap:32 MPV/90000\r\n"
)
WIRE_TEXT = st.text(st.characters(exclude_categories=("Cs", "Cc")))
CHALLENGES = st.builds(
    Challenge,
    WIRE_TEXT,
    WIRE_TEXT,
    algorithm=st.sampled_from(Algorithm),
    qop=st.sampled_from([(), (Qop.AUTH,), (Qop.AUTH_INT,), (Qop.AUTH, Qop.AUTH_INT)]),
    opaque=st.none() | WIRE_TEXT,
    stale=st.booleans(),
    domain=st.sampled_from([(), ("sip:ss1.carrier.com",), ("sip:a.example", "sips:b.example")]),
    proxy=st.booleans(),
)


def challenge(value: str, *, proxy: bool = False) -> Challenge:
    parsed = parse_challenge(value, proxy=proxy)
    assert parsed is not None
    return parsed


def authorization(value: str) -> Authorization:
    parsed = parse_authorization(value)
    assert parsed is not None
    return parsed


# Published examples


@pytest.mark.parametrize(
    ("parameters", "body", "response"),
    [
        ("", b"", "bf57e4e0d0bffc0fbaedce64d59add5e"),
        (', qop="auth,auth-int"', b"", "89eb0059246c02b2f6ee02c7961d5ea3"),
        (', qop="auth,auth-int", algorithm=MD5', b"", "89eb0059246c02b2f6ee02c7961d5ea3"),
        (', qop="auth,auth-int", algorithm=MD5-sess', b"", "e4e4ea61d186d07a92c9e1f6919902e9"),
        (', qop="auth-int", algorithm=MD5', SDP, "bdbeebb2da6adb6bca02599c2239e192"),
        (', qop="auth-int", algorithm=MD5-sess', SDP, "91984da2d8663716e91554859c22ca70"),
    ],
    ids=["3.1", "3.2", "3.3", "3.4", "3.5", "3.6"],
)
def test_answers_as_the_sip_examples_of_draft_smith(parameters: str, body: bytes, response: str) -> None:
    name, value = authorize(
        challenge(BILOXI + parameters),
        BOB,
        method="INVITE",
        uri="sip:bob@biloxi.com",
        body=body,
        cnonce="0a4f113b",
    )
    assert name == "Authorization"
    assert authorization(value).response == response
    assert verify(authorization(value), "zanzibar", method="INVITE", body=body)


def test_answers_as_the_example_of_rfc_2617() -> None:
    value = (
        'Digest realm="testrealm@host.com", qop="auth,auth-int", nonce="dcd98b7102dd2f0e8b11d0f600bfb0c093",'
        ' opaque="5ccc069c403ebaf9f0171e9517f40e41"'
    )
    name, answer = authorize(
        challenge(value),
        Credentials("Mufasa", "Circle Of Life"),
        method="GET",
        uri="/dir/index.html",
        cnonce="0a4f113b",
    )
    assert name == "Authorization"
    assert answer == (
        'Digest username="Mufasa", realm="testrealm@host.com", nonce="dcd98b7102dd2f0e8b11d0f600bfb0c093",'
        ' uri="/dir/index.html", response="6629fae49393a05397450978507c4ef1", cnonce="0a4f113b",'
        ' opaque="5ccc069c403ebaf9f0171e9517f40e41", algorithm=MD5, qop=auth, nc=00000001'
    )


@pytest.mark.parametrize(
    ("algorithm", "response"),
    [
        ("MD5", "8ca523f5e9506fed4657c9700eebdbec"),
        ("SHA-256", "753927fa0e85d155564e2e272a28d1802ca10daf4496794697cf8db5856cb6c1"),
    ],
)
def test_answers_as_the_examples_of_rfc_7616(algorithm: str, response: str) -> None:
    """RFC 7616 3.9.1."""
    value = (
        'Digest realm="http-auth@example.org", qop="auth, auth-int", '
        f"algorithm={algorithm}"
        ', nonce="7ypf/xlj9XXwfDPEoM4URrv/xwf94BcCAzFZH4GiTo0v"'
        ', opaque="FQhe/qaU925kfnzjCev0ciny7QMkPqMAFRtzCUYo5tdS"'
    )
    _, answer = authorize(
        challenge(value),
        Credentials("Mufasa", "Circle of Life"),
        method="GET",
        uri="/dir/index.html",
        cnonce="f2/wE4q74E6zIJEtWaHKaf5wv/H5QzzpXusqGemxURZJ",
    )
    assert authorization(answer).response == response


def test_answers_sha_512_256_as_erratum_4897_of_rfc_7616() -> None:
    """RFC 7616 3.9.2 with a name outside ASCII; the digest printed in the RFC itself is wrong."""
    value = (
        'Digest realm="api@example.org", qop="auth", algorithm=SHA-512-256,'
        ' nonce="5TsQWLVdgBdmrQ0XsxbDODV+57QdFR34I9HAbC/RVvkK",'
        ' opaque="HRPCssKJSGjCrkzDg8OhwpzCiGPChXYjwrI2QmXDnsOS", charset=UTF-8, userhash=true'
    )
    _, answer = authorize(
        challenge(value),
        Credentials("J\u00e4s\u00f8n Doe", "Secret, or not?"),
        method="GET",
        uri="/doe.json",
        cnonce="NTg6RKcb9boFIAS3KrFK9BGeh+iDa/sm6jUMp2wds69v",
    )
    assert authorization(answer).username == "J\u00e4s\u00f8n Doe"
    assert authorization(answer).response == "3798d4131c277846293534c3edc11bd8a5e4cdcbff78b05db9d95eeb1cec68a5"


@pytest.mark.parametrize(
    ("algorithm", "digest"),
    [
        (Algorithm.MD5, "d41d8cd98f00b204e9800998ecf8427e"),
        (Algorithm.SHA_256, "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"),
        (Algorithm.SHA_512_256, "c672b8d1ef56ed28ab87c3622c5114069bdd3ad7b8f9737498d0c01ecef0967a"),
    ],
)
def test_empty_body_hashes_as_rfc_8760_prints_it(algorithm: Algorithm, digest: str) -> None:
    """RFC 3261 22.4 rule 6 for MD5, RFC 8760 2.6 for the others."""
    assert algorithm.hexdigest(b"") == digest


def test_reads_the_challenge_of_rfc_3261() -> None:
    """RFC 3261 20.27: upper-case FALSE and an opaque that is present and empty."""
    value = (
        'Digest realm="atlanta.com", domain="sip:ss1.carrier.com", qop="auth",'
        ' nonce="f84f1cec41e6cbe5aea9c8e88d359", opaque="", stale=FALSE, algorithm=MD5'
    )
    assert parse_challenge(value, proxy=True) == Challenge(
        "atlanta.com",
        "f84f1cec41e6cbe5aea9c8e88d359",
        algorithm=Algorithm.MD5,
        qop=(Qop.AUTH,),
        opaque="",
        stale=False,
        domain=("sip:ss1.carrier.com",),
        proxy=True,
    )


def test_credentials_of_rfc_3261_20_7_lack_a_uri_and_are_refused() -> None:
    value = (
        'Digest username="Alice", realm="atlanta.com", nonce="84a4cc6f3082121f32b42a2187831a9e",'
        ' response="7587245234b3434cc3412213e5f113a5432"'
    )
    with pytest.raises(SipParseError, match="'uri' is missing"):
        parse_authorization(value)


# An independent implementation


class _Oracle(urllib.request.AbstractDigestAuthHandler):
    """The digest client of the standard library with our cnonce, and taught SHA-256, which 3.11 lacks."""

    def get_cnonce(self, nonce: str) -> str:  # noqa: ARG002 -- the signature is urllib's
        return "0a4f113b"

    def get_algorithm_impls(self, algorithm: str) -> tuple[Callable[[str], str], Callable[[str, str], str]]:
        hashing = {"MD5": hashlib.md5, "SHA-256": hashlib.sha256}[algorithm]

        def hashed(text: str) -> str:
            return hashing(text.encode("ascii")).hexdigest()

        return hashed, lambda secret, data: hashed(f"{secret}:{data}")


@pytest.mark.parametrize("algorithm", ["MD5", "SHA-256"])
@pytest.mark.parametrize("qop", ["auth", None])
@given(user=st.from_regex(r"[a-z0-9]{1,20}", fullmatch=True), password=st.text("ab:,'~ \"\\", max_size=12))
def test_agrees_with_urllib(algorithm: str, qop: str | None, user: str, password: str) -> None:
    passwords = urllib.request.HTTPPasswordMgrWithDefaultRealm()
    request = urllib.request.Request("http://192.0.2.7/", method="NOTIFY")
    request.selector = "sip:1001@192.0.2.7:5060;transport=udp"
    passwords.add_password("pbx.example", "http://192.0.2.7/", user, password)
    offered: dict[str, str] = {"realm": "pbx.example", "nonce": "a/b==", "algorithm": algorithm}
    if qop:
        offered["qop"] = qop
    oracle = _Oracle(passwords)
    theirs = oracle.get_authorization(request, offered)
    ours = Challenge(
        "pbx.example", "a/b==", algorithm=Algorithm(algorithm), qop=(Qop.AUTH,) if qop else (), proxy=False
    )
    _, value = authorize(ours, Credentials(user, password), method="NOTIFY", uri=request.selector, cnonce="0a4f113b")
    assert theirs is not None
    assert authorization(value) == authorization(f"Digest {theirs}")


# Both sides together


@given(CHALLENGES, WIRE_TEXT, WIRE_TEXT, WIRE_TEXT, st.binary(max_size=64), st.integers(1, 0xFFFF_FFFF))
def test_phone_accepts_what_the_controller_answers(
    offered: Challenge, username: str, password: str, cnonce: str, body: bytes, count: int
) -> None:
    _, on_the_wire = challenge_header(offered)
    heard = challenge(on_the_wire, proxy=offered.proxy)
    name, value = authorize(
        heard,
        Credentials(username, password),
        method="NOTIFY",
        uri="sip:1001@192.0.2.7",
        body=body,
        cnonce=cnonce,
        nonce_count=count,
    )
    answer = authorization(value)
    assert name == ("Proxy-Authorization" if offered.proxy else "Authorization")
    assert (answer.realm, answer.nonce, answer.opaque) == (offered.realm, offered.nonce, offered.opaque)
    assert (answer.username, answer.uri) == (username, "sip:1001@192.0.2.7")
    assert answer.nonce_count == (count if offered.qop else None)
    assert verify(answer, password, method="NOTIFY", body=body)
    assert not verify(answer, password + "x", method="NOTIFY", body=body)
    assert not verify(answer, password, method="OPTIONS", body=body)
    assert verify(answer, password, method="NOTIFY", body=body + b"x") == (answer.qop is not Qop.AUTH_INT)


@pytest.mark.parametrize("algorithm", list(Algorithm))
@pytest.mark.parametrize("qop", [(), (Qop.AUTH,), (Qop.AUTH_INT,)], ids=["none", "auth", "auth-int"])
def test_every_field_that_the_response_covers_is_covered(algorithm: Algorithm, qop: tuple[Qop, ...]) -> None:
    offered = Challenge("biloxi.com", "abc", algorithm=algorithm, qop=qop)
    _, value = authorize(offered, BOB, method="NOTIFY", uri="sip:bob@biloxi.com", cnonce="0a4f113b")
    answer = authorization(value)
    assert verify(answer, "zanzibar", method="NOTIFY")
    forged = [replace(answer, nonce="abd"), replace(answer, uri="sip:eve@biloxi.com"), replace(answer, realm="b")]
    forged += [replace(answer, response=""), replace(answer, response=answer.response.upper())]
    forged += [replace(answer, response="\u00e9"), replace(answer, username="alice")]
    if qop:
        forged += [replace(answer, nonce_count=2), replace(answer, cnonce="0a4f113c")]
    assert not any(verify(each, "zanzibar", method="NOTIFY") for each in forged)


@given(CHALLENGES)
def test_challenge_text_parses_to_an_equal_challenge(offered: Challenge) -> None:
    assert parse_challenge(str(offered), proxy=offered.proxy) == offered


@given(
    st.builds(
        Authorization,
        WIRE_TEXT,
        WIRE_TEXT,
        nonce=WIRE_TEXT,
        uri=WIRE_TEXT,
        response=WIRE_TEXT,
        algorithm=st.sampled_from(Algorithm),
        qop=st.none() | st.sampled_from(Qop),
        cnonce=WIRE_TEXT,
        nonce_count=st.integers(0, 0xFFFF_FFFF),
        opaque=st.none() | WIRE_TEXT,
    )
)
def test_authorization_text_parses_to_an_equal_answer(answer: Authorization) -> None:
    assert parse_authorization(str(answer)) == answer


# The client side in detail


def test_answers_407_with_proxy_authorization() -> None:
    offered = challenge(f'{BILOXI}, qop="auth"', proxy=True)
    name, _ = authorize(offered, BOB, method="NOTIFY", uri="sip:bob@biloxi.com", cnonce="0a4f113b")
    assert name == "Proxy-Authorization"
    assert challenge_header(offered)[0] == "Proxy-Authenticate"
    assert challenge_header(replace(offered, proxy=False))[0] == "WWW-Authenticate"


def test_peer_without_qop_gets_no_cnonce_and_no_count() -> None:
    """RFC 2617 3.2.2."""
    _, value = authorize(challenge(BILOXI), BOB, method="INVITE", uri="sip:bob@biloxi.com", cnonce="0a4f113b")
    assert value == (
        'Digest username="bob", realm="biloxi.com", nonce="dcd98b7102dd2f0e8b11d0f600bfb0c093",'
        ' uri="sip:bob@biloxi.com", response="bf57e4e0d0bffc0fbaedce64d59add5e", algorithm=MD5'
    )


def test_session_algorithm_without_qop_sends_the_cnonce_that_its_secret_needs() -> None:
    offered = challenge(f"{BILOXI}, algorithm=MD5-sess")
    _, value = authorize(offered, BOB, method="INVITE", uri="sip:bob@biloxi.com", cnonce="0a4f113b")
    assert authorization(value).cnonce == "0a4f113b"
    assert authorization(value).nonce_count is None


@pytest.mark.parametrize(
    ("offered", "expected"),
    [
        ('"auth,auth-int"', (Qop.AUTH, Qop.AUTH_INT)),
        ('"auth-int , AUTH"', (Qop.AUTH, Qop.AUTH_INT)),
        ('"token, auth-int"', (Qop.AUTH_INT,)),
        ("auth", (Qop.AUTH,)),
        ('""', ()),
        ('","', ()),
    ],
)
def test_qop_options_that_we_speak_are_kept(offered: str, expected: tuple[Qop, ...]) -> None:
    assert challenge(f"{BILOXI}, qop={offered}").qop == expected


def test_auth_is_preferred_to_auth_int_in_whatever_order_they_are_offered() -> None:
    offered = Challenge("r", "n", qop=(Qop.AUTH_INT, Qop.AUTH))
    _, value = authorize(offered, BOB, method="NOTIFY", uri="sip:a@b", cnonce="c")
    assert authorization(value).qop is Qop.AUTH


@pytest.mark.parametrize(
    ("text", "stale"),
    [("true", True), ("TRUE", True), ('"true"', True), ("false", False), ("yes", False)],
)
def test_only_true_means_stale(text: str, stale: bool) -> None:
    assert challenge(f"{BILOXI}, stale={text}").stale is stale


@pytest.mark.parametrize("spelling", ["sha-256", '"SHA-256"', "Sha-256"])
def test_algorithm_is_known_by_any_case_and_with_quotes(spelling: str) -> None:
    assert challenge(f"{BILOXI}, algorithm={spelling}").algorithm is Algorithm.SHA_256


@pytest.mark.parametrize(
    "value",
    [
        'Basic realm="biloxi.com"',
        "Negotiate YWJj==",
        f"{BILOXI}, algorithm=SHA-1",
        f'{BILOXI}, qop="token"',
        "Digest algorithm=AKAv1-MD5",
    ],
)
def test_challenge_that_we_do_not_speak_is_passed_over(value: str) -> None:
    assert parse_challenge(value, proxy=False) is None


def test_hash_that_python_lacks_counts_as_not_spoken(monkeypatch: pytest.MonkeyPatch) -> None:
    known = hashlib.new

    def without_sha512_256(name: str, data: bytes = b"", *, usedforsecurity: bool = True) -> object:
        if name == "sha512_256":
            raise ValueError("unsupported hash type sha512_256")
        return known(name, data, usedforsecurity=usedforsecurity)

    best = Challenge("r", "n", algorithm=Algorithm.SHA_512_256)
    second = Challenge("r", "n", algorithm=Algorithm.SHA_256)
    assert strongest([second, best]) == [best]
    monkeypatch.setattr(hashlib, "new", without_sha512_256)
    assert not Algorithm.SHA_512_256_SESS.available
    assert parse_challenge(f"{BILOXI}, algorithm=SHA-512-256", proxy=False) is None
    assert parse_authorization("Digest algorithm=SHA-512-256") is None
    assert strongest([second, best]) == [second]
    with pytest.raises(SipError, match="no sha512_256"):
        authorize(best, BOB, method="NOTIFY", uri="sip:a@b", cnonce="c")


def test_strongest_algorithm_wins_wherever_it_stands() -> None:
    md5, sha256, sha512 = (
        Challenge("r", "n", algorithm=algorithm)
        for algorithm in (Algorithm.MD5, Algorithm.SHA_256, Algorithm.SHA_512_256)
    )
    assert strongest([md5, sha512, sha256]) == [sha512]
    assert strongest([sha256, md5]) == [sha256]
    assert strongest([]) == []


def test_among_equal_algorithms_the_topmost_wins() -> None:
    plain = Challenge("r", "first", algorithm=Algorithm.SHA_256)
    session = Challenge("r", "second", algorithm=Algorithm.SHA_256_SESS)
    assert strongest([plain, session]) == [plain]
    assert strongest([session, plain]) == [session]


def test_every_realm_and_proxy_keeps_a_challenge_in_order_of_appearance() -> None:
    phone = Challenge("phone", "1")
    edge = Challenge("edge", "2", proxy=True)
    edge_sha = Challenge("edge", "3", algorithm=Algorithm.SHA_256, proxy=True)
    edge_as_server = Challenge("edge", "4")
    other_case = Challenge("EDGE", "5", proxy=True)
    assert strongest([edge, phone, edge_sha, edge_as_server, other_case]) == [
        edge_sha,
        phone,
        edge_as_server,
        other_case,
    ]


def test_escapes_and_commas_in_quotes_survive_both_ways() -> None:
    offered = challenge(r'Digest realm="say \"hi\", \\o/ a\b", nonce="n,=", qop="auth"')
    assert offered.realm == 'say "hi", \\o/ ab'
    user = Credentials('o"neil\\, jr', 'pass"word\\')
    _, value = authorize(offered, user, method="NOTIFY", uri="sip:a@b", cnonce='c"')
    assert r'username="o\"neil\\, jr", realm="say \"hi\", \\o/ ab", nonce="n,="' in value
    assert authorization(value).username == 'o"neil\\, jr'
    assert verify(authorization(value), 'pass"word\\', method="NOTIFY")


def test_octets_that_are_no_utf_8_are_hashed_as_received() -> None:
    heard = b'Digest realm="caf\xe9", nonce="n"'.decode("utf-8", "surrogateescape")
    _, value = authorize(challenge(heard), BOB, method="NOTIFY", uri="sip:a@b", cnonce="c")
    secret = Algorithm.MD5.hexdigest(b"bob:caf\xe9:zanzibar")
    request = Algorithm.MD5.hexdigest(b"NOTIFY:sip:a@b")
    expected = Algorithm.MD5.hexdigest(f"{secret}:n:{request}".encode())
    assert f'response="{expected}"' in value
    assert b'realm="caf\xe9"' in value.encode("utf-8", "surrogateescape")


@pytest.mark.parametrize(
    "value",
    [
        '  dIgEsT\trealm = "r" ,\t nonce\t=\t"n"  ',
        'Digest realm="r",nonce="n"',
        'Digest ,realm="r",, nonce="n",',
        "Digest realm=r, nonce=n",
        'Digest REALM="r", Nonce="n", future="x", flag=1',
    ],
)
def test_blanks_case_and_unknown_parameters_do_not_matter(value: str) -> None:
    assert parse_challenge(value, proxy=False) == Challenge("r", "n")


def test_value_without_its_quotes_may_hold_what_urls_and_base64_hold() -> None:
    assert challenge("Digest realm=pbx.example:5060, nonce=YWJj/+==").nonce == "YWJj/+=="


# Malformed input


@pytest.mark.parametrize(
    ("value", "position"),
    [
        ("", 0),
        ("  ", 2),
        ('"Digest" realm="r"', 0),
        ("Digest", -1),
        ('Digest nonce="n"', -1),
        ('Digest realm="r"', -1),
        ('Digest,realm="r", nonce="n"', 6),
        ('Digest="r"', 6),
        ("Digest realm", 12),
        ("Digest realm=", 13),
        ("Digest realm=,", 13),
        ('Digest realm="r', 15),
        ('Digest realm="r\\', 16),
        ('Digest realm="r\\\r\n"', 16),
        ('Digest realm="r\r\nX: y", nonce="n"', 15),
        ('Digest realm="r\x00", nonce="n"', 15),
        ('Digest realm="r" nonce="n"', 17),
        ('Digest realm="r"nonce="n"', 16),
        ('Digest realm="r", nonce="n", realm="s"', 29),
        ('Digest realm="\u00e9", nonce="n", REALM="s"', 30),
        ('Digest realm="r", nonce="n", Digest realm="s", nonce="m"', 36),
        ('Digest realm="r", nonce="n", =x', 29),
        ('Digest realm="r", nonce="n"; qop="auth"', 27),
        ('Digest realm="r", nonce="n"\r\n', 27),
        ('Digest realm="\ud800", nonce="n"', 0),
    ],
)
def test_malformed_challenge_is_refused_with_its_position(value: str, position: int) -> None:
    with pytest.raises(SipParseError) as caught:
        parse_challenge(value, proxy=False)
    assert caught.value.position == position


ANSWER = 'Digest username="u", realm="r", nonce="n", uri="sip:a@b", response="0", cnonce="c", qop=auth, nc=00000001'


@pytest.mark.parametrize("name", ["username", "realm", "nonce", "uri", "response", "cnonce", "nc"])
def test_answer_without_a_required_parameter_is_refused(name: str) -> None:
    assert parse_authorization(ANSWER) is not None
    with pytest.raises(SipParseError, match=f"'{name}' is missing"):
        parse_authorization(ANSWER.replace(f"{name}=", f"x-{name}=", 1).replace("cx-nonce", "cnonce"))


@pytest.mark.parametrize("count", ["1", "0000000A", "000000001", '"0000001g"', "\u0661" * 8, "-0000001"])
def test_answer_with_a_wrong_nonce_count_is_refused(count: str) -> None:
    with pytest.raises(SipParseError):
        parse_authorization(ANSWER.replace("00000001", count))


@pytest.mark.parametrize(
    "value",
    ["Basic dTpw", ANSWER.replace("qop=auth", "qop=token"), f"{ANSWER}, algorithm=SHA-1"],
)
def test_answer_that_we_do_not_speak_is_passed_over(value: str) -> None:
    assert parse_authorization(value) is None


def test_session_answer_needs_a_cnonce_even_without_qop() -> None:
    with pytest.raises(SipParseError, match="'cnonce' is missing"):
        parse_authorization('Digest username="u", realm="r", nonce="n", uri="u", response="0", algorithm=MD5-sess')


def test_limits_hold_exactly() -> None:
    def sized(octets: int) -> str:
        start = 'Digest nonce="n", realm="'
        return f'{start}{"r" * (octets - len(start) - 1)}"'

    def counted(parameters: int) -> str:
        return BILOXI + "".join(f", p{number}=1" for number in range(parameters - 2))

    assert parse_challenge(sized(MAX_VALUE_OCTETS), proxy=False) is not None
    assert parse_challenge(counted(MAX_PARAMETERS), proxy=False) is not None
    with pytest.raises(SipParseError, match="8193 octets, more than 8192"):
        parse_challenge(sized(MAX_VALUE_OCTETS + 1), proxy=False)
    with pytest.raises(SipParseError, match="at most 32"):
        parse_challenge(counted(MAX_PARAMETERS + 1), proxy=False)


@pytest.mark.parametrize("pattern", ["\\", "\\a", '"', ",", " ", "=", 'a="",', 'realm="\\'])
def test_parsing_hostile_values_of_the_largest_size_is_quick(pattern: str) -> None:
    value = "Digest " + pattern * ((MAX_VALUE_OCTETS - 7) // len(pattern))
    start = time.process_time()
    for parse in (lambda: parse_challenge(value, proxy=True), lambda: parse_authorization(value)):
        with pytest.raises(SipParseError):
            parse()
    assert time.process_time() - start < 0.5


@given(st.text() | st.text('Digest=", \\realmnonce\t\r\n').map(lambda tail: f"Digest {tail}"))
def test_any_text_parses_or_raises_the_documented_error(value: str) -> None:
    for parse in (lambda: parse_challenge(value, proxy=False), lambda: parse_authorization(value)):
        try:
            parsed = parse()
        except SipParseError:
            continue
        assert parsed is None or str(parsed).startswith("Digest ")


def test_answer_cut_inside_a_quoted_value_is_refused_at_its_end() -> None:
    inside = [length for length in range(len(ANSWER)) if ANSWER[:length].count('"') % 2]
    assert len(inside) == 18
    for length in inside:
        with pytest.raises(SipParseError, match="found the end") as caught:
            parse_authorization(ANSWER[:length])
        assert caught.value.position == length


# Values that no header field can carry


def test_password_is_in_no_representation() -> None:
    assert repr(BOB) == "Credentials(username='bob', password='***')"
    assert "zanzibar" not in f"{BOB} {[BOB]!r}"


@pytest.mark.parametrize("text", ["a\rb", "a\nb", "a\r\nX: y", "\x00", "a\tb", "\x7f", "\ud800"])
def test_credentials_refuse_what_could_end_a_header_field(text: str) -> None:
    with pytest.raises(SipError):
        Credentials(text, "x")
    with pytest.raises(SipError) as caught:
        Credentials("bob", f"secret{text}")
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize("method", ["", "NOTIFY x", "NOTIFY\r\n", "NOT:IFY"])
def test_method_that_is_no_token_is_refused(method: str) -> None:
    with pytest.raises(SipError, match="no SIP method"):
        authorize(Challenge("r", "n"), BOB, method=method, uri="sip:a@b", cnonce="c")


@pytest.mark.parametrize("count", [0, -1, 0x1_0000_0000])
def test_nonce_count_that_does_not_fit_is_refused(count: int) -> None:
    with pytest.raises(SipError, match="nonce count"):
        authorize(Challenge("r", "n"), BOB, method="NOTIFY", uri="sip:a@b", cnonce="c", nonce_count=count)


@pytest.mark.parametrize("text", ["a\r\nb", "a\x00b", "\ud800"])
def test_uri_and_nonce_refuse_control_characters(text: str) -> None:
    with pytest.raises(SipError):
        authorize(Challenge("r", "n"), BOB, method="NOTIFY", uri=text, cnonce="c")
    with pytest.raises(SipError):
        challenge_header(Challenge("r", text))
