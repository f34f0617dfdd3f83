"""SASL2 (XEP-0388) with all that comes along, where somebody lies or sends what is odd."""

from __future__ import annotations

import hmac
import re
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.disk import Slow, crash
from tests.support.logins import (
    BIND,
    BIND2,
    FAST,
    ID,
    MANAGED,
    NONE,
    OTHER_ID,
    ROMEO,
    SASL2,
    SM,
    a_token,
    agent,
    authenticate,
    b64,
    by_password,
    by_token,
    changes_password,
    exceptions,
    fails,
    has_token,
    is_in_by,
    online,
    opened,
    scram_first,
    succeeds,
    token_of,
    wants,
    world_of_romeo,
)
from tests.support.world import HEADER, World
from xmppd.net.authentication import MAX_TRIES

BINDINGS = {"tls-exporter": b"exported", "tls-server-end-point": b"end point"}


# ---- tokens (XEP-0484)


def test_a_token_under_another_mechanism_is_none() -> None:
    """Section 3.4."""
    world = world_of_romeo()
    token = a_token(world, mechanism="HT-SHA-256-EXPR")
    player = opened(world, bindings=BINDINGS)
    fails(player, by_token(token), "not-authorized")
    fails(player, by_token(token, mechanism="HT-SHA-256-ENDP", binding=b"end point"), "not-authorized")
    fails(player, by_token(token, mechanism="HT-SHA-256-EXPR", binding=b"another"), "not-authorized")
    succeeds(player, by_token(token, mechanism="HT-SHA-256-EXPR", binding=b"exported"))


def test_a_token_of_another_client_or_account_is_none() -> None:
    """Section 3.4: bound to account and client id."""
    world = world_of_romeo()
    world.account("juliet@example.org")
    token = a_token(world)
    player = opened(world)
    fails(player, by_token(token, id=OTHER_ID), "not-authorized")
    fails(player, by_token(token, user="juliet"), "not-authorized")
    fails(player, by_token(token, user="nobody"), "not-authorized")
    fails(player, by_token("wrong"), "not-authorized")
    assert is_in_by(world, token)


def test_one_answer_for_an_unknown_user_client_and_token() -> None:
    """Issue 5, part 3: byte by byte."""
    world = world_of_romeo()
    token = a_token(world)
    answers = set()
    for sent in (by_token(token, id=OTHER_ID), by_token(token, user="nobody"), by_token("wrong"),
                 by_token(token, fast="count='x'"), by_token(token, user="a@b")):  # fmt: skip
        player = opened(world, peer=f"192.0.2.{len(sent) % 200}")
        before = len(player.wire.written)
        player.sends(sent)
        world.advance(60)
        answers.add(player.wire.written[before:].partition(b"</failure>")[0])
    assert len(answers) == 1, answers


def test_counts_rise() -> None:
    """Section 3.5: what was sent once is not taken again, nor anything below it; also after kill -9."""
    world = world_of_romeo()
    token = a_token(world)
    assert is_in_by(world, token, "count='5'")
    assert not is_in_by(world, token, "count='5'")
    assert not is_in_by(world, token, "count='4'")
    assert not is_in_by(world, token, "count='0'")
    assert not is_in_by(world, token, f"count='{10**30}'")
    assert not is_in_by(world, token, "count='-1'")
    key = world.server.token_key
    world = crash(world)
    world.server.token_key = key
    assert not is_in_by(world, token, "count='5'")
    assert is_in_by(world, token, "count='6'")


def test_two_logins_at_once_with_one_count_are_one() -> None:
    """Section 3.5, with both read before either is written."""
    world = world_of_romeo()
    token = a_token(world)
    one, other = opened(world), opened(world)
    slow = Slow(world)
    slow.quick = False
    one.sends_only(by_token(token, f"<bind xmlns='{BIND2}'/>", fast="count='1'"))
    other.sends_only(by_token(token, f"<bind xmlns='{BIND2}'/>", fast="count='1'"))
    world.settle()
    slow.writes_all()
    tags = sorted(player.takes().tag.rpartition("}")[2] for player in (one, other))
    assert tags == ["failure", "success"]


