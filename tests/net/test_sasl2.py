"""SASL2 on a stream (XEP-0388): what is announced, who gets in, and what comes of everything else."""

from __future__ import annotations

import base64

import pytest

from tests.auth.support import Client
from tests.net.support import CLEAR
from tests.support.sasl2 import (
    BIND,
    BIND2,
    FAST,
    IDS,
    SASL2,
    SM,
    agent,
    arrives,
    asks,
    authenticate,
    b64,
    opens,
    plain,
)
from tests.support.world import Player, World

STREAM = "{http://etherx.jabber.org/streams}"
IAP = "{urn:xmpp:iap:0}"
UPGRADE = "{urn:xmpp:sasl:upgrade:0}"
BINDINGS = {"tls-exporter": b"exported" * 4, "tls-server-end-point": b"end point"}


def features(world: World, **connection: object) -> list[str]:
    player = world.connect(**connection)  # type: ignore[arg-type]
    player.opens()
    player.receives_header()
    return [element.tag for element in player.takes()]


# ---- what is announced


def test_it_is_announced_under_tls_with_what_may_come_with_a_login() -> None:
    player = World().connect(bindings=BINDINGS)
    player.opens()
    player.receives_header()
    announced = player.takes()
    own = announced.find(f"{SASL2}authentication")
    assert own is not None
    assert [element.text for element in own.findall(f"{SASL2}mechanism")] == [
        "SCRAM-SHA-512-PLUS", "SCRAM-SHA-256-PLUS", "SCRAM-SHA-1-PLUS",
        "SCRAM-SHA-512", "SCRAM-SHA-256", "SCRAM-SHA-1", "PLAIN",
    ]  # fmt: skip
    inline = own.find(f"{SASL2}inline")
    assert inline is not None
    assert [element.tag for element in inline] == [f"{BIND2}bind", f"{SM}sm", f"{FAST}fast"]
    binds = [element.get("var") for element in inline.iter(f"{BIND2}feature")]
    assert binds == ["urn:xmpp:carbons:2", "urn:xmpp:csi:0", "urn:xmpp:sm:3"]
    assert [element.text for element in inline.iter(f"{FAST}mechanism")] == [
        "HT-SHA-512-ENDP", "HT-SHA-512-EXPR", "HT-SHA-256-ENDP", "HT-SHA-256-EXPR",
        "HT-SHA-512-NONE", "HT-SHA-256-NONE",
    ]  # fmt: skip
    assert own.find(f"{UPGRADE}upgrade") is None  # everybody has keys for everything


def test_without_tls_it_is_neither_announced_nor_spoken() -> None:
    world = World(CLEAR)
    assert f"{SASL2}authentication" not in features(world, secure=False)
    player = opens(world, secure=False)
    player.sends(plain())
    player.receives(
        "<failure xmlns='urn:xmpp:sasl:2'><encryption-required xmlns='urn:ietf:params:xml:ns:xmpp-sasl'/></failure>"
    )
    player.receives_stream_error("policy-violation")


def test_what_is_disabled_is_not_announced() -> None:
    world = World("modules_disabled = smacks, sasl2_fast, carbons, csi\ndisable_sasl_mechanisms = PLAIN")
    player = world.connect()
    player.opens()
    player.receives_header()
    own = player.takes().find(f"{SASL2}authentication")
    assert own is not None
    assert [element.tag for element in own.iter()][-3:] == [f"{SASL2}inline", f"{BIND2}bind", f"{BIND2}inline"]
    assert "PLAIN" not in [element.text for element in own]


def test_a_sender_of_another_domain_is_refused() -> None:
    player = World().connect()
    player.header = player.header.replace(" to=", " from='romeo@example.net' to=")
    player.opens()
    player.receives_header()
    player.receives_stream_error("invalid-from")


# ---- getting in


@pytest.mark.parametrize("hash_name", ["SHA-1", "SHA-256", "SHA-512"])
@pytest.mark.parametrize("plus", ["", "-PLUS"])
def test_scram(hash_name: str, plus: str) -> None:
    world = World()
    world.account("romeo@example.org", "secret")
    player = opens(world, bindings=BINDINGS)
    gs2, data = ("p=tls-exporter,,", BINDINGS["tls-exporter"]) if plus else ("n,,", b"")
    client = Client("secret", hash_name=hash_name, gs2=gs2, binding=data)
    player.sends(authenticate(f"SCRAM-{hash_name}{plus}", client.first(), agent()))
    challenge = player.takes()
    assert challenge.tag == f"{SASL2}challenge"
    final = client.final(base64.b64decode(challenge.text or ""))
    player.sends(f"<response xmlns='urn:xmpp:sasl:2' mechanism='stray'>{b64(final)}</response>")
    success = player.takes()
    assert [element.tag for element in success] == [f"{SASL2}additional-data", f"{SASL2}authorization-identifier"]
    assert base64.b64decode(success[0].text or "") == client.server_signature
    assert success[1].text == "romeo@example.org"
    assert player.takes().tag == f"{STREAM}features"


