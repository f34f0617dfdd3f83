"""SCRAM: what a client may not do, and what it must not find out."""

from __future__ import annotations

import base64
from dataclasses import replace

import pytest

from xmppd.auth.mechanism import AuthenticationFailed, Challenge
from xmppd.auth.offer import Offer, create

from .support import BINDINGS, EVERYTHING, NO_BINDING, Client, decoy, failure, make_exchange, run


@pytest.mark.parametrize(
    ("message", "condition"),
    [
        (None, "malformed-request"),
        (b"", "malformed-request"),
        (b"n", "malformed-request"),
        (b"n,", "malformed-request"),
        (b"n,,", "malformed-request"),
        (b",,n=romeo,r=CLIENT", "malformed-request"),
        (b"x,,n=romeo,r=CLIENT", "malformed-request"),
        (b"N,,n=romeo,r=CLIENT", "malformed-request"),
        (b"nn,,n=romeo,r=CLIENT", "malformed-request"),
        (b"n=,,n=romeo,r=CLIENT", "malformed-request"),
        (b"F,n,,n=romeo,r=CLIENT", "malformed-request"),
        (b"n,n=romeo,r=CLIENT", "malformed-request"),
        (b"n,,r=CLIENT,n=romeo", "malformed-request"),
        (b"n,,n=romeo", "malformed-request"),
        (b"n,,r=CLIENT", "malformed-request"),
        (b"n,,n=,r=CLIENT", "malformed-request"),
        (b"n,,n=romeo,r=", "malformed-request"),
        (b"n,,n=romeo,,r=CLIENT", "malformed-request"),
        (b"n,,n=romeo,r=CLIENT,", "malformed-request"),
        (b"n,,N=romeo,r=CLIENT", "malformed-request"),
        (b"n,,n:romeo,r=CLIENT", "malformed-request"),
        (b"n,,nn=romeo,r=CLIENT", "malformed-request"),
        (b"n,, n=romeo,r=CLIENT", "malformed-request"),
        (b"n,,n=romeo,x=1,r=CLIENT", "malformed-request"),
        (b"n,,n=romeo,r=CLIENT,n=tybalt", "malformed-request"),
        (b"n,,n=romeo,r=CLIENT,r=other", "malformed-request"),
        (b"n,,n=romeo,r=CLIENT,a=tybalt", "malformed-request"),
        (b"n,,n=romeo,r=CLIENT,x", "malformed-request"),
        (b"n,,n=romeo,r=CLIENT,x=", "malformed-request"),
        (b"n,,n=romeo,r=CLIENT,1=x", "malformed-request"),
        ("n,,n=romeo,r=CLIENT,é=x".encode(), "malformed-request"),
        (b"n,,n=romeo,r=CLI ENT", "malformed-request"),
        (b"n,,n=romeo,r=CLIENT\x7f", "malformed-request"),
        (b"n,,n=romeo,r=CLIENT\n", "malformed-request"),
        ("n,,n=romeo,r=CLIÉNT".encode(), "malformed-request"),
        (b"n,,n=ro\0meo,r=CLIENT", "malformed-request"),
        (b"n,,n=romeo,r=CLIENT,x=\0", "malformed-request"),
        (b"n,,n=ro\xffmeo,r=CLIENT", "malformed-request"),
        (b"n,,n=ro\xc0\xafmeo,r=CLIENT", "malformed-request"),
        (b"\xef\xbb\xbfn,,n=romeo,r=CLIENT", "malformed-request"),
        (b"n,,n=ro=meo,r=CLIENT", "malformed-request"),
        (b"n,,n=romeo=,r=CLIENT", "malformed-request"),
        (b"n,,n=romeo=2,r=CLIENT", "malformed-request"),
        (b"n,,n=romeo=2c,r=CLIENT", "malformed-request"),
        (b"n,,n=romeo=3d,r=CLIENT", "malformed-request"),
        (b"n,,m=1,n=romeo,r=CLIENT", "malformed-request"),
        (b"n,,n=romeo,r=CLIENT,m=1", "malformed-request"),
        (b"n,a=,n=romeo,r=CLIENT", "malformed-request"),
        (b"n,a,n=romeo,r=CLIENT", "malformed-request"),
        (b"n,b=romeo@example.org,n=romeo,r=CLIENT", "malformed-request"),
        (b"n,a=ro=meo,n=romeo,r=CLIENT", "malformed-request"),
        (b"n,a=tybalt@example.org,n=romeo,r=CLIENT", "invalid-authzid"),
        (b"n,a=romeo,n=romeo,r=CLIENT", "invalid-authzid"),
        (b"n,a=juliet@example.org,n=nurse,r=CLIENT", "invalid-authzid"),
        ("n,,n=\u00ad,r=CLIENT".encode(), "not-authorized"),
        (b"n,,n=ro\nmeo,r=CLIENT", "not-authorized"),
        ("n,,n=\u06271,r=CLIENT".encode(), "not-authorized"),
        (b"p=tls-exporter,,n=romeo,r=CLIENT", "malformed-request"),
        (b"y,,n=romeo,r=CLIENT", "not-authorized"),
    ],
)
def test_client_first(message: bytes | None, condition: str) -> None:
    mechanism = create("SCRAM-SHA-256", make_exchange())
    if message is None:
        run(mechanism.respond(None))
    assert failure(mechanism.respond(message)).condition == condition
    assert failure(mechanism.respond(b"n,,n=romeo,r=CLIENT")).condition == "malformed-request"


