"""Certificates: where they are found, what is made where there is none, what is refused, and when files change."""

from __future__ import annotations

import datetime
import hashlib
import itertools
import os
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.x509.oid import NameOID
from OpenSSL import SSL

from xmppd.net.certificates import CertificateError, Certificates, end_point, self_signed

NOW = 1_700_000_000.0
PEM = serialization.Encoding.PEM


def certificates(folder: Path, *domains: str) -> Certificates:
    later = itertools.count(NOW, 2)  # each look is a while after the one before
    return Certificates(folder, domains or ["example.org"], lambda: next(later), b"xmpp-client")


def write(folder: Path, domain: str = "example.org", times: int = 1) -> bytes:
    """Write a new pair of files, and return the certificate."""
    folder.mkdir(exist_ok=True)
    certificate, key = self_signed(domain, NOW)
    (folder / f"{domain}.crt").write_bytes(certificate)
    (folder / f"{domain}.key").write_bytes(key)
    for path in (folder / f"{domain}.crt", folder / f"{domain}.key"):
        os.utime(path, (NOW + times, NOW + times))
    return certificate


def expected(certificate: bytes) -> bytes | None:
    return end_point(x509.load_pem_x509_certificate(certificate))


def in_use(certificates: Certificates, domain: str = "example.org") -> object:
    return certificates.context(domain).get_app_data()


def test_a_self_signed_one_is_made_where_there_is_none(tmp_path: Path) -> None:
    made = certificates(tmp_path / "certs")
    certificate, key = tmp_path / "certs/example.org.crt", tmp_path / "certs/example.org.key"
    assert key.stat().st_mode & 0o777 == 0o600
    loaded = x509.load_pem_x509_certificate(certificate.read_bytes())
    names = loaded.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.DNSName) == ["example.org"]
    start = datetime.datetime.fromtimestamp(NOW, datetime.timezone.utc)
    assert loaded.not_valid_before_utc < start < loaded.not_valid_after_utc == made.expires("example.org")
    # The next start finds them.
    again = certificates(tmp_path / "certs")
    assert in_use(again) == in_use(made) == expected(certificate.read_bytes())


def test_a_key_is_private_from_the_first_moment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    old = os.umask(0)
    try:
        (tmp_path / "example.org.key.tmp").touch()
        certificates(tmp_path)
    finally:
        os.umask(old)
    assert (tmp_path / "example.org.key").stat().st_mode & 0o777 == 0o600


def test_a_domain_of_another_script(tmp_path: Path) -> None:
    certificates(tmp_path, "b\u00fccher.example")
    loaded = x509.load_pem_x509_certificate((tmp_path / "b\u00fccher.example.crt").read_bytes())
    names = loaded.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.DNSName) == ["xn--bcher-kva.example"]


def test_a_long_domain(tmp_path: Path) -> None:
    domain = ".".join(["a" * 60] * 4)
    certificates(tmp_path, domain)


def test_the_files_of_acme_clients(tmp_path: Path) -> None:
    (tmp_path / "example.org").mkdir()
    certificate, key = self_signed("example.org", NOW)
    (tmp_path / "example.org/fullchain.pem").write_bytes(certificate + self_signed("issuer", NOW)[0])
    (tmp_path / "example.org/privkey.pem").write_bytes(key)
    found = certificates(tmp_path)
    assert in_use(found) == expected(certificate)
    assert not (tmp_path / "example.org.crt").exists()


def test_a_name_that_is_not_served_gets_the_first(tmp_path: Path) -> None:
    both = certificates(tmp_path, "example.org", "example.net")
    assert in_use(both, "example.com") == in_use(both, "example.org") != in_use(both, "example.net")


def test_files_that_change_are_read_again(tmp_path: Path) -> None:
    first = write(tmp_path)
    used = certificates(tmp_path)
    before = used.context("example.org")
    assert used.context("example.org") is before and in_use(used) == expected(first)
    second = write(tmp_path, times=2)
    assert in_use(used) == expected(second) != expected(first)
    third = write(tmp_path, times=3)
    used.reload()
    assert in_use(used) == expected(third)


def test_files_in_use_stay_in_use_when_they_go(tmp_path: Path) -> None:
    first = write(tmp_path)
    used = certificates(tmp_path)
    (tmp_path / "example.org.key").unlink()
    assert in_use(used) == expected(first)
    (tmp_path / "example.org.crt").unlink()
    used.reload()
    assert in_use(used) == expected(first)


