"""Streams that other servers open: headers, features, TLS, and EXTERNAL (XEP-0178)."""

from __future__ import annotations

import base64

import pytest

from tests.net.s2s.town import EVIL, EXTERNAL, HELLO, HERE, SASL, THERE, Town, dialback, names

# ---- the header and the features


def test_the_header_answers_for_both_domains_and_declares_dialback() -> None:
    peer = Town().peer()
    peer.opens_only(HERE)
    header = peer.receives_header()
    assert (header.attributes["from"], header.attributes["to"]) == (HERE, THERE)
    assert header.namespaces["db"] == "jabber:server:dialback" and header.namespaces[""] == "jabber:server"
    assert len(header.attributes["id"]) >= 22


def test_without_tls_only_tls_is_offered() -> None:
    town = Town()
    peer = town.peer(secure=False)
    peer.opens(HERE)
    features = peer.features()
    assert names(features) == ["starttls", "bidi", "limits"]
    assert features[0][0].tag == "{urn:ietf:params:xml:ns:xmpp-tls}required"


def test_under_tls_a_certificate_that_holds_is_enough() -> None:
    peer = Town().peer(certificates=[THERE])
    peer.opens(HERE)
    features = peer.features()
    assert names(features) == ["mechanisms", "dialback", "sm", "bidi", "limits"]
    assert features[0][0].text == "EXTERNAL"
    assert features[1][0].tag == "{urn:xmpp:features:dialback}errors"


def test_a_certificate_for_another_domain_is_not() -> None:
    peer = Town().peer(certificates=[EVIL])
    peer.opens(HERE)
    assert names(peer.features()) == ["dialback", "sm", "bidi", "limits"]


def test_after_login_the_limits_are_larger() -> None:
    town = Town("s2s_stanza_size_limit = 300k\ns2s_idle_timeout = 5m")
    plain = town.peer(secure=False)
    plain.opens(HERE)
    limits = "{urn:xmpp:stream-limits:0}"
    before = plain.features().find(f"{limits}limits")
    assert before.findtext(f"{limits}max-bytes") == "10000" and before.findtext(f"{limits}idle-seconds") == "300"
    peer = town.peer(certificates=[THERE])
    peer.opens(HERE)  # behind dialback there will be no other features
    assert peer.features().findtext(f"{limits}limits/{limits}max-bytes") == str(300 * 1024)
    peer.sends(EXTERNAL.format("="))
    peer.takes()
    peer.opens(HERE)
    features = peer.features()
    assert names(features) == ["dialback", "sm", "limits"]
    assert features.findtext(f"{limits}limits/{limits}max-bytes") == str(300 * 1024)


@pytest.mark.parametrize(
    ("to", "sender", "condition"),
    [
        ("nowhere.example", THERE, "host-unknown"),
        ("", THERE, "host-unknown"),
        (f"romeo@{HERE}", THERE, "host-unknown"),
        (HERE, HERE, "invalid-from"),
    ],
)
def test_headers_that_are_refused(to: str, sender: str, condition: str) -> None:
    peer = Town().peer(sender)
    peer.opens_only(to)
    peer.receives_header()
    peer.receives_stream_error(condition)


@pytest.mark.parametrize(
    ("old", "new", "condition"),
    [("jabber:server'", "jabber:client'", "invalid-namespace"), (" version='1.0'", "", "unsupported-version")],
)
def test_a_stream_of_another_kind(old: str, new: str, condition: str) -> None:
    peer = Town().peer()
    peer.header = peer.header.replace("<?xml version='1.0'?>", "").replace(old, new)
    peer.opens_only(HERE)
    peer.receives_header()
    peer.receives_stream_error(condition)


def test_a_component_is_reached_as_a_host_is() -> None:
    town = Town(sections=f"[component:push.{HERE}]\nsecret = secret\n")
    component = town.world.component(f"push.{HERE}")
    peer = town.peer(certificates=[THERE])
    peer.logs_in(f"push.{HERE}")
    peer.sends(f"<message from='juliet@{THERE}/b' to='x@push.{HERE}'><body>hi</body></message>")
    component.receives(f"<message from='juliet@{THERE}/b' to='x@push.{HERE}'><body>hi</body></message>")


# ---- TLS


def test_nothing_is_heard_before_tls() -> None:
    town = Town()
    for said, condition in (
        (HELLO, "not-authorized"), (EXTERNAL.format("="), "policy-violation"),
        ("<bidi xmlns='urn:xmpp:bidi'/>", "policy-violation"), ("<x xmlns='urn:x'/>", "not-authorized"),
    ):  # fmt: skip
        peer = town.opened(secure=False)
        peer.sends(said)
        if "auth" in said:
            peer.receives(f"<failure {SASL}><encryption-required/></failure>")
        peer.receives_stream_error(condition)
    town.romeo.receives_nothing()


def test_a_dialback_key_without_tls_is_not_looked_at() -> None:
    town = Town()
    peer = town.opened(secure=False)
    town.asked(peer)
    dialback(peer, "error", "policy-violation")
    assert town.globe.attempts == []


