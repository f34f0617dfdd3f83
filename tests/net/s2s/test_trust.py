"""Whose certificates are believed, and for which domains (RFC 6120 section 13.7.2, RFC 9525)."""

from __future__ import annotations

import contextlib
import ipaddress
import time
from collections.abc import Sequence
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID as Usage

from tests.support.authority import Issued, authority, issue
from xmppd.net.s2s.trust import Trust

DAY = 86400.0
DOMAIN = "capulet.example"


def dns(*names: str) -> list[x509.GeneralName]:
    return [x509.DNSName(name) for name in names]


def srv(name: str) -> x509.OtherName:
    """An SRV-ID (RFC 4985): an IA5String."""
    return x509.OtherName(x509.ObjectIdentifier("1.3.6.1.5.5.7.8.7"), bytes([0x16, len(name)]) + name.encode())


class Believer:
    """Believes one authority, at a time of day that the test sets."""

    def __init__(self, folder: Path) -> None:
        self.now = time.time()
        self.ca = authority()
        self.file = folder / "ca.pem"
        self.file.write_bytes(self.ca.pem)
        self.trust = Trust(self.file, lambda: self.now)

    def problem(self, *chain: Issued, domain: str = DOMAIN) -> str | None:
        return self.trust.problem([each.certificate for each in chain], domain)

    def of(self, names: Sequence[x509.GeneralName], domain: str = DOMAIN) -> str | None:
        """What is wrong with a certificate of the authority for these names."""
        return self.problem(issue(self.ca, *names), domain=domain)


@pytest.fixture
def believer(tmp_path: Path) -> Believer:
    return Believer(tmp_path)


# ---- names


@pytest.mark.parametrize(
    ("names", "domain"),
    [
        (dns(DOMAIN), DOMAIN),
        (dns("CAPULET.Example"), DOMAIN),
        (dns("other.example", DOMAIN), DOMAIN),
        (dns("xmpp.capulet.example"), "xmpp.capulet.example"),
        (dns("*.capulet.example"), "xmpp.capulet.example"),
        (dns("xn--bcher-kva.example"), "b\u00fccher.example"),
        (dns("*.xn--bcher-kva.example"), "xmpp.b\u00fccher.example"),
        ([srv("_xmpp-server.capulet.example")], DOMAIN),
        ([srv("_xmpps-server.capulet.example")], DOMAIN),
        ([srv("_XMPP-Server.Capulet.example")], DOMAIN),
        ([srv("_xmpp-server.xn--bcher-kva.example")], "b\u00fccher.example"),
        ([*dns("other.example"), srv("_xmpp-server.capulet.example")], DOMAIN),
        ([*dns(DOMAIN), srv("_xmpp-client.capulet.example")], DOMAIN),
        ([x509.IPAddress(ipaddress.ip_address("192.0.2.1"))], "192.0.2.1"),
        ([x509.IPAddress(ipaddress.ip_address("2001:db8::1"))], "[2001:db8::1]"),
        (dns("localhost"), "localhost"),
    ],
)
def test_a_certificate_for_the_domain(believer: Believer, names: list[x509.GeneralName], domain: str) -> None:
    assert believer.of(names, domain) is None


@pytest.mark.parametrize(
    ("names", "domain"),
    [
        (dns("montague.example"), DOMAIN),
        (dns("xmpp.capulet.example"), DOMAIN),
        (dns(DOMAIN), "xmpp.capulet.example"),
        (dns(DOMAIN), "capulet.example.evil"),
        (dns("*.capulet.example"), DOMAIN),
        (dns("*.capulet.example"), "a.b.capulet.example"),
        (dns("xmpp.*.example"), "xmpp.capulet.example"),
        (dns("*.*.example"), "xmpp.capulet.example"),
        (dns("x*.capulet.example"), "xmpp.capulet.example"),
        (dns("*"), "localhost"),
        (dns("*.example"), DOMAIN),
        (dns("bcher.example"), "b\u00fccher.example"),
        ([srv("_xmpp-client.capulet.example")], DOMAIN),
        ([srv("_imap.capulet.example")], DOMAIN),
        ([srv("_xmpp-server.montague.example")], DOMAIN),
        ([srv("_xmpp-server.*.example")], DOMAIN),
        ([srv("_xmpp-server.*.capulet.example")], "xmpp.capulet.example"),
        ([srv("capulet.example")], DOMAIN),
        ([x509.UniformResourceIdentifier("xmpp:capulet.example")], DOMAIN),
        ([x509.RFC822Name("romeo@capulet.example")], DOMAIN),
        ([x509.IPAddress(ipaddress.ip_address("192.0.2.1"))], "192.0.2.2"),
        ([x509.IPAddress(ipaddress.ip_address("192.0.2.1"))], DOMAIN),
        ([x509.IPAddress(ipaddress.ip_address("2001:db8::1"))], "[2001:db8::2]"),
        ([*dns(DOMAIN), *dns("192.0.2.1")], "192.0.2.1"),
    ],
)
def test_a_certificate_for_others(believer: Believer, names: list[x509.GeneralName], domain: str) -> None:
    assert believer.of(names, domain)


