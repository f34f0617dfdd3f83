"""SCRAM: the exchanges of the RFCs and XEPs byte by byte, and what a client may do."""

from __future__ import annotations

import base64
from collections.abc import Mapping

import pytest

from xmppd.auth.credentials import Credentials, derive
from xmppd.auth.mechanism import Challenge, Exchange, Success
from xmppd.auth.offer import Offer, create, downgrade_hash

from .support import (
    ACCOUNTS,
    BINDINGS,
    EVERYTHING,
    ITERATIONS,
    NO_BINDING,
    Client,
    failure,
    make_exchange,
    run,
)

XEP_OFFER = Offer(("SCRAM-SHA-1", "SCRAM-SHA-1-PLUS"), ("tls-server-end-point", "tls-exporter"))
XEP_NONCE = "12C4CD5C-E38E-4A98-8F6D-15C38F51CCC6"
XEP_SERVER_NONCE = "a09117a6-ac50-4f2f-93f1-93799c2bddf6"
XEP_FINAL = f"c=cD10bHMtZXhwb3J0ZXIsLFRISVMgSVMgRkFLRSBDQiBEQVRB,r={XEP_NONCE}{XEP_SERVER_NONCE}"


def pencil(hash_name: str, salt: str) -> Mapping[str, Credentials]:
    keys = derive("pencil", hash_name, base64.b64decode(salt), 4096)
    return {"user": Credentials({hash_name: keys})}


VECTORS = [
    pytest.param(
        make_exchange(
            pencil("SHA-1", "QSXCR+Q6sek8bf92"),
            nonce=lambda: "3rfcNHYJY1ZVvWVs7j",
            offered=NO_BINDING,
            downgrade_protection=False,
        ),
        "SCRAM-SHA-1",
        "n,,n=user,r=fyko+d2lbbFgONRv9qkxdawL",
        "r=fyko+d2lbbFgONRv9qkxdawL3rfcNHYJY1ZVvWVs7j,s=QSXCR+Q6sek8bf92,i=4096",
        "c=biws,r=fyko+d2lbbFgONRv9qkxdawL3rfcNHYJY1ZVvWVs7j,p=v0X8v3Bz2T0CJGbJQyF0X+HI4Ts=",
        "v=rmF9pqV8S7suAoZWja4dJRkFsKQ=",
        id="RFC 5802 section 5",
    ),
    pytest.param(
        make_exchange(
            pencil("SHA-256", "W22ZaJ0SNY7soEsUEjb6gQ=="),
            nonce=lambda: "%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0",
            offered=NO_BINDING,
            downgrade_protection=False,
        ),
        "SCRAM-SHA-256",
        "n,,n=user,r=rOprNGfwEbeRWgbNEkqO",
        "r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096",
        "c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,"
        "p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=",
        "v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=",
        id="RFC 7677 section 3",
    ),
    pytest.param(
        make_exchange(
            pencil("SHA-1", "QSXCR+Q6sek8bf92"),
            {"tls-exporter": b"THIS IS FAKE CB DATA"},
            nonce=lambda: XEP_SERVER_NONCE,
            offered=XEP_OFFER,
        ),
        "SCRAM-SHA-1-PLUS",
        f"p=tls-exporter,,n=user,r={XEP_NONCE}",
        f"r={XEP_NONCE}{XEP_SERVER_NONCE},s=QSXCR+Q6sek8bf92,i=4096,h=G6k/rBLDqgOhRRaCuuatSDFkJ08=",
        XEP_FINAL + ",x=19C6532F-1CF4-4A27-A18D-DC9CEA41BBB3,p=M/SIDjT+dfcxUh89jZEypRvFxB4=",
        "v=MQrMPvv7yv4x4Cq4W4Ih25EqS2c=",
        id="XEP-0474 section 6.3",
    ),
    pytest.param(
        make_exchange(
            pencil("SHA-1", "QSXCR+Q6sek8bf92"),
            {"tls-exporter": b"THIS IS FAKE CB DATA"},
            nonce=lambda: XEP_SERVER_NONCE,
            offered=XEP_OFFER,
            tls_version="0304",
        ),
        "SCRAM-SHA-1-PLUS",
        f"p=tls-exporter,,n=user,r={XEP_NONCE}",
        f"r={XEP_NONCE}{XEP_SERVER_NONCE},s=QSXCR+Q6sek8bf92,i=4096,h=G6k/rBLDqgOhRRaCuuatSDFkJ08=,t=0304",
        XEP_FINAL + ",p=KHUfN8dSy1K95crT4D5y1ItLJfs=",
        "v=3w34ZIMVRkx2f2Ozb3/ecRPVdv4=",
        id="XEP-0515 section 4.3",
    ),
]


@pytest.mark.parametrize(
    ("exchange", "name", "client_first", "server_first", "client_final", "server_final"), VECTORS
)
def test_published_exchange(
    exchange: Exchange, name: str, client_first: str, server_first: str, client_final: str, server_final: str
) -> None:
    mechanism = create(name, exchange)
    assert run(mechanism.respond(client_first.encode())) == Challenge(server_first.encode())
    assert run(mechanism.respond(client_final.encode())) == Success("user", server_final.encode())