def test_what_follows_starttls_in_the_clear_ends_the_stream() -> None:
    peer = Town().opened(secure=False)
    peer.sends("<starttls xmlns='urn:ietf:params:xml:ns:xmpp-tls'/><stream:stream>")
    peer.receives_stream_error("policy-violation")


def test_tls_starts_once() -> None:
    peer = Town().opened()
    peer.sends("<starttls xmlns='urn:ietf:params:xml:ns:xmpp-tls'/>")
    peer.receives("<failure xmlns='urn:ietf:params:xml:ns:xmpp-tls'/>")
    peer.receives_end()


def test_tls_may_be_left_out_where_it_is_not_required() -> None:
    town = Town("s2s_require_encryption = no")
    peer = town.peer(secure=False)
    peer.opens(HERE)
    features = peer.features()
    assert names(features) == ["starttls", "dialback", "sm", "bidi", "limits"]
    assert len(features[0]) == 0


# ---- EXTERNAL (XEP-0178)


@pytest.mark.parametrize("authzid", ["=", "", THERE, THERE.upper()])
def test_who_is_known_by_a_certificate_is_heard(authzid: str) -> None:
    town = Town()
    peer = town.opened(certificates=[THERE])
    peer.sends(EXTERNAL.format(authzid if authzid in ("", "=") else base64.b64encode(authzid.encode()).decode()))
    peer.receives(f"<success {SASL}/>")
    peer.opens(HERE)
    peer.features()
    peer.sends(HELLO)
    assert town.romeo.takes().findtext("{jabber:client}body") == "hi"


@pytest.mark.parametrize(
    ("certificates", "auth", "condition"),
    [
        ([THERE, EVIL], EXTERNAL.format(base64.b64encode(EVIL.encode()).decode()), "invalid-authzid"),
        ([THERE], EXTERNAL.format(base64.b64encode(f"x@{THERE}".encode()).decode()), "invalid-authzid"),
        ([THERE], EXTERNAL.format("!"), "incorrect-encoding"),
        ([THERE], EXTERNAL.format("/w=="), "incorrect-encoding"),
        ([THERE], f"<auth {SASL} mechanism='PLAIN'>AGEAYg==</auth>", "invalid-mechanism"),
        ([EVIL], EXTERNAL.format("="), "not-authorized"),
        ([], EXTERNAL.format("="), "not-authorized"),
    ],
)
def test_who_is_not_is_told_so_and_may_go_on_with_dialback(
    certificates: list[str], auth: str, condition: str
) -> None:
    town = Town()
    peer = town.opened(certificates=certificates)
    peer.sends(auth)
    peer.receives(f"<failure {SASL}><{condition}/></failure>")
    town.asked(peer, EVIL)
    dialback(peer, "valid" if EVIL in certificates else "error")


def test_three_attempts_are_enough() -> None:
    peer = Town().opened()
    for _ in range(3):
        peer.sends(EXTERNAL.format("="))
        peer.takes()
    peer.receives_stream_error("policy-violation")


@pytest.mark.parametrize(("sender", "to"), [(EVIL, HERE), (THERE, f"other.{HERE}"), ("", HERE)])
def test_the_domains_of_a_stream_do_not_change_after_login(sender: str, to: str) -> None:
    town = Town(sections=f"[host:other.{HERE}]\n")
    peer = town.opened(certificates=[THERE, EVIL])
    peer.sends(EXTERNAL.format("="))
    peer.takes()
    peer.header = peer.header.replace(f"from='{THERE}'", f"from='{sender}'")
    peer.opens_only(to)
    peer.receives_header()
    peer.receives_stream_error("invalid-from")


def test_nothing_may_be_sent_ahead_of_success() -> None:
    town = Town()
    peer = town.opened(certificates=[THERE])
    peer.sends(EXTERNAL.format("=") + HELLO)
    peer.receives(f"<success {SASL}/>")
    peer.receives_stream_error("not-authorized")
    town.romeo.receives_nothing()


def test_where_certificates_are_needed_dialback_is_not_enough() -> None:
    town = Town("s2s_secure_auth = yes")
    peer = town.peer()
    peer.opens(HERE)
    peer.receives_stream_error("not-authorized")
    unnamed = town.peer()
    unnamed.header = unnamed.header.replace(f" from='{THERE}'", "")
    unnamed.opens(HERE)
    unnamed.features()
    town.asked(unnamed)
    dialback(unnamed, "error", "not-authorized")
    assert town.globe.attempts == []


def test_a_domain_can_be_let_in_by_dialback_all_the_same() -> None:
    town = Town(f"s2s_secure_auth = yes\ns2s_insecure_domains = {THERE}")
    peer = town.peer()
    peer.opens(HERE)
    assert "dialback" in names(peer.features())


def test_a_domain_can_be_held_to_a_certificate() -> None:
    town = Town(f"s2s_secure_domains = {THERE}")
    town.peer(EVIL).opens(HERE)
    peer = town.peer()
    peer.opens(HERE)
    peer.receives_stream_error("not-authorized")
