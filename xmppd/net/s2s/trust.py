"""Whether a certificate shows that who has it is the server of a domain (RFC 6120 section 13.7.2, RFC 9525)."""

from __future__ import annotations

import datetime
import ssl
from collections.abc import Callable, Sequence
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.x509.oid import ExtendedKeyUsageOID as Usage
from OpenSSL import SSL, crypto
from service_identity import CertificateError, VerificationError
from service_identity.cryptography import extract_patterns
from service_identity.hazmat import DNS_ID, SRV_ID, IPAddress_ID, ServiceID, verify_service_identity

from xmppd.wire.jid import ascii_domain

MIN_RSA_BITS = 2048  # RFC 9325 section 4.5
# COMPAT: authorities have stopped to issue certificates for clients; the one of a server has to do for both.
_USAGES = frozenset({Usage.SERVER_AUTH, Usage.CLIENT_AUTH, Usage.ANY_EXTENDED_KEY_USAGE})


class Trust:
    """The authorities that are believed: those in `ca_file`, or those of the system. `now` is the time of day, in
    seconds since 1970. Raises `OSError` where the file has none."""

    def __init__(self, ca_file: Path | None, now: Callable[[], float]) -> None:
        self._now = now
        self._store = _store(ca_file)

    def reload(self, ca_file: Path | None) -> None:
        """Read the authorities again; raises `OSError`, and those before stay."""
        self._store = _store(ca_file)

    def problem(self, chain: Sequence[x509.Certificate], domain: str) -> str | None:
        """What is wrong with a peer's certificates, its own first, if it is to be the server of a prepared domain; None
        where nothing is."""
        if not chain:
            return "it has shown no certificate"
        self._store.set_time(datetime.datetime.fromtimestamp(self._now(), datetime.timezone.utc).replace(tzinfo=None))
        try:
            first, *others = [crypto.X509.from_cryptography(each) for each in chain]
            crypto.X509StoreContext(self._store, first, others).verify_certificate()
        except crypto.X509StoreContextError as error:
            return f"its certificate is not valid: {error}"
        except (crypto.Error, SSL.Error, ValueError, TypeError):
            return "its certificate cannot be read"
        weak = next(filter(None, map(_weakness, chain)), None)
        return weak or _not_of(chain[0], domain)


def _store(ca_file: Path | None) -> crypto.X509Store:
    store = crypto.X509Store()
    if ca_file is not None:
        try:
            store.load_locations(str(ca_file))
        except crypto.Error:
            raise OSError(f"{ca_file}: no certificates that can be read") from None
        return store
    paths = ssl.get_default_verify_paths()
    if paths.cafile or paths.capath:  # a machine without authorities believes nobody
        store.load_locations(paths.cafile, paths.capath)
    return store


def _weakness(certificate: x509.Certificate) -> str | None:
    if isinstance(certificate.signature_hash_algorithm, hashes.MD5 | hashes.SHA1) and not _is_root(certificate):
        return "its certificate is signed with an old hash"
    key = certificate.public_key()
    if isinstance(key, rsa.RSAPublicKey) and key.key_size < MIN_RSA_BITS:
        return f"its certificate has a key of less than {MIN_RSA_BITS} bits"
    return None


def _is_root(certificate: x509.Certificate) -> bool:
    return certificate.subject == certificate.issuer  # whose signature nobody looks at


def _not_of(certificate: x509.Certificate, domain: str) -> str | None:
    """SRV-ID or DNS-ID, or the address of a domain that is one; common names are nobody's (RFC 9525 section 2)."""
    try:
        patterns = extract_patterns(certificate)
        try:
            usage = certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
            if _USAGES.isdisjoint(usage):
                return "its certificate is not for servers"
        except x509.ExtensionNotFound:
            pass
    except (CertificateError, ValueError):
        return "the names of its certificate cannot be read"
    for wanted in _wanted(domain):
        try:
            verify_service_identity(patterns, obligatory_ids=[wanted], optional_ids=[])
        except VerificationError:
            continue
        return None
    return f"its certificate is not for {domain}"


def _wanted(domain: str) -> list[ServiceID]:
    try:
        return [IPAddress_ID(domain.removeprefix("[").removesuffix("]"))]
    except ValueError:
        name = ascii_domain(domain)
    return [DNS_ID(name), SRV_ID(f"_xmpp-server.{name}"), SRV_ID(f"_xmpps-server.{name}")]