def test_what_is_wrong_names_the_domain(believer: Believer) -> None:
    assert believer.of(dns("montague.example")) == f"its certificate is not for {DOMAIN}"


def test_a_common_name_is_nobodys(believer: Believer) -> None:
    """RFC 9525 section 2."""
    assert believer.problem(issue(believer.ca, common_name=DOMAIN))
    assert believer.problem(issue(believer.ca, *dns("other.example"), common_name=DOMAIN))


@pytest.mark.parametrize(
    "other",
    [
        x509.RFC822Name("postmaster@capulet.example"),
        x509.UniformResourceIdentifier("https://capulet.example/"),
        x509.UniformResourceIdentifier("https://capulet.example:443/"),
        x509.OtherName(x509.ObjectIdentifier("1.3.6.1.5.5.7.8.5"), b"\x0c\x0fcapulet.example"),
        x509.DNSName("*.example"),
        x509.DNSName("xmpp.*.capulet.example"),
        srv("_xmpp-server.*.example"),
        srv(""),
    ],
    ids=lambda other: repr(other.value),
)
def test_another_name_beside_the_one_that_fits_does_not_matter(believer: Believer, other: x509.GeneralName) -> None:
    assert believer.of([*dns(DOMAIN), other]) is None


@pytest.mark.parametrize("value", [b"\x0c\x01a", b"\x16\0", b"\x16\x01\xff", b"\x16\x01_", b"\x16\x02_."])
def test_an_srv_id_that_cannot_be_read_is_no_name(believer: Believer, value: bytes) -> None:
    broken = x509.OtherName(x509.ObjectIdentifier("1.3.6.1.5.5.7.8.7"), value)
    assert believer.of([broken])


@pytest.mark.parametrize("domain", ["42", "1.2.3", "0x7f", "localhost", "a_b", "b\u00fccher", "[::1]", "127.0.0.1"])
def test_any_domain_can_be_asked_for(believer: Believer, domain: str) -> None:
    assert believer.of(dns(DOMAIN), domain)


# ---- the chain


def test_no_certificate_at_all(believer: Believer) -> None:
    assert believer.problem() == "it has shown no certificate"


def test_a_self_signed_one_is_not_believed_although_the_name_fits(believer: Believer) -> None:
    problem = believer.problem(issue(None, *dns(DOMAIN)))
    assert problem is not None and "self-signed" in problem.replace("self signed", "self-signed")


def test_another_authority_is_not_believed_though_it_has_the_same_name(believer: Believer) -> None:
    other = authority()
    leaf = issue(other, *dns(DOMAIN))
    assert believer.problem(leaf)
    assert believer.problem(leaf, other)


def test_an_authority_between_has_to_be_shown(believer: Believer) -> None:
    between = authority("Between", believer.ca)
    leaf = issue(between, *dns(DOMAIN))
    assert believer.problem(leaf, between) is None
    assert believer.problem(leaf, between, believer.ca) is None
    assert believer.problem(leaf)


def test_authorities_between_may_come_in_any_order(believer: Believer) -> None:
    first = authority("First", believer.ca)
    second = authority("Second", first)
    leaf = issue(second, *dns(DOMAIN))
    assert believer.problem(leaf, first, second) is None
    assert believer.problem(leaf, second)


def test_the_first_certificate_is_the_peers_whatever_stands_behind_it(believer: Believer) -> None:
    stolen = issue(believer.ca, *dns(DOMAIN))
    own = issue(believer.ca, *dns("montague.example"))
    assert believer.problem(own, stolen)