def test_without_bind2_and_user_agent_the_old_binding_follows_on_the_same_stream() -> None:
    arrived = arrives(World(), plain())
    assert arrived.jid == "romeo@example.org"
    player = arrived.player
    announced = [element.tag for element in player.takes()]
    assert announced[:2] == ["{urn:ietf:params:xml:ns:xmpp-bind}bind", "{urn:ietf:params:xml:ns:xmpp-session}session"]
    assert f"{SASL2}authentication" not in announced
    player.bind("orchard")
    player.sends("<iq type='get' id='1'><ping xmlns='urn:xmpp:ping'/></iq>")
    player.receives("<iq type='result' id='1' to='romeo@example.org/orchard'/>")


def test_after_login_larger_stanzas_are_taken() -> None:
    player = arrives(World(), plain(BIND.format(""))).player
    player.takes()
    player.sends(f"<message to='romeo@example.org' id='1'><body>{'x' * 50_000}</body></message>")
    player.sends("<iq type='get' id='1'><ping xmlns='urn:xmpp:ping'/></iq>")
    player.receives(f"<iq type='result' id='1' to='{player.full}'/>")


def test_header_features_and_answer_to_a_first_flight_leave_in_one_turn() -> None:
    world = World()
    world.account("romeo@example.org", "secret")
    player = world.connect()
    turns = player.by_turns()
    player.sends(player.header.format(host="example.org") + plain(agent(), BIND.format("")))
    assert len(turns) == 1
    player.receives_header()
    assert player.takes().tag == f"{STREAM}features"
    assert player.takes().tag == f"{SASL2}success"
    assert player.takes().tag == f"{STREAM}features"


# ---- the version of what is announced (XEP-0509)


def config_version(world: World) -> str:
    player = world.connect()
    player.opens()
    player.receives_header()
    found = player.takes().find(f"{IAP}config-version")
    assert found is not None
    return found.get("value") or ""


def test_the_version_stays_and_changes_with_what_is_announced() -> None:
    version = config_version(World())
    assert config_version(World()) == version != ""
    assert config_version(World("modules_disabled = csi")) != version
    assert config_version(World("disable_sasl_mechanisms = PLAIN")) != version


def test_a_login_with_the_right_version_gets_in_and_one_with_a_wrong_one_has_not_failed() -> None:
    world = World()
    version = config_version(world)
    assert arrives(world, plain(f"<config-version xmlns='urn:xmpp:iap:0' value='{version}'/>")).jid
    player = opens(world)
    for _ in range(3):
        arrived = asks(player, plain("<config-version xmlns='urn:xmpp:iap:0' scheme='opaque' value='old'/>"))
        assert arrived.failure == "aborted"
        assert arrived.find(f"{IAP}config-version-mismatch") is not None
    assert world.service.addresses.wait(player.wire.peer) == 0
    assert asks(player, plain()).jid == "romeo@example.org"


# ---- getting in fails


FAILURES = {
    "wrong password": (plain(password="wrong"), "not-authorized"),
    "nobody": (plain(user="nobody"), "not-authorized"),
    "mechanism not offered": (authenticate("EXTERNAL", b""), "invalid-mechanism"),
    "mechanism of a token without a token": (authenticate("HT-SHA-256-NONE", b"romeo\0x"), "invalid-mechanism"),
    "no mechanism": ("<authenticate xmlns='urn:xmpp:sasl:2'/>", "invalid-mechanism"),
    "white space in base64": (
        "<authenticate xmlns='urn:xmpp:sasl:2' mechanism='PLAIN'><initial-response> AA==\n</initial-response>"
        "</authenticate>", "incorrect-encoding",
    ),
    "= for no data": (
        "<authenticate xmlns='urn:xmpp:sasl:2' mechanism='PLAIN'><initial-response>=</initial-response></authenticate>",
        "incorrect-encoding",
    ),
    "another's authzid": (plain(authzid="juliet@example.org"), "invalid-authzid"),
    "id that is no UUID": (plain(agent("phone")), "malformed-request"),
    "id of another version": (plain(agent("d4565fa7-4d72-1749-b3d3-740edbf87770")), "malformed-request"),
    "id in braces": (plain(agent("{" + IDS[0] + "}")), "malformed-request"),
}  # fmt: skip


@pytest.mark.parametrize("name", FAILURES)
def test_a_failure_says_why_and_the_client_may_try_again(name: str) -> None:
    request, condition = FAILURES[name]
    arrived = arrives(World(), request)
    assert arrived.failure == condition
    assert asks(arrived.player, plain(agent())).jid == "romeo@example.org"


