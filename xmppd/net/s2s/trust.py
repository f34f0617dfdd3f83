"""Whether a certificate shows that who has it is the server of a domain (RFC 6120 section 13.7.2, RFC 9525)."""

from __future__ import annotations

import contextlib
import datetime
import ssl
from collections.abc import Callable, Iterator, Sequence
from ipaddress import IPv4Address, IPv6Address
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.x509.oid import ExtendedKeyUsageOID as Usage
from OpenSSL import crypto
from service_identity import CertificateError, VerificationError
from service_identity.hazmat import (
    DNS_ID,
    SRV_ID,
    CertificatePattern,
    DNSPattern,
    IPAddress_ID,
    IPAddressPattern,
    ServiceID,
    SRVPattern,
    verify_service_identity,
)

from xmppd.wire.jid import ascii_domain

STORE_SECONDS = 60.0  # by so much an expiry may be noticed late
ID_ON_DNS_SRV = x509.ObjectIdentifier("1.3.6.1.5.5.7.8.7")  # RFC 4985 section 2
MIN_RSA_BITS = 2048  # RFC 9325 section 4.5
# COMPAT: authorities have stopped to issue certificates for clients; the one of a server has to do for both.
_USAGES = frozenset({Usage.SERVER_AUTH, Usage.CLIENT_AUTH, Usage.ANY_EXTENDED_KEY_USAGE})


class Trust:
    """The authorities that are believed: those in `ca_file`, or those of the system. `now` is the time of day, in
    seconds since 1970. Raises `OSError` where the file has none."""

    def __init__(self, ca_file: Path | None, now: Callable[[], float]) -> None:
        self._now = now
        self.reload(ca_file)

    def reload(self, ca_file: Path | None) -> None:
        """Read the authorities again; raises `OSError`, and those before stay."""
        self._store, self._time = _store(ca_file, self._now()), self._now()
        self._ca_file = ca_file

    def _store_of_now(self) -> crypto.X509Store:
        """A store cannot be given another time; one is as good as new for a while."""
        if abs(self._now() - self._time) > STORE_SECONDS:
            try:
                self.reload(self._ca_file)
            except OSError:  # the file is not there at the moment
                self._time = self._now()
        return self._store

    def problem(self, chain: Sequence[x509.Certificate], domain: str) -> str | None:
        """What is wrong with a peer's certificates, its own first, if it is to be the server of a prepared domain; None
        where nothing is."""
        if not chain:
            return "it has shown no certificate"
        try:
            first, *others = [crypto.X509.from_cryptography(each) for each in chain]
            path = crypto.X509StoreContext(self._store_of_now(), first, others).get_verified_chain()
            weak = next(filter(None, (_weakness(each.to_cryptography()) for each in path)), None)
            return weak or _not_of(chain[0], domain)
        except crypto.X509StoreContextError as error:
            return f"its certificate is not valid: {error}"
        except Exception:  # whatever the library says of what a stranger has made
            return "its certificate cannot be read"


def _store(ca_file: Path | None, now: float) -> crypto.X509Store:
    store = crypto.X509Store()
    store.set_time(datetime.datetime.fromtimestamp(now, datetime.timezone.utc).replace(tzinfo=None))
    if ca_file is not None:
        try:
            store.load_locations(str(ca_file))
        except crypto.Error:
            raise OSError(f"{ca_file}: no certificates that can be read") from None
        return store
    paths = ssl.get_default_verify_paths()
    for place in ({"cafile": paths.cafile}, {"cafile": None, "capath": paths.capath}):
        with contextlib.suppress(crypto.Error, TypeError):  # a machine without authorities believes nobody
            store.load_locations(**place)
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
        usage = certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
        if _USAGES.isdisjoint(usage):
            return "its certificate is not for servers"
    except x509.ExtensionNotFound:
        pass
    patterns = list(_patterns(certificate))
    for wanted in _wanted(domain):
        try:
            verify_service_identity(patterns, obligatory_ids=[wanted], optional_ids=[])
        except VerificationError:
            continue
        return None
    return f"its certificate is not for {domain}"


def _patterns(certificate: x509.Certificate) -> Iterator[CertificatePattern]:
    """The names of a certificate that may be those of a server; one that cannot be read does not spoil the others."""
    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return
    for name in names:
        with contextlib.suppress(CertificateError, ValueError, IndexError):
            if isinstance(name, x509.DNSName):
                yield DNSPattern.from_bytes(name.value.encode("ascii"))
            elif isinstance(name, x509.IPAddress) and isinstance(name.value, IPv4Address | IPv6Address):
                yield IPAddressPattern(name.value)
            elif isinstance(name, x509.OtherName) and name.type_id == ID_ON_DNS_SRV:
                yield SRVPattern.from_bytes(_ia5_string(name.value))


def _ia5_string(der: bytes) -> bytes:
    """The content of an IA5String of less than 128 characters, which no name of a server has; `ValueError`."""
    if der[:1] != b"\x16" or len(der) != 2 + der[1] or der[1] > 127:
        raise ValueError("not an IA5String")
    return der[2:]


def _wanted(domain: str) -> list[ServiceID]:
    try:
        return [IPAddress_ID(domain.removeprefix("[").removesuffix("]"))]
    except ValueError:
        name = ascii_domain(domain)
    return [DNS_ID(name), SRV_ID(f"_xmpp-server.{name}"), SRV_ID(f"_xmpps-server.{name}")]