def test_who_has_a_certificate_is_no_authority(believer: Believer) -> None:
    server = issue(believer.ca, *dns("montague.example"), common_name="Server")
    assert believer.problem(issue(server, *dns(DOMAIN)), server)


def test_what_an_authority_may_not_sign_is_not_believed(believer: Believer) -> None:
    limits = x509.NameConstraints([x509.DNSName("montague.example")], None)
    between = issue(believer.ca, authority=True, common_name="Between", extensions=[limits])
    assert believer.problem(issue(between, *dns(DOMAIN)), between)
    assert believer.problem(issue(between, *dns("montague.example")), between, domain="montague.example") is None


def test_a_signature_that_was_changed(believer: Believer) -> None:
    leaf = issue(believer.ca, *dns(DOMAIN))
    der = bytearray(leaf.certificate.public_bytes(serialization.Encoding.DER))
    der[-1] ^= 1
    changed = x509.load_der_x509_certificate(bytes(der))
    assert believer.trust.problem([changed], DOMAIN)


def test_an_unreadable_key_of_a_certificate_that_nobody_needs_is_no_exception(believer: Believer) -> None:
    """The peer shows what it likes behind its own."""
    extra = issue(None, common_name="Extra", key=ec.generate_private_key(ec.SECP256R1()))
    der = extra.certificate.public_bytes(serialization.Encoding.DER)
    prime256v1, unknown = bytes.fromhex("06082a8648ce3d030107"), bytes.fromhex("06082a8648ce3d03017f")
    assert prime256v1 in der
    odd = x509.load_der_x509_certificate(der.replace(prime256v1, unknown))
    chain = [issue(believer.ca, *dns(DOMAIN)).certificate, odd]
    assert believer.trust.problem(chain, "montague.example")
    assert believer.trust.problem(chain, DOMAIN) in (None, "its certificate cannot be read")


def test_an_unknown_signature_of_a_certificate_that_nobody_needs_is_no_exception(believer: Believer) -> None:
    extra = issue(None, common_name="Extra")
    der = extra.certificate.public_bytes(serialization.Encoding.DER)
    ecdsa_with_sha256, unknown = bytes.fromhex("06082a8648ce3d040302"), bytes.fromhex("06082a8648ce3d04037f")
    assert der.count(ecdsa_with_sha256) == 2
    odd = x509.load_der_x509_certificate(der.replace(ecdsa_with_sha256, unknown))
    chain = [issue(believer.ca, *dns(DOMAIN)).certificate, odd]
    assert believer.trust.problem(chain, "montague.example")
    assert believer.trust.problem(chain, DOMAIN) in (None, "its certificate cannot be read")


# ---- time


@pytest.mark.parametrize(("days", "valid"), [(-0.1, False), (0.1, True), (29.9, True), (30.1, False), (4000, False)])
def test_a_certificate_holds_from_its_start_to_its_end(tmp_path: Path, days: float, valid: bool) -> None:
    start = 1_600_000_000.0
    ca = issue(None, authority=True, common_name="Old", start=start - 1000 * DAY, days=6000)
    (tmp_path / "ca.pem").write_bytes(ca.pem)
    trust = Trust(tmp_path / "ca.pem", lambda: start + days * DAY)
    problem = trust.problem([issue(ca, *dns(DOMAIN), start=start, days=30).certificate], DOMAIN)
    assert (problem is None) is valid
    if not valid:
        assert problem is not None and ("expired" in problem or "not yet valid" in problem)


def test_the_time_of_each_question_counts(believer: Believer) -> None:
    leaf = issue(believer.ca, *dns(DOMAIN), days=10)
    assert believer.problem(leaf) is None
    believer.now += 12 * DAY
    assert believer.problem(leaf)
    believer.now -= 12 * DAY
    assert believer.problem(leaf) is None


def test_an_authority_that_has_expired_is_not_believed(tmp_path: Path) -> None:
    start = 1_600_000_000.0
    ca = issue(None, authority=True, common_name="Old", start=start, days=10)
    (tmp_path / "ca.pem").write_bytes(ca.pem)
    leaf = issue(ca, *dns(DOMAIN), start=start, days=100)
    assert Trust(tmp_path / "ca.pem", lambda: start + DAY).problem([leaf.certificate], DOMAIN) is None
    assert Trust(tmp_path / "ca.pem", lambda: start + 20 * DAY).problem([leaf.certificate], DOMAIN)