def test_a_new_token_does_not_end_the_one_in_use_before_it_is_used() -> None:
    """Sections 3.5 and 5.1."""
    world = world_of_romeo()
    old = a_token(world)
    succeeds(opened(world), by_token(old))
    world.advance(2 * 86400)
    new = token_of(succeeds(opened(world), by_token(old)))
    newer = token_of(succeeds(opened(world), by_token(old)))
    assert not is_in_by(world, new)  # nobody has it but who asked twice
    assert is_in_by(world, newer)
    assert not is_in_by(world, old)
    assert is_in_by(world, newer)


def test_an_invalidated_token_is_none() -> None:
    """Section 3.6."""
    world = world_of_romeo()
    token = a_token(world)
    world.advance(2 * 86400)
    assert not has_token(succeeds(opened(world), by_token(token, fast="invalidate='true'")))
    assert not is_in_by(world, token)


def test_an_expired_token_says_so_to_who_has_it() -> None:
    """Section 3.5; issue 5, part 3."""
    world = world_of_romeo()
    token = a_token(world)
    world.advance(22 * 86400)
    fails(opened(world), by_token(token), "credentials-expired")
    fails(opened(world), by_token("wrong"), "not-authorized")


def test_a_token_is_over_with_the_password() -> None:
    """Issue 5, part 3."""
    world = world_of_romeo()
    token = a_token(world)
    world.result(changes_password(world, "another"))
    assert not is_in_by(world, token)


def test_a_token_is_asked_for_a_mechanism_that_is_announced() -> None:
    """XEP-0484 section 3.3: the mechanism MUST be one that the server announces."""
    world = world_of_romeo()
    success = succeeds(opened(world), by_password(agent(), wants("HT-SHA-256-UNIQ")))
    assert not has_token(success)


def test_no_token_without_a_client_id() -> None:
    """Issue 5, part 3."""
    world = world_of_romeo()
    assert not has_token(succeeds(opened(world), by_password(wants())))
    assert not has_token(succeeds(opened(world), by_password("<user-agent/>", wants())))


def test_tokens_outlive_kill_9() -> None:
    """Issue 5, done when."""
    world = world_of_romeo()
    token = a_token(world)
    key = world.server.token_key
    world = crash(world)
    world.server.token_key = key
    assert is_in_by(world, token)


def test_the_store_does_not_hold_the_token() -> None:
    """Decision 0009."""
    world = world_of_romeo()
    token = a_token(world)
    with world.store._database.writing.connect() as connection:
        raw: Any = connection.connection.dbapi_connection
        dump = "\n".join(raw.iterdump())
        connection.rollback()
    assert token not in dump and token.encode().hex() not in dump.lower()


# ---- the exchange (XEP-0388)


@pytest.mark.parametrize("authzid", ["juliet@example.org", "romeo@example.org/x", "romeo", "@", "example.org", "\t"])
def test_an_authzid_that_is_somebody_else(authzid: str) -> None:
    """Section 2.3."""
    world = world_of_romeo()
    world.account("juliet@example.org")
    fails(opened(world), by_password(agent(), authzid=authzid), "invalid-authzid")


def test_an_authzid_that_is_not_the_sender_of_the_stream() -> None:
    """Section 2.3: the stream's ``from`` has to agree."""
    world = world_of_romeo()
    fails(opened(world, "juliet@example.org"), by_password(authzid=ROMEO), "invalid-authzid")
    succeeds(opened(world, f"{ROMEO}/x"), by_password(authzid=ROMEO))


def test_a_second_request_after_success_is_a_stream_error() -> None:
    """Section 4.8."""
    world = world_of_romeo()
    for children in ((), (BIND,)):
        player = opened(world)
        succeeds(player, by_password(agent(), *children))
        player.forget()
        player.sends(by_password(agent()))
        assert player.wire.closed
        assert player.all_that_came()[0].tag.endswith("}error")


@pytest.mark.parametrize(
    "between",
    ["<message to='juliet@example.org'><body>x</body></message>", "<presence/>", f"<r xmlns='{SM}'/>",
     "<auth xmlns='urn:ietf:params:xml:ns:xmpp-sasl' mechanism='PLAIN'>AHJvbWVvAHNlY3JldA==</auth>",
     by_password(agent()), f"<next xmlns='{SASL2}' task='x'/>", f"<task-data xmlns='{SASL2}'/>",
     f"<success xmlns='{SASL2}'/>"],
)  # fmt: skip
def test_nothing_else_comes_in_the_middle_of_an_exchange(between: str) -> None:
    """Section 2.4: the server MUST disconnect."""
    world = world_of_romeo()
    player = opened(world)
    scram_first(player, agent())
    player.sends(between)
    assert player.wire.closed
    assert player.stream.session is None


