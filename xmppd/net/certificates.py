"""Certificates of the hosts, and the TLS contexts made of them (RFC 7590, RFC 9325).

For DOMAIN the folder holds ``DOMAIN.crt`` and ``DOMAIN.key``, or ``DOMAIN/fullchain.pem`` and
``DOMAIN/privkey.pem`` as ACME clients write them. A host that has none gets a self-signed one, so that a new
server starts. Files that change are read again for the next connection.
"""

from __future__ import annotations

import datetime
import hashlib
import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from OpenSSL import SSL
from twisted.logger import Logger

from xmppd.wire.jid import InvalidJID, ascii_domain, prepare_domain

SELF_SIGNED_DAYS = 3650
# TLS 1.2 with forward secrecy and authenticated encryption only (RFC 9325 section 4.2); 1.3 has nothing else.
CIPHERS = b"ECDHE+AESGCM:ECDHE+CHACHA20"

LOOK_SECONDS = 1.0  # between two looks at whether files have changed

Now = Callable[[], float]


class CertificateError(Exception):
    """A certificate or key cannot be used; one line that says which file and why."""


@dataclass(frozen=True)
class _Loaded:
    context: SSL.Context
    stamp: tuple[int, ...]
    not_after: datetime.datetime


class Certificates:
    """The certificates of some domains, in `folder`. `now` is the time of day in seconds. `mutual`: the contexts are
    for both ends of a handshake, and the other one is asked for its certificate, which is not judged here."""

    def __init__(
        self, folder: Path, domains: Iterable[str], now: Now, alpn: bytes, *, mutual: bool = False
    ) -> None:
        """Load the certificate of each domain, making it first where there is none; raises `CertificateError`."""
        self._mutual = mutual
        self._folder = folder
        self._now = now
        self._alpn = alpn
        self._log = Logger(namespace="xmppd.tls")
        self._loaded: dict[str, _Loaded] = {}
        self._looked: dict[str, float] = {}  # when, at the files of a domain
        for domain in domains:
            certificate, key = self.files(domain) or self._make(domain)
            self._loaded[domain] = self._load(certificate, key)

    def files(self, domain: str) -> tuple[Path, Path] | None:
        """The files of a domain's certificate chain and key, None where it has none."""
        return _files(self._folder, domain)

    def context(self, domain: str) -> SSL.Context:
        """The context for connections to `domain`; for a name that has no certificate that of the nearest domain above
        it, or else of the first."""
        nearest = self._nearest(domain) or next(iter(self._loaded))
        self._look(nearest)
        return self._loaded[nearest].context

    def _nearest(self, domain: str) -> str | None:
        while domain and domain not in self._loaded:
            domain = domain.partition(".")[2]
        return domain or None

    def expires(self, domain: str) -> datetime.datetime:
        """When the domain's certificate ends."""
        return self._loaded[domain].not_after

    def reload(self) -> None:
        """Read every file that has changed. What cannot be used is logged, and the one before stays."""
        for domain in self._loaded:
            self._reload_if_changed(domain)

    def _look(self, domain: str) -> None:
        """Read a domain's files again where they have changed; not more than once a second, as to look at them takes a
        twentieth of a login."""
        now = self._now()
        if not 0 <= now - self._looked.get(domain, -LOOK_SECONDS) < LOOK_SECONDS:
            self._looked[domain] = now
            self._reload_if_changed(domain)

    def _reload_if_changed(self, domain: str) -> None:
        found = self.files(domain)
        if found is None:
            return
        try:
            if _stamp(*found) != self._loaded[domain].stamp:
                self._loaded[domain] = self._load(*found)
                self._log.info("the certificate of {domain} was read again", domain=domain)
        except (CertificateError, OSError) as error:
            # Noted as seen, so that it is said once and not for each connection.
            old = self._loaded[domain]
            self._loaded[domain] = _Loaded(old.context, _stamp_or_none(*found), old.not_after)
            self._log.error("{error}; the certificate before stays in use", error=str(error))

    def _load(self, certificate: Path, key: Path) -> _Loaded:
        try:
            stamp = _stat(certificate)
            first = x509.load_pem_x509_certificate(certificate.read_bytes())
            context = _context(self._mutual)
            context.use_certificate_chain_file(str(certificate))
        except (OSError, ValueError, SSL.Error) as error:
            raise CertificateError(f"{certificate}: no usable certificate ({_why(error)})") from None
        try:
            stamp += _stat(key)
            if b"ENCRYPTED" in key.read_bytes():
                raise ValueError("it has a password")  # which OpenSSL would ask the terminal for, and wait
            context.use_privatekey_file(str(key))
            context.check_privatekey()
        except (OSError, ValueError, SSL.Error) as error:
            raise CertificateError(f"{key}: no usable key for {certificate.name} ({_why(error)})") from None
        context.set_app_data(end_point(first))
        context.set_tlsext_servername_callback(self._choose)
        context.set_alpn_select_callback(self._select_protocol)
        return _Loaded(context, stamp, first.not_valid_after_utc)

    def _choose(self, connection: SSL.Connection) -> None:
        """The client has named the host it wants (SNI): go on with that host's certificate."""
        name = connection.get_servername()
        if name:
            try:
                domain = prepare_domain(name.decode("ascii"))
            except (UnicodeError, InvalidJID):
                return
            if self._nearest(domain) is not None:
                connection.set_context(self.context(domain))

    def _select_protocol(self, connection: SSL.Connection, offered: list[bytes]) -> Any:
        return self._alpn if self._alpn in offered else SSL.NO_OVERLAPPING_PROTOCOLS

    def _make(self, domain: str) -> tuple[Path, Path]:
        """A self-signed certificate, for a host that has none."""
        certificate, key = self._folder / f"{domain}.crt", self._folder / f"{domain}.key"
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            made, private = self_signed(domain, self._now())
            _write_private(key, private)
            certificate.write_bytes(made)
        except OSError as error:
            raise CertificateError(f"{key}: {domain} has no certificate; none can be made ({_why(error)})") from None
        self._log.warn(
            "{domain} has no certificate: made a self-signed one, {file}; clients will not trust it",
            domain=domain, file=str(certificate),
        )  # fmt: skip
        return certificate, key