@pytest.mark.parametrize(
    ("message", "condition"),
    [
        (b"n,,n=romeo,r=CLIENT", "malformed-request"),
        (b"y,,n=romeo,r=CLIENT", "malformed-request"),
        (b"p,,n=romeo,r=CLIENT", "malformed-request"),
        (b"p=,,n=romeo,r=CLIENT", "malformed-request"),
        (b"p=tls_exporter,,n=romeo,r=CLIENT", "malformed-request"),
        (b"p=tls-exporter\n,,n=romeo,r=CLIENT", "malformed-request"),
        ("p=é,,n=romeo,r=CLIENT".encode(), "malformed-request"),
        (b"p=tls-unique,,n=romeo,r=CLIENT", "not-authorized"),  # neither offered nor there
        (b"p=TLS-EXPORTER,,n=romeo,r=CLIENT", "not-authorized"),
        (b"p=secret-type,,n=romeo,r=CLIENT", "not-authorized"),  # there, not offered
        (b"p=tls-server-end-point,,n=romeo,r=CLIENT", "not-authorized"),  # offered, not there
    ],
)
def test_client_first_with_channel_binding(message: bytes, condition: str) -> None:
    exchange = make_exchange(bindings={"tls-exporter": b"x", "secret-type": b"y"})
    mechanism = create("SCRAM-SHA-256-PLUS", exchange)
    assert failure(mechanism.respond(message)).condition == condition


@pytest.mark.parametrize(
    ("name", "message", "text"),
    [
        ("SCRAM-SHA-1", b"y,,n=romeo,r=CLIENT", "server-does-support-channel-binding"),
        ("SCRAM-SHA-1-PLUS", b"p=tls-unique,,n=romeo,r=CLIENT", "unsupported-channel-binding-type"),
        ("SCRAM-SHA-1", b"n,,m=x,n=romeo,r=CLIENT", "extensions-not-supported"),
        ("SCRAM-SHA-1", b"n,,n=a=b,r=CLIENT", "invalid-username-encoding"),
        ("SCRAM-SHA-1", b"n,,n=a\tb,r=CLIENT", "invalid-username-encoding"),
        ("SCRAM-SHA-1", b"\xff", "invalid-encoding"),
    ],
)
def test_the_reason_is_named_as_in_rfc_5802(name: str, message: bytes, text: str) -> None:
    assert failure(create(name, make_exchange()).respond(message)).text == text


def test_y_is_refused_if_any_plus_was_offered() -> None:
    offer = Offer(("SCRAM-SHA-1-PLUS", "SCRAM-SHA-256"), ("tls-exporter",))
    failed = failure(create("SCRAM-SHA-256", make_exchange(offered=offer)).respond(b"y,,n=romeo,r=CLIENT"))
    assert failed.condition == "not-authorized"


HONEST = "c=biws,r=CLIENTSERVER,p=" + base64.b64encode(bytes(32)).decode()


