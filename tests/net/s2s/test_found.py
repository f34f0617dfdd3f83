"""What an independent reading of federation has found."""

from __future__ import annotations

import socket
import time
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from OpenSSL import SSL, crypto
from twisted.internet.defer import Deferred

from tests.net.loop import Loop, Receiver
from tests.net.s2s.town import EVIL, HELLO, HERE, ROMEO, SASL, THERE, Town, dialback
from tests.support.authority import authority, issue
from tests.support.federation import Globe, Remote, ServerPeer
from tests.support.world import Player, World, configuration
from xmppd.ctl import s2s as ctl
from xmppd.net.certificates import Certificates, self_signed
from xmppd.net.connection import Connection, Flusher
from xmppd.net.s2s.finding import race
from xmppd.net.s2s.trust import Trust

JULIET = f"juliet@{THERE}"
DIALBACK = "<dialback xmlns='urn:xmpp:features:dialback'><errors/></dialback>"
EXTERNAL = f"<mechanisms {SASL}><mechanism>EXTERNAL</mechanism></mechanisms>"
SM = "<sm xmlns='urn:xmpp:sm:3'/>"
TO_JULIET = f"<message to='{JULIET}' id='1' type='chat'><body>{{}}</body></message>"


def bodies(player: Player) -> list[str]:
    return [element.findtext("{jabber:client}body") or "" for element in player.all_that_came()]


def played(config: str = "", *hosts: str) -> tuple[Globe, World, Player]:
    """Our server with romeo; that of juliet is played by hand."""
    globe = Globe()
    world = globe.world(HERE, *hosts, config=config)
    globe.played[THERE] = []
    return globe, world, world.online(ROMEO)


def both(config: str = "", certificates: bool = False) -> tuple[Globe, Player, Player]:
    globe = Globe()
    here, there = globe.world(HERE, config=config), globe.world(THERE, config=config)
    globe.certificates = {HERE: [HERE], THERE: [THERE]} if certificates else {}
    return globe, here.online(ROMEO), there.online(f"{JULIET}/balcony")


def managed(town: Town) -> ServerPeer:
    peer = town.proven()
    peer.sends("<enable xmlns='urn:xmpp:sm:3'/>")
    peer.receives("<enabled xmlns='urn:xmpp:sm:3'/>")
    return peer


def manages(remote: Remote) -> None:
    remote.secures(THERE, DIALBACK + SM)
    remote.accepts_key(THERE, HERE)
    remote.receives("<enable xmlns='urn:xmpp:sm:3'/>")
    remote.sends("<enabled xmlns='urn:xmpp:sm:3'/>")


# ---- streams that we open


def test_the_second_address_wins_while_the_first_hangs() -> None:
    loop = Loop()
    first, second = Deferred[str](), Deferred[str]()
    outcome: list[Any] = []
    race([lambda: first, lambda: second], loop, 0.25).addBoth(outcome.append)
    loop.advance(0.3)
    second.callback("connected")
    assert outcome == ["connected"]


@pytest.mark.parametrize("certificates", [True, False])
def test_what_is_told_of_sizes_before_authentication_is_no_limit_behind_dialback(certificates: bool) -> None:
    _, romeo, juliet = both("s2s_bidi = no", certificates)
    romeo.sends(TO_JULIET.format("x" * 20_000))
    assert [len(body) for body in bodies(juliet)] == [20_000]
    romeo.receives_nothing()


def test_a_key_is_not_asked_about_while_we_authenticate_on_the_same_stream() -> None:
    globe, world, romeo = played()
    peer = ServerPeer(globe, world, THERE)
    peer.opens(HERE)
    peer.features()
    peer.sends(f"<db:result from='{THERE}' to='{HERE}'>key</db:result>")
    romeo.sends(TO_JULIET.format("hi"))
    remote = globe.remote(THERE)
    remote.secures(THERE, EXTERNAL + DIALBACK)
    came = [element.tag.rpartition("}")[2] for element in remote.all_that_came()]
    assert came in (["auth"], ["verify", "auth"])
    remote.sends(f"<success {SASL}/>")
    remote.restarts()
    remote.answers_header(THERE, "id3", DIALBACK)
    tags = {element.tag.rpartition("}")[2] for element in remote.all_that_came()}
    assert "message" in tags and ("verify" in tags or "verify" in came)