def log_in(name: str, client: Client, exchange: Exchange, extensions: str = "") -> None:
    """Play a whole exchange, which has to succeed, and check the server's signature."""
    mechanism = create(name, exchange)
    challenge = run(mechanism.respond(client.first()))
    assert isinstance(challenge, Challenge)
    success = run(mechanism.respond(client.final(challenge.data, extensions)))
    assert isinstance(success, Success)
    assert success.data == client.server_signature


@pytest.mark.parametrize("hash_name", ["SHA-1", "SHA-256"])
@pytest.mark.parametrize("binding_type", BINDINGS)
def test_channel_binding(hash_name: str, binding_type: str) -> None:
    client = Client(
        "wherefore", hash_name=hash_name, gs2=f"p={binding_type},,", binding=BINDINGS[binding_type]
    )
    log_in(f"SCRAM-{hash_name}-PLUS", client, make_exchange())


def test_a_client_that_cannot_bind_is_let_in_though_binding_was_offered() -> None:
    log_in("SCRAM-SHA-256", Client("wherefore", gs2="n,,"), make_exchange())


def test_a_client_that_could_bind_is_let_in_where_it_was_not_offered() -> None:
    log_in("SCRAM-SHA-256", Client("wherefore", gs2="y,,"), make_exchange(offered=NO_BINDING))


def test_types_without_a_plus_mechanism_offer_no_binding() -> None:
    offer = Offer(NO_BINDING.mechanisms, EVERYTHING.channel_bindings)
    log_in("SCRAM-SHA-256", Client("wherefore", gs2="y,,"), make_exchange(offered=offer))


def test_any_hash_of_the_table_works_once_it_is_offered() -> None:
    accounts = {"romeo": Credentials({"SHA-512": derive("wherefore", "SHA-512", b"salt", ITERATIONS)})}
    offer = Offer(("SCRAM-SHA-512-PLUS", "SCRAM-SHA-512"), ("tls-exporter",))
    exchange = make_exchange(accounts, offered=offer)
    log_in("SCRAM-SHA-512", Client("wherefore", hash_name="SHA-512"), exchange)


def test_each_hash_has_its_own_salt() -> None:
    for hash_name in ("SHA-1", "SHA-256"):
        first = run(create(f"SCRAM-{hash_name}", make_exchange()).respond(b"n,,n=romeo,r=CLIENT"))
        salt = base64.b64encode(ACCOUNTS["romeo"].keys[hash_name].salt)
        digest = downgrade_hash(EVERYTHING, hash_name).encode()
        assert first == Challenge(b"r=CLIENTSERVER,s=" + salt + b",i=2,h=" + digest)


def test_the_tls_version_comes_only_with_the_hash() -> None:
    exchange = make_exchange(tls_version="0304", downgrade_protection=False)
    challenge = run(create("SCRAM-SHA-1", exchange).respond(b"n,,n=romeo,r=CLIENT"))
    assert isinstance(challenge, Challenge)
    assert challenge.data.endswith(b",i=2")


def test_a_client_without_initial_response_is_asked_once() -> None:
    mechanism = create("SCRAM-SHA-256", make_exchange())
    assert run(mechanism.respond(None)) == Challenge(b"")
    client = Client("wherefore")
    challenge = run(mechanism.respond(client.first()))
    assert isinstance(challenge, Challenge)
    assert run(mechanism.respond(client.final(challenge.data))) == Success("romeo", client.server_signature)

    mechanism = create("SCRAM-SHA-256", make_exchange())
    assert run(mechanism.respond(None)) == Challenge(b"")
    assert failure(mechanism.respond(None)).condition == "malformed-request"
    assert failure(mechanism.respond(client.first())).condition == "malformed-request"


@pytest.mark.parametrize("last", [None, b"", b"n,,n=romeo,r=CLIENT"])
def test_nothing_comes_after_success(last: bytes | None) -> None:
    mechanism = create("SCRAM-SHA-256", make_exchange())
    client = Client("wherefore")
    challenge = run(mechanism.respond(client.first()))
    assert isinstance(challenge, Challenge)
    final = client.final(challenge.data)
    run(mechanism.respond(final))
    assert failure(mechanism.respond(final)).condition == "malformed-request"
    assert failure(mechanism.respond(last)).condition == "malformed-request"


def test_extensions_that_are_not_mandatory_are_ignored_but_signed() -> None:
    client = Client("wherefore")
    client.bare += ",x=1,y==,z=é"
    log_in("SCRAM-SHA-256", client, make_exchange(), extensions=",x=1,q=p=2")


@pytest.mark.parametrize(
    ("gs2", "username", "password"),
    [
        ("n,a=romeo@example.org,", "romeo", "wherefore"),
        ("n,,", "a,b=c", "comma"),
        ("n,a=a=2Cb=3Dc@example.org,", "a,b=c", "comma"),
    ],
)
def test_authzid_and_escaped_names(gs2: str, username: str, password: str) -> None:
    log_in("SCRAM-SHA-256", Client(password, username, gs2=gs2), make_exchange())


def test_the_name_is_prepared_but_signed_as_it_came() -> None:
    mechanism = create("SCRAM-SHA-256", make_exchange())
    client = Client("wherefore", "ro\u00admeo")
    challenge = run(mechanism.respond(client.first()))
    assert isinstance(challenge, Challenge)
    assert run(mechanism.respond(client.final(challenge.data))) == Success("romeo", client.server_signature)