@pytest.mark.parametrize(
    ("message", "condition"),
    [
        (None, "malformed-request"),
        (b"", "malformed-request"),
        (b"c=biws", "malformed-request"),
        (b"c=biws,r=CLIENTSERVER", "malformed-request"),
        (b"c=biws,p=AAAA", "malformed-request"),
        (b"r=CLIENTSERVER,c=biws,p=AAAA", "malformed-request"),
        (b"r=CLIENTSERVER,p=AAAA", "malformed-request"),
        (b"c=biws,r=CLIENTSERVER,p=AAAA,x=1", "malformed-request"),
        (b"c=biws,r=CLIENTSERVER,p=AAAA,p=AAAA", "malformed-request"),
        (b"c=biws,r=CLIENTSERVER,r=CLIENTSERVER,p=AAAA", "malformed-request"),
        (b"c=biws,r=CLIENTSERVER,c=biws,p=AAAA", "malformed-request"),
        (b"c=biws,r=CLIENTSERVER,n=tybalt,p=AAAA", "malformed-request"),
        (b"c=biws,r=CLIENTSERVER,p=", "malformed-request"),
        (b"c=,r=CLIENTSERVER,p=AAAA", "malformed-request"),
        (b"c=biws,r=,p=AAAA", "malformed-request"),
        (b"c=biws,r=CLIENTSERVER,p=AAAA,", "malformed-request"),
        (b"c=biws,r=CLIENTSERVER,p=AAAA\0", "malformed-request"),
        (b"c=biws,r=CLIENTSERVER,P=AAAA", "malformed-request"),
        (b"c=biws,r=CLIENTSERVER,m=1,p=AAAA", "malformed-request"),
        (b"m=1,c=biws,r=CLIENTSERVER,p=AAAA", "malformed-request"),
        (b"\xff" + HONEST.encode(), "malformed-request"),
        (b"c=biws,r=CLIENTSERVER,p=***", "incorrect-encoding"),
        (b"c=biws,r=CLIENTSERVER,p=AAA", "incorrect-encoding"),
        (b"c=biws,r=CLIENTSERVER,p=AAB=", "incorrect-encoding"),  # bits that mean nothing
        (b"c=biws,r=CLIENTSERVER,p=AAAA AAAA", "incorrect-encoding"),
        (b"c=biws,r=CLIENTSERVER,p=AAAA\n", "incorrect-encoding"),
        (b"c=biws,r=CLIENTSERVER,p=AA==AAAA", "incorrect-encoding"),
        (b"c=biws,r=CLIENTSERVER,p=====", "incorrect-encoding"),
        ("c=biws,r=CLIENTSERVER,p=äöü".encode(), "incorrect-encoding"),
        (b"c=bi-_,r=CLIENTSERVER,p=AAAA", "incorrect-encoding"),
        (b"c=biw,r=CLIENTSERVER,p=AAAA", "incorrect-encoding"),
        (b"c=biws,r=CLIENTSERVER,p=AAAA", "not-authorized"),  # too short
        (HONEST.replace("p=", "p=AAAA").encode(), "not-authorized"),  # too long
        (HONEST.encode(), "not-authorized"),
    ],
)
def test_client_final(message: bytes | None, condition: str) -> None:
    mechanism = create("SCRAM-SHA-256", make_exchange())
    client = Client("wherefore")
    challenge = run(mechanism.respond(client.first()))
    assert isinstance(challenge, Challenge)
    assert failure(mechanism.respond(message)).condition == condition
    # The right answer comes too late.
    assert failure(mechanism.respond(client.final(challenge.data))).condition == "malformed-request"


def b64(data: bytes) -> str:
    return base64.b64encode(data).decode()


