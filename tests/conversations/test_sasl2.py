"""Real clients log in by SASL2 (XEP-0388) with all that comes with it: Bind 2, tokens, resumption, revocation."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from xml.etree import ElementTree

import pytest
from slixmpp.exceptions import IqError

from tests.auth.support import Client as Scram
from tests.conversations.belongings import PASSWORD
from tests.conversations.gajim import RealGajim
from tests.conversations.link import Link
from tests.conversations.people import Person
from tests.conversations.process import CHECKOUT, PATIENCE, RunningServer
from tests.conversations.raw import HEADER, RawClient
from tests.conversations.resumable import Scene, SlixmppClient
from tests.conversations.sasl2 import (
    BIND,
    BIND2,
    FEATURES,
    MECHANISM,
    SASL,
    SASL2,
    SM,
    Device,
    Listed,
    Stream,
    TokenClient,
    grant,
    parsed,
    scram,
    upgrade,
)
from xmppd.net.authentication import NEEDS_CLIENT_ID

Make = Callable[..., RunningServer]
MakeTokenClient = Callable[..., TokenClient]
BENVOLIO = CHECKOUT / "tests" / "ctl" / "exports" / "prosody" / "scram-sha-1" / "benvolio@localhost.xml"
CLIENT = "{jabber:client}"
STANZAS = "{urn:ietf:params:xml:ns:xmpp-stanzas}"
RESET = "{urn:xmpp:cam:0}password-reset-required"
PING = "<ping xmlns='urn:xmpp:ping'/>"


@pytest.fixture
def xmpp_js_with_tokens(xmpp_js: Path) -> MakeTokenClient:
    """Makes @xmpp/client with SASL2."""
    return lambda server, link, name, resource: TokenClient(xmpp_js, link, name, resource)


# ---- @xmpp/client


def test_xmpp_js_resumes_its_session_with_its_token(
    lasting: RunningServer, couple: tuple[str, str], xmpp_js_with_tokens: MakeTokenClient
) -> None:
    his, her = (f"{name}@localhost" for name in couple)

    async def play() -> None:
        async with Scene(lasting) as scene:
            juliet = await scene.enter(SlixmppClient, couple[1], "balcony")
            romeo = await scene.enter(xmpp_js_with_tokens, couple[0], "orchard")
            assert isinstance(romeo, TokenClient)
            assert romeo.logins() == [("PLAIN", {"user-agent", "bind", "initial-response", "request-token"})]
            assert romeo.jid.startswith(f"{his}/orchard/")

            romeo.link.lose("up")
            await juliet.says(romeo.jid, "1")
            assert await romeo.hears() == "1"
            await romeo.says(f"{her}/balcony", "a", "b")
            romeo.link.cut()
            await romeo.gone()
            await juliet.says(romeo.jid, "2")
            await juliet.says(his, "3")
            await juliet.acknowledged()
            romeo.link.mend()
            await romeo.resumes()
            assert [await romeo.hears() for _ in range(2)] == ["2", "3"]
            assert [await juliet.hears() for _ in range(2)] == ["a", "b"]

            await romeo.says(f"{her}/balcony", "c")
            assert await juliet.hears() == "c"
            await juliet.says(romeo.jid, "4")
            assert await romeo.hears() == "4"
            await romeo.acknowledged()
            await juliet.acknowledged()
            assert romeo.quiet() and juliet.quiet()
            again = {"user-agent", "bind", "initial-response", "fast", "resume"}
            assert romeo.logins()[1:] == [(MECHANISM, again)]

    asyncio.run(play())
    log = lasting.log()
    assert f"{his} has logged in by PLAIN" in log
    assert f"{his} has logged in by {MECHANISM}" in log


def known(stream: Stream) -> set[tuple[str, str, tuple[str, ...]]]:
    """What is listed of the clients of an account, but for whether they are connected."""
    return {(client.id, client.software, client.ways) for client in stream.clients().values()}


@pytest.mark.parametrize("crash", [False, True], ids=["stopped", "killed"])
def test_what_lets_clients_in_outlives_the_server(
    server: RunningServer, xmpp_js_with_tokens: MakeTokenClient, crash: bool
) -> None:
    password = grant(server, "romeo", "phone")
    phone, desk = Device(server, "romeo", "phone"), Device(server, "romeo", "desk")

    async def play() -> None:
        async with Scene(server) as scene:
            romeo = await scene.enter(xmpp_js_with_tokens, "romeo", "orchard")
            assert isinstance(romeo, TokenClient)
            phone.enters(password).close()
            stream = desk.enters("secret")
            before = known(stream)
            assert {(software, ways) for _, software, ways in before} == {
                ("xmpp.js", ("fast", "password")),
                ("Raw & Co.", ("fast", "grant")),
                ("Raw & Co.", ("fast", "password")),
            }
            stream.close()
            assert await asyncio.to_thread(server.kill if crash else server.stop) in (None, 0)
            await asyncio.to_thread(server.start)

            await romeo.resumes()
            assert [mechanism for mechanism, _ in romeo.logins()] == ["PLAIN", MECHANISM]
            phone.enters().close()
            phone.enters(password).close()
            stream = desk.enters()
            assert known(stream) == before

            # Whoever has the password has to be told to change it; the token is void all the same.
            (orchard,) = (client for client in stream.clients().values() if client.software == "xmpp.js")
            assert stream.revoke(orchard.id).find(f".//{RESET}") is not None
            await romeo.starts_anew()
            # Once more by the token, which is refused, and then by the password for another one.
            assert [mechanism for mechanism, _ in romeo.logins()][2:] == [MECHANISM, "PLAIN"]
            assert "request-token" in romeo.logins()[-1][1]
            stream.close()

    asyncio.run(play())


# ---- nbxmpp


def test_nbxmpp_logs_in_without_a_new_stream(
    lasting: RunningServer, couple: tuple[str, str], make_gajim: Callable[..., RealGajim]
) -> None:
    his = f"{couple[0]}@localhost"

    async def play() -> None:
        async with Scene(lasting) as scene:
            juliet = await scene.enter(SlixmppClient, couple[1], "balcony")
            link = await Link(lasting.port).open()
            scene.links.append(link)
            gajim = make_gajim(link.port, couple[0], "orchard")
            await asyncio.to_thread(gajim.start)
            # After TLS there is one header, and what it gets is what it wants: the resource itself.
            assert sent_until_bound(gajim) == ["stream", "starttls", "stream", "authenticate", "response", "iq"]
            (request,) = (xml for xml in gajim.told("sent") if xml.startswith("<authenticate"))
            assert "urn:xmpp:sasl:2" in request and "SCRAM-SHA-512" in request
            assert "user-agent" not in request and "urn:xmpp:bind:0" not in request
            assert f"<jid>{his}/orchard</jid>" in gajim.told("received")[-1]

            await juliet.says(f"{his}/orchard", "hello")
            assert await juliet.hears() == "You said: hello"
            link.cut()
            await asyncio.to_thread(gajim.tells, "disconnected")
            await juliet.says(f"{his}/orchard", "again")
            await juliet.acknowledged()
            link.mend()
            await asyncio.to_thread(gajim.tells, "resumed")
            assert await juliet.hears() == "You said: again"
            await juliet.says(f"{his}/orchard", "leave")
            assert await asyncio.to_thread(gajim.wait) == 0
            await juliet.acknowledged()
            assert juliet.quiet()

    asyncio.run(play())
    assert f"{his} has logged in by SCRAM-SHA-512" in lasting.log()


def sent_until_bound(gajim: RealGajim) -> list[str]:
    """The names of what it has sent to get its session, with the header of each stream."""
    names = [
        "stream" if "<stream:stream" in xml else ElementTree.fromstring(xml).tag.rpartition("}")[2]
        for xml in gajim.told("sent")
    ]
    return names[: names.index("iq") + 1]


# ---- clients are listed, and revoked


async def listed(manager: Person) -> dict[str, Listed]:
    """The clients of an account, as slixmpp has them, by their devices."""
    clients = await manager.plugin["xep_0494"].get_clients(timeout=PATIENCE)
    return {
        client["user_agent"]["device"]: Listed(
            client["id"], client["user_agent"]["software"], client["user_agent"]["device"], client["connected"],
            tuple(sorted(way.tag.rpartition("}")[2] for way in client["auth"].xml)),
        )
        for client in clients
    }  # fmt: skip


def test_slixmpp_lists_the_clients_and_revokes_them(server: RunningServer) -> None:
    password = grant(server, "romeo", "phone")
    phone, desk, tablet = (Device(server, "romeo", name) for name in ("phone", "desk", "tablet"))

    async def play() -> None:
        manager = Person(server, "romeo", "street")
        manager.register_plugin("xep_0494")
        await manager.arrives()
        phone.enters(password).close()
        on_phone, at_desk = phone.enters(), desk.enters("secret")
        on_tablet = tablet.enters("secret")
        on_tablet.send("</stream:stream>")
        on_tablet.read_all()
        clients = await listed(manager)
        assert {name: client[1:] for name, client in clients.items()} == {
            "": ("", "", True, ("password",)),
            "phone": ("Raw & Co.", "phone", True, ("fast", "grant")),
            "desk": ("Raw & Co.", "desk", True, ("fast", "password")),
            "tablet": ("Raw & Co.", "tablet", False, ("fast", "password")),
        }

        # One that never had the password is out.
        await manager.plugin["xep_0494"].revoke(clients["phone"].id, timeout=PATIENCE)
        assert "<not-authorized" in on_phone.read_all()
        assert phone.refused().find(f"{SASL}not-authorized") is not None
        assert "phone" not in await listed(manager)

        # One that had it is out as well, and may come back with it.
        with pytest.raises(IqError) as error:
            await manager.plugin["xep_0494"].revoke(clients["desk"].id, timeout=PATIENCE)
        assert error.value.iq["error"]["condition"] == "service-unavailable"
        assert error.value.iq.xml.find(f".//{RESET}") is not None
        assert "<not-authorized" in at_desk.read_all()
        assert desk.refused().find(f"{SASL}not-authorized") is not None
        assert (await listed(manager))["desk"][3:] == (False, ("password",))
        desk.enters("secret").close()
        await manager.leaves()

    asyncio.run(play())


def test_a_revoked_application_password_is_refused(server: RunningServer) -> None:
    password = grant(server, "romeo", "phone")
    phone, desk = Device(server, "romeo", "phone"), Device(server, "romeo", "desk")
    on_phone, at_desk = phone.enters(password), desk.enters("secret")
    assert on_phone.ask("get", "<list xmlns='urn:xmpp:cam:0'/>").find(f".//{STANZAS}forbidden") is not None
    assert at_desk.revoke(at_desk.clients()["phone"].id).get("type") == "result"
    assert "<not-authorized" in on_phone.read_all()
    stream = Stream(server)
    stream.send(phone.request("PLAIN", f"\0romeo\0{password}".encode(), BIND))
    assert stream.read_answer().find(f"{SASL}not-authorized") is not None
    stream.close()
    at_desk.close()


# ---- round trips


def test_one_flight_binds(lasting: RunningServer, couple: tuple[str, str]) -> None:
    device = Device(lasting, couple[0], "phone")
    device.enters("secret").close()
    stream = Stream(lasting)
    stream.send(device.token_request(BIND))
    features, success, more = parsed(stream.read_record())
    assert (features.tag, success.tag, more.tag) == (FEATURES, f"{SASL2}success", FEATURES)
    assert device.shown_by(success)
    assert success.find(f"{BIND2}bound/{SM}enabled") is not None
    device.keep(success)
    assert device.jid.startswith(f"{couple[0]}@localhost/raw/")
    assert stream.flights == 1
    assert stream.ask("get", PING).get("type") == "result"
    stream.close()


def test_what_a_session_has_is_not_announced_again(lasting: RunningServer, couple: tuple[str, str]) -> None:
    """@xmpp/client 0.14 takes the announcement for an invitation, and is confused by the refusal that follows."""
    device = Device(lasting, couple[0], "phone")
    stream = device.enters("secret")
    (features,) = parsed(stream.read_until("</stream:features>"))
    assert features.find(f"{SM}sm") is None
    stream.close()


def test_one_flight_resumes(lasting: RunningServer, couple: tuple[str, str]) -> None:
    his, hers = (Device(lasting, name, "phone") for name in couple)
    romeo, juliet = his.enters("secret"), hers.enters("secret")
    romeo.send(f"<message to='{hers.jid}' type='chat'><body>a</body></message>")
    juliet.read_until("<body>a</body>")
    romeo.close()
    for body in ("1", "2"):
        juliet.send(f"<message to='{his.jid}' type='chat'><body>{body}</body></message>")
    assert juliet.ask("get", PING).get("type") == "result"

    again = Stream(lasting)
    again.send(his.token_request(f"<resume xmlns='urn:xmpp:sm:3' h='0' previd='{his.session}'/>", BIND))
    answer, end, rest = again.read_record().partition("</success>")
    again.buffer = rest.encode()
    features, success = parsed(answer + end)
    assert (features.tag, success.tag) == (FEATURES, f"{SASL2}success")
    resumed = success.find(f"{SM}resumed")
    assert resumed is not None and resumed.get("previd") == his.session and resumed.get("h") == "1"
    assert success.find(f"{BIND2}bound") is None
    assert success.findtext(f"{SASL2}authorization-identifier") == his.jid
    assert again.flights == 1
    # Nothing is announced after a session was resumed (XEP-0198 section 9.2); what waited follows.
    messages = parsed(again.read_until("</message>") + again.read_until("</message>"))
    assert [message.findtext(f"{CLIENT}body") for message in messages] == ["1", "2"]
    juliet.close()
    again.close()


# ---- mechanisms


def test_slixmpp_logs_in_by_scram_sha_512(lasting: RunningServer, couple: tuple[str, str]) -> None:
    async def play() -> None:
        romeo = await Person(lasting, couple[0], "orchard", mechanism="SCRAM-SHA-512").arrives()
        await romeo.leaves()

    asyncio.run(play())
    assert f"{couple[0]}@localhost has logged in by SCRAM-SHA-512" in lasting.log()


def offered(server: RunningServer) -> tuple[set[str], set[str]]:
    """The mechanisms without channel binding, and the tasks, that are announced."""
    stream = Stream(server)
    stream.send(HEADER)
    (features,) = parsed(stream.read_until("</stream:features>"))
    stream.close()
    mechanisms = {element.text or "" for element in features.iterfind(f"{SASL2}authentication/{SASL2}mechanism")}
    tasks = {element.text or "" for element in features.iter("{urn:xmpp:sasl:upgrade:0}upgrade")}
    return {name for name in mechanisms if not name.endswith("-PLUS")}, tasks


def test_who_came_with_keys_for_sha_1_gets_others(make_server: Make) -> None:
    server = make_server().start()
    server.xmppctl("import", str(BENVOLIO))
    assert offered(server) == ({"SCRAM-SHA-1", "PLAIN"}, {"UPGR-SCRAM-SHA-256", "UPGR-SCRAM-SHA-512"})

    async def log_in(mechanism: str) -> None:
        benvolio = await Person(server, "benvolio", "street", PASSWORD, mechanism=mechanism).arrives()
        await benvolio.leaves()
        server.wait_for(f"benvolio@localhost has logged in by {mechanism}")

    asyncio.run(log_in("SCRAM-SHA-1"))
    device, stream = Device(server, "benvolio", "desk"), Stream(server)
    wanted = "<upgrade xmlns='urn:xmpp:sasl:upgrade:0'>UPGR-SCRAM-SHA-256</upgrade>"
    asked = scram(stream, device, Scram(PASSWORD, "benvolio", "SHA-1"), wanted, BIND)
    assert [task.text for task in asked.iter(f"{SASL2}task")] == ["UPGR-SCRAM-SHA-256"]
    device.keep(upgrade(stream, PASSWORD, "SHA-256"))
    assert device.jid.startswith("benvolio@localhost/raw/")
    stream.close()

    assert server.stop() == 0
    server.start()
    assert offered(server) == ({"SCRAM-SHA-1", "SCRAM-SHA-256", "PLAIN"}, {"UPGR-SCRAM-SHA-512"})
    asyncio.run(log_in("SCRAM-SHA-256"))
    asyncio.run(log_in("SCRAM-SHA-1"))


def test_enforced_client_ids(make_server: Make) -> None:
    server = make_server("enforce_client_ids = yes\n").start()
    server.user("romeo")
    old = RawClient(server)
    old.start_tls()
    assert "<mechanisms" not in old.open()
    old.send("<auth xmlns='urn:ietf:params:xml:ns:xmpp-sasl' mechanism='PLAIN'>AHJvbWVvAHNlY3JldA==</auth>")
    (failure,) = parsed(old.read_until("</failure>"))
    assert failure.tag == f"{SASL}failure" and failure.find(f"{SASL}malformed-request") is not None
    assert failure.findtext(f"{SASL}text") == NEEDS_CLIENT_ID
    old.close()

    device = Device(server, "romeo", "phone")
    request = device.request("PLAIN", b"\0romeo\0secret", BIND)
    nameless = Stream(server)
    nameless.send(request.replace(f" id='{device.id}'", ""))
    failure = nameless.read_answer()
    assert failure.tag == f"{SASL2}failure" and failure.findtext(f"{SASL2}text") == NEEDS_CLIENT_ID
    nameless.close()
    stream = Stream(server)
    stream.send(request)
    device.keep(stream.read_answer())
    assert stream.ask("get", PING).get("type") == "result"
    stream.close()