def test_white_space_in_the_middle_of_an_exchange_ends_the_stream() -> None:
    """Section 2.4: clients MUST NOT send white space, and servers MUST disconnect them."""
    world = world_of_romeo()
    player = opened(world)
    scram_first(player, agent())
    player.sends(" ")
    assert player.wire.closed


@pytest.mark.parametrize("data", [" AHJvbWVvAHNlY3JldA==", "AHJvbWVv\nAHNlY3JldA==", "AHJvbWVvAHNlY3JldA", "=", "é"])
def test_base64_with_white_space_or_without_padding(data: str) -> None:
    """Section 2.2."""
    world = world_of_romeo()
    sent = f"<authenticate xmlns='{SASL2}' mechanism='PLAIN'><initial-response>{data}</initial-response></authenticate>"
    fails(opened(world), sent, "incorrect-encoding")


@pytest.mark.parametrize(
    "id", ["x", "d4565fa7-4d72-1749-b3d3-740edbf87770", "{d4565fa7-4d72-4749-b3d3-740edbf87770}",
           "urn:uuid:d4565fa7-4d72-4749-b3d3-740edbf87770", "d4565fa74d724749b3d3740edbf87770", " ", "٠" * 32,
           "x" * 5000],
)  # fmt: skip
def test_a_user_agent_id_that_is_no_uuid(id: str) -> None:
    """Section 2.3."""
    fails(opened(world_of_romeo()), by_password(f"<user-agent id='{id}'/>", BIND), "malformed-request")


def test_mechanisms_that_are_not_offered() -> None:
    """Section 2.3: MUST fail."""
    world = world_of_romeo()
    player = opened(world)
    fails(player, authenticate("SCRAM-SHA-256-PLUS", "p=tls-exporter,,n=romeo,r=C"), "invalid-mechanism")
    fails(player, authenticate("", "x"), "invalid-mechanism")
    fails(player, authenticate(NONE, b"romeo\0x"), "invalid-mechanism")  # without <fast/>
    fails(player, authenticate("HT-SHA-256-EXPR", b"romeo\0x", agent(), f"<fast xmlns='{FAST}'/>"), "invalid-mechanism")


def test_flags_of_channel_binding_that_lie() -> None:
    """RFC 5802 section 6: ``y`` where -PLUS is offered, another type, none with -PLUS."""
    world = world_of_romeo()
    player = opened(world, bindings=BINDINGS)
    fails(player, authenticate("SCRAM-SHA-256", "y,,n=romeo,r=C"), "not-authorized")
    fails(player, authenticate("SCRAM-SHA-256-PLUS", "p=tls-unique,,n=romeo,r=C"), "not-authorized")
    player.sends(authenticate("SCRAM-SHA-256-PLUS", "n,,n=romeo,r=C"))
    assert player.takes().tag == f"{{{SASL2}}}failure"


def test_unknown_children_of_bind_are_passed_over() -> None:
    """XEP-0386 section 3.2."""
    children = "<x xmlns='urn:example:x'><y/></x><tag>App</tag><enable xmlns='urn:example:x'/><tag>Two</tag>text"
    player = opened(world_of_romeo())
    succeeds(player, by_password(agent(), f"<bind xmlns='{BIND2}'>{children}</bind>"))
    assert player.full.startswith(f"{ROMEO}/App/")


def test_the_resource_does_not_show_the_client_id_and_differs_by_client() -> None:
    """XEP-0386 section 3.2.1."""
    world = world_of_romeo()
    names = {online(world, MANAGED, id=id).full for id in (ID, OTHER_ID, ID)}
    assert len(names) == 2
    assert not any(ID in name or ID.replace("-", "") in name for name in names)


def test_a_mismatch_of_the_version_costs_no_try() -> None:
    """XEP-0509 section 2.2: not counted as a failed login."""
    world = world_of_romeo()
    player = opened(world)
    for _ in range(3):
        fails(player, by_password("<config-version xmlns='urn:xmpp:iap:0' value='old'/>"), "aborted")
    for _ in range(3):
        fails(player, by_password(password="wrong"), "not-authorized")
    succeeds(player, by_password(agent(), BIND))