def test_two_of_ours_begin_at_once_and_one_has_a_certificate() -> None:
    globe, romeo, juliet = both()
    globe.certificates = {HERE: [HERE]}
    network: Any = globe.federations[HERE].network
    find, hold = network.find, Deferred[None]()

    async def slowly(domain: str, note: Any) -> Any:
        network.find = find
        await hold
        return await find(domain, note)

    network.find = slowly
    juliet.sends(f"<message to='romeo@{HERE}' type='chat'><body>from juliet</body></message>")
    romeo.sends(TO_JULIET.format("from romeo"))
    hold.callback(None)
    romeo.world.settle()
    assert (bodies(romeo), bodies(juliet)) == (["from juliet"], ["from romeo"])


def test_a_stream_that_does_not_answer_is_not_used_again() -> None:
    globe, world, romeo = played()
    romeo.sends(TO_JULIET.format("hi"))
    globe.remote(THERE).secures(THERE, DIALBACK)
    globe.remote(THERE).takes()
    for _ in range(40):
        world.advance(1)
    assert len(globe.played[THERE]) > 1 and globe.played[THERE][0].wire.closed


def test_a_stream_that_carries_others_and_does_not_answer_is_passed_by() -> None:
    globe, world, romeo = played("", f"other.{HERE}")
    romeo.sends(TO_JULIET.format("hi"))
    first = globe.remote(THERE)
    first.secures(THERE, DIALBACK)
    first.accepts_key(THERE, HERE)
    other = world.login(f"benvolio@other.{HERE}/x")
    other.sends(TO_JULIET.format("me too"))
    for _ in range(11):
        world.advance(1)
    assert len(globe.played[THERE]) == 2 and not first.wire.closed
    globe.remote(THERE).secures(THERE, DIALBACK)
    globe.remote(THERE).accepts_key(THERE, f"other.{HERE}")
    # An answer that comes too late is not an attack: the stream goes on.
    first.sends(f"<db:result from='{THERE}' to='other.{HERE}' type='valid'/>")
    assert not first.wire.closed
    first.sends(f"<db:result from='{THERE}' to='other.{HERE}' type='valid'/>")
    assert first.wire.closed


def test_streams_that_do_not_answer_do_not_pile_up() -> None:
    globe, world, romeo = played("s2s_retry_time = 1h")
    romeo.sends(TO_JULIET.format("hi"))
    served = 0
    for _ in range(300):
        if len(globe.played[THERE]) > served:
            served += 1
            globe.remote(THERE).secures(THERE, EXTERNAL)
        world.advance(1)
    assert sum(not stream.closed for stream in globe.federations[HERE].streams) <= 1


def test_a_certificate_that_cannot_be_read_closes_the_stream() -> None:
    globe, _, romeo = played()
    romeo.sends(TO_JULIET.format("hi"))
    remote = globe.remote(THERE)

    def unreadable() -> list[Any]:
        raise Exception("some error of a library")

    remote.wire.peer_chain = unreadable  # type: ignore[method-assign]
    remote.secures(THERE, DIALBACK)
    assert remote.wire.closed


def test_a_test_of_the_administrator_does_not_carry_what_waits() -> None:
    globe, romeo, juliet = both()
    globe.down.add(THERE)
    romeo.sends(TO_JULIET.format("hi"))
    globe.down.clear()
    world = romeo.world
    waiting = Deferred.fromCoroutine(ctl.test(globe.federations[HERE], THERE, HERE))
    for _ in range(10):
        world.advance(1)
    result = world.result(waiting)
    assert result["error"] is None and "authenticated by dialback" in result["steps"][-1]
    assert bodies(juliet) == ["hi"]