@pytest.mark.parametrize(
    ("gs2", "wrong"),
    [
        # All of these are signed with the right password.
        pytest.param("n,,", {"r": "CLIENT"}, id="only the client's nonce"),
        pytest.param("n,,", {"r": "CLIENTSERVERx"}, id="longer nonce"),
        pytest.param("n,,", {"r": "CLIENTSERVEs"}, id="other nonce"),
        pytest.param("n,,", {"r": "ÉLIENTSERVER"}, id="nonce not ASCII"),
        pytest.param("n,,", {"c": b64(b"y,,")}, id="other flag"),
        pytest.param("n,,", {"c": b64(b"n,,x")}, id="data without binding"),
        pytest.param("n,,", {"c": b64(b"n,")}, id="shorter header"),
        pytest.param("n,,", {"c": b64(b"n,a=romeo@example.org,")}, id="other authzid"),
        pytest.param("n,a=romeo@example.org,", {"c": b64(b"n,,")}, id="authzid dropped"),
        pytest.param("p=tls-exporter,,", {"c": b64(b"p=tls-exporter,,")}, id="no binding data"),
        pytest.param("p=tls-exporter,,", {"c": b64(b"p=tls-exporter,,other")}, id="another connection"),
        pytest.param(
            "p=tls-exporter,,",
            {"c": b64(b"p=tls-server-end-point,," + BINDINGS["tls-exporter"])},
            id="other type",
        ),
        pytest.param(
            "p=tls-exporter,,",
            {"c": b64(b"p=tls-exporter,," + BINDINGS["tls-server-end-point"])},
            id="data of another type",
        ),
        pytest.param("p=tls-exporter,,", {"c": b64(b"n,,")}, id="no binding at all"),
    ],
)
def test_signed_but_wrong(gs2: str, wrong: dict[str, str]) -> None:
    name = "SCRAM-SHA-256-PLUS" if gs2.startswith("p") else "SCRAM-SHA-256"
    mechanism = create(name, make_exchange())
    client = Client("wherefore", gs2=gs2)
    challenge = run(mechanism.respond(client.first()))
    assert isinstance(challenge, Challenge)
    failed = failure(mechanism.respond(client.final(challenge.data, **wrong)))
    assert failed.condition == "not-authorized"
    assert failed.text == ("channel-bindings-dont-match" if "c" in wrong else None)


def test_a_message_of_the_server_changed_on_the_way_is_noticed() -> None:
    for offered, shown in ((EVERYTHING, NO_BINDING), (NO_BINDING, EVERYTHING)):
        mechanism = create("SCRAM-SHA-256", make_exchange(offered=offered))
        other = create("SCRAM-SHA-256", make_exchange(offered=shown))
        client = Client("wherefore")
        run(mechanism.respond(client.first()))
        challenge = run(other.respond(client.first()))
        assert isinstance(challenge, Challenge)
        assert failure(mechanism.respond(client.final(challenge.data))).condition == "not-authorized"


@pytest.mark.parametrize(
    ("username", "password", "condition"),
    [
        ("romeo", "Wherefore", "not-authorized"),
        ("juliet", "wherefore", "not-authorized"),
        ("old", "legacy", "not-authorized"),  # has no keys for SHA-256
        ("tybalt", "wrong", "not-authorized"),
        ("tybalt", "peppercorn", "account-disabled"),
    ],
)
def test_who_stays_outside(username: str, password: str, condition: str) -> None:
    mechanism = create("SCRAM-SHA-256", make_exchange())
    client = Client(password, username)
    challenge = run(mechanism.respond(client.first()))
    assert isinstance(challenge, Challenge)
    failed = failure(mechanism.respond(client.final(challenge.data)))
    assert (failed.condition, failed.text) == (condition, None)


@pytest.mark.parametrize("unknown", ["juliet", "old"])
def test_an_unknown_user_looks_like_a_known_one(unknown: str) -> None:
    def server_first(username: str) -> dict[str, str]:
        answer = run(create("SCRAM-SHA-256", make_exchange()).respond(Client("x", username).first()))
        assert isinstance(answer, Challenge)
        return dict(part.split("=", 1) for part in answer.data.decode().split(","))

    known, made_up = server_first("romeo"), server_first(unknown)
    assert list(known) == list(made_up)
    assert {**known, "s": ""} == {**made_up, "s": ""}
    assert len(known["s"]) == len(made_up["s"])
    assert made_up == server_first(unknown)  # the salt stays
    assert made_up["s"] == server_first(unknown.upper())["s"]
    assert base64.b64decode(made_up["s"]) == decoy(unknown, "SHA-256").salt


def test_a_failing_lookup_is_passed_on() -> None:
    async def lookup(username: str) -> None:
        raise AuthenticationFailed("temporary-auth-failure")

    exchange = replace(make_exchange(), lookup=lookup)
    failed = failure(create("SCRAM-SHA-1", exchange).respond(b"n,,n=romeo,r=CLIENT"))
    assert failed.condition == "temporary-auth-failure"
