"""A certificate authority for tests, and certificates of it."""

from __future__ import annotations

import datetime
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID


@dataclass
class Issued:
    """A certificate with its key."""

    certificate: x509.Certificate
    key: Any

    @property
    def pem(self) -> bytes:
        return self.certificate.public_bytes(serialization.Encoding.PEM)

    @property
    def key_pem(self) -> bytes:
        return self.key.private_bytes(  # type: ignore[no-any-return]
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )

    def write(self, folder: Path, domain: str, *chain: Issued) -> tuple[Path, Path]:
        """Into a folder of certificates, as that of a domain; with those of the authorities between."""
        folder.mkdir(exist_ok=True)
        paths = folder / f"{domain}.crt", folder / f"{domain}.key"
        paths[0].write_bytes(self.pem + b"".join(each.pem for each in chain))
        paths[1].write_bytes(self.key_pem)
        return paths


def issue(
    issuer: Issued | None, *names: x509.GeneralName, authority: bool = False, common_name: str = "server",
    start: float | None = None, days: float = 30, extensions: Sequence[x509.ExtensionType] = (), key: Any = None,
) -> Issued:  # fmt: skip
    """A certificate for `names`, of `issuer` or self-signed; it holds from `start`, in seconds since 1970, a day ago by
    itself, for so many `days`."""
    key = key or ec.generate_private_key(ec.SECP256R1())
    begin = datetime.datetime.fromtimestamp(time.time() - 86400 if start is None else start, datetime.timezone.utc)
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer.certificate.subject if issuer else subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(begin)
        .not_valid_after(begin + datetime.timedelta(days=days))
        .add_extension(x509.BasicConstraints(ca=authority, path_length=None), critical=True)
    )
    if names:
        builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
    for extension in extensions:
        builder = builder.add_extension(extension, critical=False)
    return Issued(builder.sign(issuer.key if issuer else key, hashes.SHA256()), key)


def authority(name: str = "Test CA", issuer: Issued | None = None) -> Issued:
    """An authority."""
    return issue(issuer, authority=True, common_name=name)