def test_no_more_servers_are_looked_up_at_once_than_may_be() -> None:
    globe, world, romeo = played("s2s_max_connecting = 3")
    asked: list[str] = []

    async def hangs(domain: str, note: Any) -> Any:
        asked.append(domain)
        await Deferred()

    globe.federations[HERE].network.find = hangs  # type: ignore[method-assign,assignment]
    for number in range(10):
        romeo.sends(f"<message to='x@{number}.example' id='1' type='chat'><body>hi</body></message>")
    assert len(asked) == 3
    for _ in range(31):
        world.advance(1)
    assert len(asked) == 6


# ---- streams of others


def test_one_stranger_does_not_take_all_verifications() -> None:
    town = Town()
    network: Any = town.globe.federations[HERE].network
    find = network.find

    async def hangs(domain: str, note: Any) -> Any:
        return await (Deferred() if domain.startswith("hang") else find(domain, note))

    network.find = hangs
    town.globe.played[THERE] = []
    bad = town.opened(EVIL)
    for number in range(10):
        town.asked(bad, f"hang{number}.example")
    good = town.opened()
    town.asked(good)
    assert town.globe.attempts == [THERE]
    for _ in range(6):
        dialback(bad, "error", "resource-constraint")
    bad.receives_nothing()


def test_nor_do_many_streams_of_one_address() -> None:
    town = Town("s2s_max_verifying = 10")
    town.globe.played[THERE] = []
    for number in range(3):
        peer = town.opened(EVIL)
        town.globe.played[f"{number}.example"] = []
        town.asked(peer, f"{number}.example")
    dialback(peer, "error", "remote-connection-failed")
    assert len(town.globe.attempts) == 2


def test_who_shows_nothing_but_wrong_keys_is_sent_away() -> None:
    town = Town()
    peer = town.opened()
    for number in range(20):
        town.asked(peer, f"{number}.example")
    assert peer.wire.closed


@pytest.mark.parametrize("step", ["starttls", "auth"])
def test_a_key_is_not_looked_at_across_the_steps_of_a_stream(step: str) -> None:
    town = Town("s2s_require_encryption = no")
    town.globe.played[f"rooms.{THERE}"] = []
    peer = town.opened(secure=step == "auth", certificates=[THERE])
    town.asked(peer, f"rooms.{THERE}")
    if step == "auth":
        peer.sends(f"<auth {SASL} mechanism='EXTERNAL'>=</auth>")
        peer.receives(f"<failure {SASL}><temporary-auth-failure/></failure>")
    else:
        peer.sends("<starttls xmlns='urn:ietf:params:xml:ns:xmpp-tls'/>")
        peer.receives_stream_error("policy-violation")


def test_keys_of_ours_are_not_confirmed_in_the_clear() -> None:
    peer = Town().opened(secure=False)
    peer.sends(f"<db:verify from='{THERE}' to='{HERE}' id='x'>key</db:verify>")
    dialback(peer, "error", "policy-violation", "verify")


def test_nothing_is_carried_behind_the_end_of_a_stream() -> None:
    town = Town(sections=f"[host:shop.{HERE}]\n")
    town.globe.played[THERE] = []
    peer = town.proven(bidi=True)
    town.world.advance(601)
    assert peer.wire.written.endswith(b"</stream:stream>") and not peer.wire.closed
    town.asked(peer, THERE, f"shop.{HERE}")
    town.world.login(f"seller@shop.{HERE}/x").sends(TO_JULIET.format("buy"))
    assert peer.wire.written.endswith(b"</stream:stream>") and len(town.globe.played[THERE]) == 1