def test_who_lies_about_channel_binding_is_refused() -> None:
    world = World()
    world.account("romeo@example.org", "secret")
    for gs2, mechanism, condition in (
        ("y,,", "SCRAM-SHA-256", "not-authorized"),
        ("p=tls-unique,,", "SCRAM-SHA-256-PLUS", "not-authorized"),
        ("n,,", "SCRAM-SHA-256-PLUS", "malformed-request"),
        ("p=tls-exporter,,", "SCRAM-SHA-256", "malformed-request"),
    ):
        client = Client("secret", gs2=gs2)
        assert asks(opens(world, bindings=BINDINGS), authenticate(mechanism, client.first())).failure == condition


def test_an_authzid_has_to_be_who_the_stream_header_names() -> None:
    world = World()
    right = plain(authzid="romeo@example.org")
    assert arrives(world, right, sender="romeo@example.org/phone").jid == "romeo@example.org"
    assert arrives(world, right, sender="juliet@example.org").failure == "invalid-authzid"
    assert arrives(world, plain(), sender="juliet@example.org").jid == "romeo@example.org"


def test_failures_are_counted_and_end_the_stream() -> None:
    world = World()
    world.account("romeo@example.org", "secret")
    player = opens(world)
    for _ in range(4):
        assert asks(player, plain(password="wrong")).failure == "not-authorized"
        world.advance(60)
        if player.stream.closed:
            return
    player.sends(plain(password="wrong"))
    world.advance(10)
    player.takes()
    player.receives_stream_error("policy-violation")


def test_an_exchange_can_be_aborted() -> None:
    world = World()
    world.account("romeo@example.org", "secret")
    player = opens(world)
    player.sends(authenticate("SCRAM-SHA-256", Client("secret").first()))
    player.takes()
    player.sends("<abort xmlns='urn:xmpp:sasl:2'><text>enough</text></abort>")
    assert player.takes()[0].tag == "{urn:ietf:params:xml:ns:xmpp-sasl}aborted"
    assert asks(player, plain()).jid == "romeo@example.org"


def in_exchange(world: World) -> Player:
    world.account("romeo@example.org", "secret")
    player = opens(world)
    player.sends(authenticate("SCRAM-SHA-256", Client("secret").first()))
    player.takes()
    return player


@pytest.mark.parametrize(
    ("sent", "condition"),
    [
        ("<message to='juliet@example.org'/>", "not-authorized"),
        ("<r xmlns='urn:xmpp:sm:3'/>", "not-authorized"),
        (plain(), "policy-violation"),
        ("<next xmlns='urn:xmpp:sasl:2' task='X'/>", "policy-violation"),
        ("<task-data xmlns='urn:xmpp:sasl:2'/>", "policy-violation"),
        ("<auth xmlns='urn:ietf:params:xml:ns:xmpp-sasl' mechanism='PLAIN'/>", "not-authorized"),
    ],
)
def test_nothing_else_may_come_during_an_exchange(sent: str, condition: str) -> None:
    player = in_exchange(World())
    player.sends(sent)
    player.receives_stream_error(condition)


def test_nothing_may_come_before_the_answer() -> None:
    world = World()
    world.account("romeo@example.org", "secret")
    player = opens(world)
    player.sends(plain(agent(), BIND.format("")) + "<presence/>")
    player.receives_stream_error("not-authorized")
    assert world.server.sessions.of("romeo@example.org") == []


@pytest.mark.parametrize("more", ["", BIND.format("")])
def test_a_second_login_after_success_is_a_stream_error(more: str) -> None:
    player = arrives(World(), plain(more)).player
    player.takes()
    player.sends(plain())
    assert player.takes().tag == f"{STREAM}error"


def test_a_password_that_is_changed_during_an_exchange_lets_nobody_in() -> None:
    world = World()
    world.account("romeo@example.org", "secret")
    player, client = opens(world), Client("secret")
    player.sends(authenticate("SCRAM-SHA-256", client.first()))
    final = client.final(base64.b64decode(player.takes().text or ""))
    account = world.run(world.host.accounts.load("romeo"))
    world.run(world.host.accounts.set_password(account, "new"))
    player.sends(f"<response xmlns='urn:xmpp:sasl:2'>{b64(final)}</response>")
    assert player.takes()[0].tag == "{urn:ietf:params:xml:ns:xmpp-sasl}not-authorized"


# ---- enforce_client_ids


def test_where_ids_are_enforced_only_who_says_which_client_it_is_gets_in() -> None:
    world = World("enforce_client_ids = yes")
    assert "{urn:ietf:params:xml:ns:xmpp-sasl}mechanisms" not in features(world)
    arrived = arrives(world, plain())
    assert arrived.failure == "malformed-request"
    assert "user agent" in (arrived.answer.findtext(f"{SASL2}text") or "")
    player = arrived.player
    player.sends(f"<auth xmlns='urn:ietf:params:xml:ns:xmpp-sasl' mechanism='PLAIN'>{b64(chr(0) + 'romeo')}</auth>")
    refused = player.takes()
    assert refused.tag == "{urn:ietf:params:xml:ns:xmpp-sasl}failure"
    assert [element.tag.rpartition("}")[2] for element in refused] == ["malformed-request", "text"]
    assert asks(player, plain(agent())).jid == "romeo@example.org"