# ---- what it is for, and how strong it is


@pytest.mark.parametrize(
    ("usages", "accepted"),
    [
        ([Usage.SERVER_AUTH], True),
        ([Usage.CLIENT_AUTH], True),
        ([Usage.SERVER_AUTH, Usage.CLIENT_AUTH], True),
        ([Usage.EMAIL_PROTECTION, Usage.SERVER_AUTH], True),
        ([Usage.ANY_EXTENDED_KEY_USAGE], True),
        ([Usage.EMAIL_PROTECTION], False),
        ([Usage.CODE_SIGNING, Usage.OCSP_SIGNING], False),
    ],
)
def test_what_a_certificate_is_for(believer: Believer, usages: list[x509.ObjectIdentifier], accepted: bool) -> None:
    leaf = issue(believer.ca, *dns(DOMAIN), extensions=[x509.ExtendedKeyUsage(usages)])
    assert believer.problem(leaf) == (None if accepted else "its certificate is not for servers")


def test_keys_of_rsa_have_to_be_long(believer: Believer) -> None:
    """RFC 9325 section 4.5."""
    weak = issue(believer.ca, *dns(DOMAIN), key=rsa.generate_private_key(65537, 1024))
    problem = believer.problem(weak)
    assert problem is not None and "2048 bits" in problem
    assert believer.problem(issue(believer.ca, *dns(DOMAIN), key=rsa.generate_private_key(65537, 2048))) is None


def test_the_keys_of_authorities_between_have_to_be_long_as_well(believer: Believer) -> None:
    key = rsa.generate_private_key(65537, 1024)
    between = issue(believer.ca, authority=True, common_name="Between", key=key)
    assert believer.problem(issue(between, *dns(DOMAIN)), between)


# ---- the file


@pytest.mark.parametrize(
    "content", [b"", b"nonsense", b"\xff\0", b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n", None]
)
def test_a_file_without_authorities_is_an_error_and_those_before_stay(
    believer: Believer, tmp_path: Path, content: bytes | None
) -> None:
    broken = tmp_path / "broken.pem"
    if content is not None:
        broken.write_bytes(content)
    with pytest.raises(OSError, match=r"broken\.pem"):
        Trust(broken, lambda: 0.0)
    with pytest.raises(OSError, match=r"broken\.pem"):
        believer.trust.reload(broken)
    assert believer.of(dns(DOMAIN)) is None


def test_a_file_that_has_changed_is_read_again(believer: Believer) -> None:
    other = authority("Other")
    leaf = issue(other, *dns(DOMAIN))
    believer.file.write_bytes(other.pem)
    assert believer.problem(leaf)
    believer.trust.reload(believer.file)
    assert believer.problem(leaf) is None
    assert believer.of(dns(DOMAIN)), "the one before is not believed any more"


def test_several_authorities_in_one_file(believer: Believer) -> None:
    other = authority("Other")
    believer.file.write_bytes(believer.ca.pem + other.pem)
    believer.trust.reload(believer.file)
    assert believer.of(dns(DOMAIN)) is None
    assert believer.problem(issue(other, *dns(DOMAIN))) is None


def test_those_of_the_system_do_not_know_ours(believer: Believer) -> None:
    trust = Trust(None, lambda: believer.now)
    assert trust.problem([issue(believer.ca, *dns(DOMAIN)).certificate], DOMAIN)


def test_those_of_the_system_are_where_it_says(believer: Believer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(believer.file))
    trust = Trust(None, lambda: believer.now)
    assert trust.problem([issue(believer.ca, *dns(DOMAIN)).certificate], DOMAIN) is None


def test_a_system_without_authorities_believes_nobody(
    believer: Believer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "none.pem"))
    monkeypatch.setenv("SSL_CERT_DIR", str(tmp_path / "none"))
    trust = Trust(None, lambda: believer.now)
    assert trust.problem([issue(believer.ca, *dns(DOMAIN)).certificate], DOMAIN)


def test_an_empty_file_of_the_system_is_no_other_exception(
    believer: Believer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "empty.pem").touch()
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "empty.pem"))
    with contextlib.suppress(OSError):
        trust = Trust(None, lambda: believer.now)
        assert trust.problem([issue(believer.ca, *dns(DOMAIN)).certificate], DOMAIN)