@pytest.mark.parametrize(
    "broken", [b"", b"nonsense", b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"]
)
@pytest.mark.parametrize("suffix", ["crt", "key"])
def test_broken_files_leave_the_one_before_in_use(tmp_path: Path, broken: bytes, suffix: str) -> None:
    first = write(tmp_path)
    used = certificates(tmp_path)
    (tmp_path / f"example.org.{suffix}").write_bytes(broken)
    for _ in range(3):
        assert in_use(used) == expected(first)
    second = write(tmp_path, times=5)
    assert in_use(used) == expected(second)


def test_a_renewal_is_used_once_both_files_are_there(tmp_path: Path) -> None:
    first = write(tmp_path)
    used = certificates(tmp_path)
    certificate, key = self_signed("example.org", NOW)
    (tmp_path / "example.org.crt").write_bytes(certificate)
    assert in_use(used) == expected(first)
    (tmp_path / "example.org.key").write_bytes(key)
    assert in_use(used) == expected(certificate)


@pytest.mark.parametrize(
    "content", [b"", b"nonsense", b"\xff\0", b"-----BEGIN CERTIFICATE-----\nAA\n-----END CERTIFICATE-----"]
)
@pytest.mark.parametrize("suffix", ["crt", "key"])
def test_what_cannot_be_used_is_named(tmp_path: Path, content: bytes, suffix: str) -> None:
    write(tmp_path)
    (tmp_path / f"example.org.{suffix}").write_bytes(content)
    with pytest.raises(CertificateError) as raised:
        certificates(tmp_path)
    assert str(tmp_path / f"example.org.{suffix}") in str(raised.value)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("suffix", ["crt", "key"])
def test_what_is_missing_is_named(tmp_path: Path, suffix: str) -> None:
    write(tmp_path)
    (tmp_path / f"example.org.{suffix}").unlink()
    with pytest.raises(CertificateError, match=f"example.org.{suffix}"):
        certificates(tmp_path)


def test_a_key_of_another_certificate(tmp_path: Path) -> None:
    write(tmp_path)
    (tmp_path / "example.org.key").write_bytes(self_signed("example.org", NOW)[1])
    with pytest.raises(CertificateError, match=r"example\.org\.key.*mismatch"):
        certificates(tmp_path)


@pytest.mark.parametrize("format", [serialization.PrivateFormat.PKCS8, serialization.PrivateFormat.TraditionalOpenSSL])
def test_a_key_with_a_password_is_refused_and_not_asked_for(
    tmp_path: Path, format: serialization.PrivateFormat
) -> None:
    write(tmp_path)
    path = tmp_path / "example.org.key"
    key = serialization.load_pem_private_key(path.read_bytes(), None)
    path.write_bytes(key.private_bytes(PEM, format, serialization.BestAvailableEncryption(b"password")))
    with pytest.raises(CertificateError, match=r"example\.org\.key.*password"):
        certificates(tmp_path)


def test_a_folder_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(CertificateError, match=r"example\.org\.key: example\.org has no certificate"):
        certificates(tmp_path / "file")


def certificate_of(key: ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey | ed25519.Ed25519PrivateKey,
                   algorithm: hashes.HashAlgorithm | None) -> x509.Certificate:  # fmt: skip
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "example.org")])
    start = datetime.datetime(2020, 1, 1)
    return (
        x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key())
        .serial_number(1).not_valid_before(start).not_valid_after(start + datetime.timedelta(days=1))
        .sign(key, algorithm)  # type: ignore[arg-type]
    )  # fmt: skip


@pytest.mark.parametrize(
    ("algorithm", "name"), [(hashes.SHA256(), "sha256"), (hashes.SHA384(), "sha384"), (hashes.SHA512(), "sha512")]
)
def test_the_end_point_is_under_the_signatures_own_hash(algorithm: hashes.HashAlgorithm, name: str) -> None:
    """RFC 5929 section 4.1."""
    certificate = certificate_of(ec.generate_private_key(ec.SECP256R1()), algorithm)
    der = certificate.public_bytes(serialization.Encoding.DER)
    assert end_point(certificate) == hashlib.new(name, der).digest()


def test_a_signature_without_a_hash_has_no_end_point() -> None:
    assert end_point(certificate_of(ed25519.Ed25519PrivateKey.generate(), None)) is None


def test_an_expired_certificate_is_used_and_its_end_is_told(tmp_path: Path) -> None:
    """The administrator is told elsewhere; a server that does not start helps nobody."""
    key = ec.generate_private_key(ec.SECP256R1())
    (tmp_path / "example.org.crt").write_bytes(certificate_of(key, hashes.SHA256()).public_bytes(PEM))
    (tmp_path / "example.org.key").write_bytes(
        key.private_bytes(PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    used = certificates(tmp_path)
    assert used.expires("example.org") == datetime.datetime(2020, 1, 2, tzinfo=datetime.timezone.utc)
    assert isinstance(used.context("example.org"), SSL.Context)


def test_what_an_acme_client_brings_later_takes_the_place_of_the_self_signed_one(tmp_path: Path) -> None:
    later = itertools.count(NOW, 2)
    certificates = Certificates(tmp_path, ["example.org"], lambda: next(later), b"xmpp-client")
    before = certificates.context("example.org")
    (tmp_path / "example.org").mkdir()
    certificate, key = self_signed("example.org", NOW)
    (tmp_path / "example.org" / "fullchain.pem").write_bytes(certificate)
    (tmp_path / "example.org" / "privkey.pem").write_bytes(key)
    assert certificates.context("example.org") is not before
    assert certificates.files("example.org") == (
        tmp_path / "example.org" / "fullchain.pem", tmp_path / "example.org" / "privkey.pem",
    )  # fmt: skip


def test_a_name_below_a_domain_gets_the_certificate_of_that_domain(tmp_path: Path) -> None:
    write(tmp_path, "example.org")
    write(tmp_path, "rooms.example.org")
    used = certificates(tmp_path, "other.example", "example.org", "rooms.example.org")
    assert used.context("chat.example.org") is used.context("example.org")
    assert used.context("a.rooms.example.org") is used.context("rooms.example.org")
    assert used.context("elsewhere.example") is used.context("other.example")


def test_files_are_looked_at_once_a_second(tmp_path: Path) -> None:
    now = NOW
    write(tmp_path)
    used = Certificates(tmp_path, ["example.org"], lambda: now, b"xmpp-client")
    before = in_use(used)
    after = write(tmp_path, times=2)
    now += 0.9
    assert in_use(used) == before
    now += 0.2
    assert in_use(used) == expected(after) != before
    write(tmp_path, times=3)
    now -= 3600  # the clock was put back
    assert in_use(used) != expected(after)