def test_a_black_list_counts_from_the_reload_on() -> None:
    town = Town()
    peer = town.proven(bidi=True)
    town.globe.down.add(EVIL)
    town.globe.played[EVIL] = []
    town.romeo.sends(f"<message to='x@{EVIL}' id='1' type='chat'><body>hi</body></message>")
    blacklist = configuration(f"s2s_blacklist = {THERE}, {EVIL}", f"[host:{HERE}]\n")
    town.world.config.update(blacklist)
    town.globe.federations[HERE].reload()
    peer.receives_stream_error("policy-violation")
    town.romeo.receives_error("not-allowed", "cancel", id="1", sender=f"x@{EVIL}")


def test_and_without_one_from_the_next_stanza_on() -> None:
    town = Town()
    peer = town.proven()
    town.world.config.update(configuration(f"s2s_blacklist = {THERE}", f"[host:{HERE}]\n"))
    peer.sends(HELLO)
    peer.receives_stream_error("policy-violation")
    town.romeo.receives_nothing()


# ---- nothing lost, nothing twice


def test_what_was_accepted_is_restored_however_much_it_is() -> None:
    globe, _, romeo = played("s2s_max_domains = 5")
    domains = [f"d{number}.example" for number in range(5)]
    globe.down |= {*domains}
    for domain in domains:
        globe.played[domain] = []
        romeo.sends(f"<message to='x@{domain}' id='1' type='chat'><body>hi</body></message>")
    romeo.receives_nothing()
    globe._configs[HERE] = "s2s_max_domains = 3"
    again = globe.kill(HERE)
    romeo = again.online(ROMEO)
    for _ in range(100):
        again.advance(1)
    assert len(romeo.all_that_came()) == 5


def test_the_last_words_of_a_peer_are_acknowledged() -> None:
    town = Town()
    peer = managed(town)
    peer.sends(HELLO + "<r xmlns='urn:xmpp:sm:3'/></stream:stream>")
    assert bodies(town.romeo) == ["hi"]
    peer.receives("<a xmlns='urn:xmpp:sm:3' h='1'/>")


def test_what_a_peer_will_send_again_is_not_delivered_before() -> None:
    town = Town()
    town.world.account(f"nurse@{HERE}")
    peer = managed(town)
    # The first waits for the store, and the others for the first.
    peer.sends_only(HELLO.replace(ROMEO, f"nurse@{HERE}") + HELLO * 2)
    assert len(peer.stream._events) == 2
    peer.disconnects()
    town.romeo.receives_nothing()


def test_what_is_handled_at_the_very_end_is_acknowledged_as_well() -> None:
    town = Town()
    peer = managed(town)
    disk: list[Deferred[None]] = []
    store: Any = town.world.store
    barrier = store.barrier

    def slow() -> Deferred[None]:
        disk.append(Deferred())
        return disk[-1]

    store.barrier = slow
    federation = town.globe.federations[HERE]
    federation.shut_down()
    closing = Deferred.fromCoroutine(federation.close(5))
    town.world.settle()
    peer.sends(HELLO)
    heard = bodies(town.romeo)
    store.barrier = barrier
    disk[0].callback(None)
    town.world.result(closing)
    acknowledged = [element.get("h") for element in peer.all_that_came() if element.tag == "{urn:xmpp:sm:3}a"]
    assert acknowledged[-1:] == [str(len(heard))]


def test_without_acknowledgements_only_what_has_left_last_is_sent_again() -> None:
    globe, romeo, juliet = both("smacks_enabled_s2s = no\ns2s_bidi = no")
    romeo.sends(TO_JULIET.format("0"))
    for _ in range(3):
        romeo.world.advance(1)
    (stream,) = (stream for stream in globe.federations[HERE].streams if stream.carried)
    romeo.sends_only(TO_JULIET.format("1"))
    stream.data_received(b"</stream:stream>")  # whose server may not have looked at that any more
    for _ in range(8):
        romeo.world.advance(1)
    assert bodies(juliet) == ["0", "1", "1"]
    assert all(link.size == 0 for link in globe.federations[HERE].links.values())