def test_a_pipelined_login_is_answered_in_one_turn() -> None:
    """XEP-0509: header, features, success and features again."""
    world = world_of_romeo()
    token = a_token(world)
    player = world.connect()
    turns = player.by_turns()
    player.sends(HEADER.format(host="example.org") + by_token(token, MANAGED))
    assert len(turns) == 1
    player.receives_header()
    assert [element.tag.rpartition("}")[2] for element in player.all_that_came()] == ["features", "success", "features"]


def test_nothing_but_success_comes_before_success() -> None:
    """XEP-0388 section 2.6.1: what a session is sent meanwhile comes behind, in order."""
    world = world_of_romeo()
    juliet = world.online("juliet@example.org/balcony")
    first = online(world, MANAGED)
    first.disconnects()
    for number in range(3):
        juliet.sends(f"<message to='{first.full}' type='chat' id='{number}'><body>x</body></message>")
    second = opened(world)
    sm_id = re.findall(rb"<enabled [^>]*id='([^']*)'", first.wire.written)[0].decode()
    second.sends(by_password(agent(), f"<resume xmlns='{SM}' h='0' previd='{sm_id}'/>", BIND))
    came = second.all_that_came()
    assert [element.tag.rpartition("}")[2] for element in came[:4]] == ["success", "message", "message", "message"]
    assert [element.get("id") for element in came[1:4]] == ["0", "1", "2"]
    assert came[0].findtext(f"{{{SASL2}}}authorization-identifier") == first.full
    assert not [element for element in came if element.tag.endswith("}features")]


def test_no_legacy_login_where_client_ids_are_enforced() -> None:
    """Issue 5, part 8."""
    world = world_of_romeo("enforce_client_ids = yes")
    player = opened(world)
    player.sends("<auth xmlns='urn:ietf:params:xml:ns:xmpp-sasl' mechanism='PLAIN'>AHJvbWVvAHNlY3JldA==</auth>")
    refused = player.takes()
    assert refused.tag == "{urn:ietf:params:xml:ns:xmpp-sasl}failure"
    assert refused.findtext("{urn:ietf:params:xml:ns:xmpp-sasl}text")
    fails(player, by_password(), "malformed-request")
    fails(player, by_password("<user-agent/>"), "malformed-request")
    succeeds(player, by_password(agent()))


_IDS = st.sampled_from([ID, OTHER_ID, "", "x", ID.upper(), "00000000-0000-4000-8000-000000000000"])
_TEXT = st.text(st.characters(exclude_categories=("Cs", "Cc"), exclude_characters="<>&'\"\ufffe\uffff"), max_size=20)
_DATA = st.one_of(st.binary(max_size=40).map(b64), _TEXT, st.just(b64("\0romeo\0secret")))
_MECHANISMS = st.sampled_from(["PLAIN", "SCRAM-SHA-1", "SCRAM-SHA-512", NONE, "HT-SHA-512-NONE", "HT-SHA-256-UNIQ", ""])
_CHILD = st.one_of(
    st.builds("<user-agent id='{}'><software version='{}'>{}</software><x/></user-agent>".format, _IDS, _TEXT, _TEXT),
    st.builds("<fast xmlns='urn:xmpp:fast:0' count='{}' invalidate='{}'/>".format, _TEXT, _TEXT),
    st.builds("<fast xmlns='urn:xmpp:fast:0'>{}</fast>".format, _TEXT),
    st.builds("<request-token xmlns='urn:xmpp:fast:0' mechanism='{}'/>".format, _MECHANISMS),
    st.just("<request-token xmlns='urn:xmpp:fast:0'/>"),
    st.builds("<initial-response>{}<x/></initial-response>".format, _DATA),
    st.builds("<initial-response>{}</initial-response>".format, _DATA),
    st.builds("<upgrade xmlns='urn:xmpp:sasl:upgrade:0'>UPGR-SCRAM-{}</upgrade>".format, _TEXT),
    st.builds("<config-version xmlns='urn:xmpp:iap:0' value='{}'/>".format, _TEXT),
    st.builds("<resume xmlns='urn:xmpp:sm:3' previd='{}.{}' h='{}'/>".format, _TEXT, _DATA, _TEXT),
    st.just("<resume xmlns='urn:xmpp:sm:3'/>"),
    st.builds("<bind xmlns='urn:xmpp:bind:0'><tag>{}</tag>{}</bind>".format, _TEXT, st.sampled_from([
        "<enable xmlns='urn:xmpp:sm:3' resume='x' max='y'/>", "<inactive xmlns='urn:xmpp:csi:0'/>",
        "<active xmlns='urn:xmpp:csi:0'/>", "<enable xmlns='urn:xmpp:carbons:2'/>", "<x/>",
    ])),
    _TEXT,
)  # fmt: skip
_SENT = st.one_of(
    st.builds("<authenticate xmlns='urn:xmpp:sasl:2' mechanism='{}'>{}</authenticate>".format, _MECHANISMS,
              st.lists(_CHILD, max_size=6).map("".join)),
    st.builds("<response xmlns='urn:xmpp:sasl:2'>{}</response>".format, _DATA),
    st.builds("<{} xmlns='urn:xmpp:sasl:2' task='{}'>{}</{}>".format, st.just("next"), _TEXT, _DATA, st.just("next")),
    st.just("<task-data xmlns='urn:xmpp:sasl:2'><hash xmlns='urn:xmpp:scram-upgrade:0'>x</hash></task-data>"),
    st.just("<abort xmlns='urn:xmpp:sasl:2'/>"),
    st.just("<authenticate xmlns='urn:xmpp:sasl:2'/>"),
)  # fmt: skip