def has_files(folder: Path, domain: str) -> bool:
    """Whether a domain has a certificate of its own."""
    return _files(folder, domain) is not None


def _files(folder: Path, domain: str) -> tuple[Path, Path] | None:
    for certificate, key in (
        # First what an ACME client has put there: the other may be the self-signed one of the first start.
        (folder / domain / "fullchain.pem", folder / domain / "privkey.pem"),
        (folder / f"{domain}.crt", folder / f"{domain}.key"),
    ):
        if certificate.exists() or key.exists():
            return certificate, key
    return None


def end_point(certificate: x509.Certificate) -> bytes | None:
    """The ``tls-server-end-point`` binding (RFC 5929 section 4.1): the certificate under the hash of its own
    signature, SHA-256 for MD5 and SHA-1; None for a signature without one, such as Ed25519."""
    signed = certificate.signature_hash_algorithm
    if signed is None:
        return None
    name = "sha256" if isinstance(signed, hashes.MD5 | hashes.SHA1) else signed.name
    return hashlib.new(name, certificate.public_bytes(serialization.Encoding.DER)).digest()


def self_signed(domain: str, now: float) -> tuple[bytes, bytes]:
    """A new certificate for `domain` and its key, both PEM."""
    key = ec.generate_private_key(ec.SECP256R1())
    ascii_name = ascii_domain(domain)
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, ascii_name[:64])])
    start = datetime.datetime.fromtimestamp(now, datetime.timezone.utc) - datetime.timedelta(days=1)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(start)
        .not_valid_after(start + datetime.timedelta(days=SELF_SIGNED_DAYS))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(ascii_name)]), critical=False)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    return (
        certificate.public_bytes(serialization.Encoding.PEM),
        key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        ),
    )


def _context(mutual: bool) -> SSL.Context:
    context = SSL.Context(SSL.TLS_METHOD if mutual else SSL.TLS_SERVER_METHOD)
    if mutual:
        context.set_verify(SSL.VERIFY_PEER, lambda connection, certificate, error, depth, ok: True)
        # A session that is resumed would not have the chain of the peer's certificate.
        context.set_options(SSL.OP_NO_TICKET)
    context.set_min_proto_version(SSL.TLS1_2_VERSION)
    context.set_cipher_list(CIPHERS)
    context.set_options(
        SSL.OP_NO_COMPRESSION | SSL.OP_NO_RENEGOTIATION | SSL.OP_CIPHER_SERVER_PREFERENCE | SSL.OP_SINGLE_ECDH_USE
    )
    # Idle connections give OpenSSL's buffers back; nothing is cached here, tickets live with the clients.
    context.set_mode(SSL.MODE_RELEASE_BUFFERS)
    context.set_session_cache_mode(SSL.SESS_CACHE_OFF)
    return context


def _write_private(path: Path, content: bytes) -> None:
    """Write a file that nobody else may read, at no moment."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        os.fchmod(descriptor, 0o600)
        file.write(content)


def _stamp(certificate: Path, key: Path) -> tuple[int, ...]:
    return tuple(part for path in (certificate, key) for part in _stat(path))


def _stamp_or_none(certificate: Path, key: Path) -> tuple[int, ...]:
    try:
        return _stamp(certificate, key)
    except OSError:
        return ()


def _stat(path: Path) -> tuple[int, ...]:
    found = path.stat()
    return found.st_mtime_ns, found.st_size, found.st_ino


def _why(error: Exception) -> str:
    if isinstance(error, OSError):
        return error.strerror or str(error)
    if isinstance(error, SSL.Error) and error.args and error.args[0]:
        return str(error.args[0][-1][-1])
    return str(error).splitlines()[0] if str(error) else type(error).__name__