def test_a_peer_that_answers_and_acknowledges_nothing_is_cut_off() -> None:
    globe, world, romeo = played()
    romeo.sends(TO_JULIET.format("hi"))
    remote = globe.remote(THERE)
    manages(remote)
    asked = 0
    for _ in range(100):
        if remote.wire.closed:
            break
        asked += sum(element.tag == "{urn:xmpp:sm:3}r" for element in remote.all_that_came())
        remote.sends("<a xmlns='urn:xmpp:sm:3' h='0'/>")
        world.advance(1)
    assert remote.wire.closed and asked < 70


# ---- TLS


def handshake(
    certificates: Certificates, context: SSL.Context, session: Any = None
) -> tuple[Connection, SSL.Connection]:
    """A server that connects to ours, and shows a certificate if its context has one."""
    loop = Loop()
    ours, theirs = socket.socketpair()
    for end in (ours, theirs):
        end.setblocking(False)
    connection = Connection(loop, Flusher(loop), ours, "peer", 10**6, 30)
    connection.start(Receiver())
    connection.start_tls(certificates.context(HERE))
    peer = SSL.Connection(context, theirs)
    peer.set_connect_state()
    if session is not None:
        peer.set_session(session)
    done = False
    for _ in range(50):
        loop.turn()
        try:
            peer.do_handshake()
            done = True
        except SSL.WantReadError:
            continue
        if connection.secure:
            break
    assert done and connection.secure
    return connection, peer


@pytest.mark.parametrize("version", [SSL.TLS1_2_VERSION, SSL.TLS1_3_VERSION])
def test_a_peer_that_would_resume_its_tls_session_gets_in(tmp_path: Path, version: int) -> None:
    certificates = Certificates(tmp_path, [HERE], time.time, b"xmpp-server", mutual=True)
    context = SSL.Context(SSL.TLS_METHOD)
    context.set_max_proto_version(version)
    connection, peer = handshake(certificates, context)
    connection.write(b"hello")
    connection.flush()
    assert peer.recv(100) == b"hello"
    handshake(certificates, context, peer.get_session())


@pytest.mark.filterwarnings("ignore:Passing pyOpenSSL")
def test_a_certificate_that_only_one_library_reads_is_none(tmp_path: Path) -> None:
    certificates = Certificates(tmp_path, [HERE], time.time, b"xmpp-server", mutual=True)
    pem, key = self_signed(THERE, time.time())
    der = x509.load_pem_x509_certificate(pem).public_bytes(serialization.Encoding.DER)
    version_3, version_2 = b"\xa0\x03\x02\x01\x02", b"\xa0\x03\x02\x01\x01"
    context = SSL.Context(SSL.TLS_METHOD)
    context.use_certificate(crypto.load_certificate(crypto.FILETYPE_ASN1, der.replace(version_3, version_2, 1)))
    context.use_privatekey(crypto.load_privatekey(crypto.FILETYPE_PEM, key))
    connection, _ = handshake(certificates, context)
    assert connection.peer_chain() == []


def test_certificates_that_nobody_asked_for_are_not_judged(tmp_path: Path) -> None:
    ca = authority()
    (tmp_path / "ca.pem").write_bytes(ca.pem)
    trust = Trust(tmp_path / "ca.pem", time.time)
    leaf = issue(ca, x509.DNSName(THERE)).certificate
    weak = issue(None, x509.DNSName("old.example"), key=rsa.generate_private_key(65537, 1024)).certificate
    assert trust.problem([leaf, weak], THERE) is None
    der = issue(None, x509.DNSName("x.example")).certificate.public_bytes(serialization.Encoding.DER)
    known, unknown = bytes.fromhex("06072a8648ce3d0201"), bytes.fromhex("06072a8648ce3d027f")
    strange = x509.load_der_x509_certificate(der.replace(known, unknown))
    assert trust.problem([leaf, strange], EVIL) is not None