@settings(max_examples=300, deadline=None)
@given(st.lists(_SENT, min_size=1, max_size=5))
def test_odd_requests_are_answered_and_never_an_exception_of_ours(sent: list[str]) -> None:
    """Security, requirement 15; RFC 6120 section 6.5: always an answer."""
    with exceptions() as found:
        player = opened(world_of_romeo())
        for xml in sent:
            if player.wire.closed:
                break
            player.forget()
            player.sends(xml)
            for _ in range(30):
                if player.wire.closed or not player.stream._held:
                    break
                player.world.advance(1)
            assert player.wire.closed or player.all_that_came(), xml
    assert not found, found


def test_the_proof_of_the_server_comes_with_success() -> None:
    """XEP-0484 section 4: HMAC(token, "Responder")."""
    world = world_of_romeo()
    token = a_token(world)
    success = succeeds(opened(world), by_token(token))
    expected = b64(hmac.digest(token.encode(), b"Responder", "sha256"))
    assert success.findtext(f"{{{SASL2}}}additional-data") == expected


def test_limits_are_those_of_a_login_after_it_and_not_before() -> None:
    """Security, requirement 2, without a new stream in between."""
    world = world_of_romeo()
    player = opened(world)
    player.sends(by_password(agent(), "x" * 11_000))
    assert player.wire.closed
    player = online(world)
    player.sends(f"<message to='{ROMEO}' type='chat'><body>{'x' * 20_000}</body></message>")
    assert not player.wire.closed


def test_what_comes_with_a_pipelined_login_ends_the_stream() -> None:
    """XEP-0388 section 2.4: nothing may follow before the answer; nothing of it is handled."""
    world = world_of_romeo()
    token = a_token(world)
    for more in ("<presence/>", "<iq", by_token(token)):
        player = world.connect()
        player.sends(HEADER.format(host="example.org") + by_token(token, BIND) + more)
        assert player.wire.closed
        assert not list(world.server.sessions)


def test_binding_the_old_way_without_a_user_agent() -> None:
    """Issue 5, part 1: as Gajim does."""
    player = opened(world_of_romeo(), ROMEO)
    success = succeeds(player, by_password())
    assert success.findtext(f"{{{SASL2}}}authorization-identifier") == ROMEO
    features = player.takes()
    assert features.find("{urn:ietf:params:xml:ns:xmpp-bind}bind") is not None
    player.bind("here")


def test_a_login_in_the_clear_is_refused() -> None:
    """XEP-0388 section 3: only under TLS."""
    world = World("c2s_require_encryption = no\nallow_unencrypted_plain_auth = yes")
    world.account(ROMEO)
    player = world.connect(secure=False)
    player.opens()
    assert SASL2.encode() not in player.wire.written
    player.forget()
    player.sends(by_password(agent(), BIND))
    assert player.wire.closed and player.stream.session is None


def test_failures_are_limited_on_a_stream() -> None:
    """RFC 6120 section 6.4.5."""
    player = opened(world_of_romeo())
    for _ in range(MAX_TRIES):
        fails(player, by_token("wrong"), "not-authorized")
        player.world.advance(2)
    assert player.wire.closed
