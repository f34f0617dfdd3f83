"""``xmppctl check``: is all that the server needs there? Starts nothing, and writes nothing."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

from cryptography import x509
from service_identity.cryptography import verify_certificate_hostname, verify_certificate_ip_address
from service_identity.exceptions import CertificateError as NamesUnreadable
from service_identity.exceptions import VerificationError
from twisted.internet.task import Clock

from xmppd import service
from xmppd import settings as options
from xmppd.config import Config, ConfigError, Option, Settings
from xmppd.ctl.client import Client, NotRunning
from xmppd.ctl.commands import CommandError
from xmppd.net.certificates import CertificateError, Certificates
from xmppd.net.component import ComponentService
from xmppd.net.listeners import PortUnusable, bind
from xmppd.net.s2s.options import CA_FILE
from xmppd.net.s2s.trust import Trust
from xmppd.storage import Store
from xmppd.storage import inspect as store_inspection

EXPIRES_SOON = timedelta(days=14)  # ACME clients renew a month before; two weeks later something is wrong


@dataclass(frozen=True)
class Finding:
    """What was found, as a line of text. `level` is ``ok``, ``note`` for what one should know, or ``error``
    for what makes the server unusable."""

    level: str
    text: str


def check(path: Path) -> list[Finding]:
    """Look at everything that the configuration at `path` names."""
    try:
        config = options.read(path)
        _check_modules(config)
    except ConfigError as error:
        return [Finding("error", str(error))]
    return [
        Finding("ok", f"{path}: the configuration is valid; hosts: {', '.join(config.hosts)}"),
        *(Finding("note", warning) for warning in config.warnings),
        *_certificates(config),
        *_authorities(config),
        *_ports_and_store(config),
    ]


def _check_modules(config: Config) -> None:
    """Set modules and components up, on a store in memory; raises `ConfigError` for what they do not accept."""
    clock: Any = Clock()
    server = service.build_server(config, Store.open(clock, "sqlite://"), clock)
    ComponentService(server, config.components, clock)


# ---- certificates


def _certificates(config: Config) -> Iterator[Finding]:
    folder = config.server[options.CERTIFICATES]
    for domain in config.hosts:
        files = Certificates(folder, (), time.time, b"").files(domain)
        if files is None:
            yield _no_certificate(folder, domain)
            continue
        try:
            # It loads what is there, as at the start; it would make only what is not.
            Certificates(folder, [domain], time.time, b"")
            certificate = x509.load_pem_x509_certificate(files[0].read_bytes())
        except (CertificateError, OSError, ValueError) as error:
            yield Finding("error", f"{domain}: {error}")
            continue
        yield from _certificate(domain, files[0], certificate)


def _authorities(config: Config) -> Iterator[Finding]:
    try:
        Trust(config.server[CA_FILE], time.time)
    except OSError as error:
        yield Finding("error", str(config.server.error(CA_FILE, str(error))))


def _no_certificate(folder: Path, domain: str) -> Finding:
    if not store_inspection.can_make(folder / f"{domain}.key"):
        return Finding("error", f"{domain}: there is no certificate, and {folder} cannot be written")
    return Finding(
        "note", f"{domain}: there is no certificate in {folder}; a self-signed one is made at the start"
    )


def _certificate(domain: str, path: Path, certificate: x509.Certificate) -> Iterator[Finding]:
    now = datetime.now(timezone.utc)
    end = certificate.not_valid_after_utc
    says = f"{domain}: the certificate {path}"
    if now > end:
        yield Finding("error", f"{says} expired on {end:%Y-%m-%d}")
    elif now < certificate.not_valid_before_utc:
        yield Finding("error", f"{says} is valid only from {certificate.not_valid_before_utc:%Y-%m-%d} on")
    elif end - now < EXPIRES_SOON:
        yield Finding("note", f"{says} expires soon, on {end:%Y-%m-%d}")
    else:
        yield Finding("ok", f"{says} is valid until {end:%Y-%m-%d}, and its key fits")
    if not _names(certificate, domain):
        yield Finding("error", f"{says} is not for this host: clients will refuse it")
    if certificate.issuer == certificate.subject:
        yield Finding("note", f"{says} is self-signed: clients will not trust it")


def _names(certificate: x509.Certificate, domain: str) -> bool:
    """Whether a certificate names a domain (RFC 9525 section 6)."""
    try:
        verify_certificate_hostname(certificate, domain)
    except (VerificationError, NamesUnreadable):
        return False
    except ValueError:  # an IP address
        try:
            verify_certificate_ip_address(certificate, domain.strip("[]"))
        except (VerificationError, NamesUnreadable, ValueError):
            return False
    return True


# ---- ports and the store, which a running server holds


def _ports_and_store(config: Config) -> Iterator[Finding]:
    settings = config.server
    held: list[Any] = []
    running = False
    try:
        with Client(options.admin_socket(settings)) as client:
            held = client.call("status", {})["listening"]
            running = True
            yield Finding("ok", f"the server is running; it answers on {options.admin_socket(settings)}")
    except NotRunning:
        yield Finding("note", "the server is not running")
        if not store_inspection.can_make(options.admin_socket(settings)):
            yield Finding("error", f"the admin socket {options.admin_socket(settings)} cannot be made there")
    except CommandError as error:
        yield Finding("error", str(error))
    for option, interfaces in options.listening(settings, bool(config.components)):
        for port in settings[option]:
            for address in settings[interfaces]:
                yield from _port(settings, option, interfaces, address, port, held)
    level, text = store_inspection.check(options.storage_url(settings), running)
    yield Finding(level, text)


def _port(
    settings: Settings, option: Option[Any], interfaces: Option[Any], address: str, port: int, held: list[Any]
) -> Iterator[Finding]:
    where = f"{address} port {port}"
    if port != 0 and [address, port] in held:
        yield Finding("ok", f"{where} is held by the running server")
        return
    try:
        # Given back at once: whether it can be had is known only by trying.
        bind(address, port).close()
    except PortUnusable as error:
        if error.no_such_address and not settings.is_set(interfaces):
            yield Finding("note", f"{address} is left out: this machine has no such address")
        else:
            yield Finding("error", str(settings.error(option, str(error))))
    else:
        yield Finding("ok", f"{where} is free")
