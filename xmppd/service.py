"""Builds the house from a configuration, and opens and closes its doors."""

from __future__ import annotations

import atexit
import gc
import os
import secrets
import signal
import socket
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from twisted.application.service import Service
from twisted.internet.defer import Deferred
from twisted.internet.task import LoopingCall
from twisted.internet.threads import deferToThreadPool
from twisted.logger import Logger

from xmppd import settings as options
from xmppd.config import Config, ConfigError, Option
from xmppd.core import modules
from xmppd.core.host import Host
from xmppd.core.http import HTTPS_PORTS
from xmppd.core.iq import Target
from xmppd.core.server import Server
from xmppd.ctl.admin import AdminSocket, AdminSocketError
from xmppd.http import status
from xmppd.http.client import Client
from xmppd.http.site import HTTP_PORTS, HttpService
from xmppd.net import websocket
from xmppd.net.bosh import Bosh
from xmppd.net.certificates import CertificateError, Certificates, has_files
from xmppd.net.component import COMPONENT_PORTS, ComponentService
from xmppd.net.listeners import Accepted, Listener, PortUnusable, bind
from xmppd.net.proxy_protocol import PROXY_PROTOCOL_PORTS, BehindProxy
from xmppd.net.s2s.connecting import Internet
from xmppd.net.s2s.federation import Federation
from xmppd.net.s2s.figures import Figures
from xmppd.net.s2s.options import CA_FILE, S2S_DIRECT_TLS_PORTS, S2S_PORTS
from xmppd.net.s2s.trust import Trust
from xmppd.net.service import KEEPALIVE_SECONDS, REST_SECONDS, ClientService
from xmppd.storage import StorageError, Store
from xmppd.wire import ns

SHUTDOWN_SECONDS = 60.0  # for what is under way when the server is told to stop; the store has a limit of its own
GOODBYE_SECONDS = 2.0  # for clients to read that it stops

TOKEN_KEY_BYTES = 32

# How seldom Python looks for garbage in cycles: little of what comes and goes is in one, and what is there at the start
# stays. A message takes 7 % less by that (docs/decisions/0014-hot-path.md).
GC_THRESHOLDS = (20_000, 20, 100)


class CannotStart(Exception):
    """The server cannot start; one line for the administrator."""


def open_store(config: Config, reactor: Any) -> Store:
    """The store of a configuration, made first where there is none; raises `ConfigError` or `StorageError`."""
    settings = config.server
    data_path = settings[options.DATA_PATH]
    try:
        data_path.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise settings.error(options.DATA_PATH, f"{data_path}: {error.strerror}") from None
    return Store.open(
        reactor,
        options.storage_url(settings),
        timeout=settings[options.STORAGE_TIMEOUT],
        synchronous=settings[options.STORAGE_SYNCHRONOUS].upper(),
        max_queue=settings[options.STORAGE_QUEUE],
    )


def build_server(config: Config, store: Store, reactor: Any, now: Callable[[], float] = time.time) -> Server:
    """The server with its hosts and their modules, on any clock; nothing listens yet."""

    def in_thread(function: Callable[..., Any], *args: Any, **kwargs: Any) -> Deferred[Any]:
        return deferToThreadPool(reactor, reactor.getThreadPool(), function, *args, **kwargs)

    server = Server(config.server, store, reactor, now, in_thread)
    add_hosts(server, config)
    return server


def add_hosts(server: Server, config: Config) -> None:
    """Make the hosts of a configuration, each with its modules; raises `ConfigError` for a module that is none."""
    for domain, settings in config.hosts.items():
        host = server.hosts[domain] = Host(server, domain, settings)
        for target in (Target.SERVER, Target.OWN):
            # COMPAT: clients of before RFC 6120 ask for a session after binding (RFC 3921 section 3).
            host.iq.on(target, "set", ns.SESSION, "session", lambda request: None)
        known = modules.available()
        for option in (modules.MODULES_ENABLED, modules.MODULES_DISABLED):
            for name in settings[option]:
                if name not in known:
                    raise settings.error(option, f"there is no module {name!r}; accepted: {', '.join(known)}")
        for name in modules.ESSENTIAL:
            if name in settings[modules.MODULES_DISABLED]:
                raise settings.error(modules.MODULES_DISABLED, f"{name} is needed by everything and cannot be disabled")
        modules.set_up(host)


def token_key(folder: Path) -> bytes:
    """The key that tokens are made with, from its file, which is made where it is not there. It is not in the store, so
    that who has a copy of that has no tokens. Raises `OSError`."""
    path = folder / "tokens.key"
    try:
        key = path.read_bytes()
    except FileNotFoundError:
        key = b""
    if len(key) < TOKEN_KEY_BYTES:
        key = secrets.token_bytes(TOKEN_KEY_BYTES)
        descriptor, temporary = tempfile.mkstemp(dir=folder)
        with os.fdopen(descriptor, "wb") as file:
            file.write(key)
            file.flush()
            os.fsync(file.fileno())
        Path(temporary).replace(path)
    return key


class Xmppd(Service):
    """The running server. Everything that can fail because of its configuration fails in `__init__`, before
    anything is started: `CannotStart`."""

    def __init__(self, path: Path, reactor: Any) -> None:
        self._path = path
        self._reactor = reactor
        self._log = Logger(namespace="xmppd")
        self._listeners: list[Listener] = []
        self._http_listeners: list[Listener] = []
        self._proxied: list[BehindProxy] = []
        self._looping: list[LoopingCall] = []
        try:
            self.config = options.read(path)
            self._set_up()
        except (ConfigError, CertificateError, PortUnusable, StorageError, AdminSocketError) as error:
            for listener in (*self._http_listeners, *self._listeners):
                listener.stop()
            raise CannotStart(str(error)) from None

    def _set_up(self) -> None:
        settings = self.config.server
        sockets = self._bind_all()
        self.server = build_server(self.config, open_store(self.config, self._reactor), self._reactor)
        self.components = ComponentService(self.server, self.config.components, self._reactor)
        try:
            self.server.token_key = token_key(settings[options.DATA_PATH])
        except OSError as error:
            raise settings.error(options.DATA_PATH, f"tokens.key: {error.strerror or error}") from None
        certificates = Certificates(settings[options.CERTIFICATES], self.server.hosts, time.time, b"xmpp-client")
        self.clients = ClientService(self.server, certificates, self._reactor)
        self._https = Certificates(settings[options.CERTIFICATES], self.server.hosts, time.time, b"http/1.1")
        websocket.set_up(self.clients)
        Bosh(self.clients)
        self.http = HttpService(self.server, self._https, self._reactor)
        self.federation = self._federation()
        status.set_up(self.server, self.clients, certificates, self.http.connections)
        self.server.fetch = self._fetch = Client(self._reactor)
        accepted: dict[Option[Any], Accepted] = {
            options.C2S_PORTS: self.clients.accepted,
            options.C2S_DIRECT_TLS_PORTS: self.clients.accepted_direct_tls,
            COMPONENT_PORTS: self.components.accepted,
            S2S_PORTS: self.federation.accepted,
            S2S_DIRECT_TLS_PORTS: self.federation.accepted_direct_tls,
            HTTP_PORTS: self.http.accepted,
            HTTPS_PORTS: self.http.accepted_tls,
        }
        for listening, option in sockets:
            listeners = self._http_listeners if option in (HTTP_PORTS, HTTPS_PORTS) else self._listeners
            take = accepted[option]
            if option in options.PROXIED and listening.getsockname()[1] in settings[PROXY_PROTOCOL_PORTS]:
                self._proxied.append(BehindProxy(self._reactor, settings, take))
                take = self._proxied[-1].accepted
            listeners.append(Listener(self._reactor, listening, take))
        self._admin = AdminSocket(self.server, self.clients, options.admin_socket(settings), self._reactor)

    def _federation(self) -> Federation:
        """The other servers. A component may have a certificate of its own, or is covered by that of its host."""
        settings = self.config.server
        folder = settings[options.CERTIFICATES]
        own = [domain for domain in self.server.components if has_files(folder, domain)]
        self._s2s = Certificates(folder, [*self.server.hosts, *own], time.time, b"xmpp-server", mutual=True)
        try:
            trust = Trust(settings[CA_FILE], time.time)
        except OSError as error:
            raise settings.error(CA_FILE, str(error)) from None
        self._internet = Internet(self._reactor, settings)
        federation = Federation(self.server, self._s2s, trust, self._internet, self._reactor)
        self.server.metrics.registry.register(Figures(federation))
        return federation

    def _bind_all(self) -> list[tuple[socket.socket, Option[Any]]]:
        """Every port of the configuration, each with the option that names it."""
        settings = self.config.server
        bound: list[tuple[socket.socket, Option[Any]]] = []
        for option, interfaces in options.listening(settings, bool(self.config.components)):
            for port in settings[option]:
                for address in settings[interfaces]:
                    try:
                        bound.append((bind(address, port), option))
                    except PortUnusable as error:
                        if error.no_such_address and not settings.is_set(interfaces):
                            continue  # the default names ::1, which a machine without IPv6 does not have
                        raise settings.error(option, str(error)) from None
        return bound

    # ---- running

    def startService(self) -> None:
        """Open the doors, once the reactor runs."""
        super().startService()  # type: ignore[no-untyped-call]
        self._reactor.callWhenRunning(self._start)

    def _start(self) -> None:
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._from_signal(self._stop))
        signal.signal(signal.SIGHUP, self._from_signal(self.reload))
        for warning in self.config.warnings:
            self._log.warn("{warning}", warning=warning)
        self.server.tasks.start(self._open(), "starting")

    def _from_signal(self, handler: Callable[[], None]) -> Callable[[int, Any], None]:
        return lambda number, frame: self._reactor.callFromThread(handler)

    async def _open(self) -> None:
        for listener in self._http_listeners:  # whoever watches the server sees that it starts
            listener.start()
        try:
            self.server.secret = await self.server.store.data.server_get_or_create(
                "secret", "server", lambda: self.server.token().encode()
            )
            await self.server.start()
            await self.federation.start()
        except StorageError as error:
            self.fail(f"the store cannot be used: {error}")
            return
        for listener in self._listeners:
            listener.start()
        self._admin.start()
        for work, seconds in ((self._keep_alive_all, KEEPALIVE_SECONDS), (self.clients.rest, REST_SECONDS)):
            looping = LoopingCall(work)
            looping.clock = self._reactor
            looping.start(seconds, now=False)
            self._looping.append(looping)
        gc.freeze()
        gc.set_threshold(*GC_THRESHOLDS)
        self.server.ready = True
        self._log.info("xmppd ready: {hosts}", hosts=", ".join(self.server.hosts))

    def _keep_alive_all(self) -> None:
        self.clients.keep_alive()
        self.components.keep_alive()

    def fail(self, why: str) -> None:
        """Give up after the start: say why, and end with status 1."""
        sys.stderr.write(f"xmppd: {why}\n")
        atexit.register(os._exit, 1)  # twistd itself ends with 0 whenever the reactor was stopped
        self._stop()

    def _stop(self) -> None:
        if self._reactor.running:
            self._reactor.stop()

    def reload(self) -> None:
        """SIGHUP: read the file and the certificates again; streams go on."""
        try:
            changes = self.config.update(options.read(self._path))
        except ConfigError as error:
            self._log.error("the configuration was not read again: {error}", error=str(error))
            changes = []
        for change in changes:
            self._log.info("{change}", change=str(change))
        for warning in self.config.warnings:
            self._log.warn("{warning}", warning=warning)
        self.clients.certificates.reload()
        self._https.reload()
        self._s2s.reload()
        try:
            self.federation.reload()
        except OSError as error:
            self._log.error("{error}; the authorities before stay", error=str(error))
        self._log.info("configuration and certificates were read again")

    def stopService(self) -> Deferred[None]:
        """Close the doors: nobody new, an orderly end for everybody, and everything on disk."""
        super().stopService()  # type: ignore[no-untyped-call]
        return Deferred.fromCoroutine(self._close())

    async def _close(self) -> None:
        for looping in self._looping:
            if looping.running:
                looping.stop()
        for listener in self._listeners:
            listener.stop()
        for port in self._proxied:
            port.stop()
        self._admin.stop()
        self.server.ready = False
        self.server.shut_down()
        self.federation.shut_down()
        self.components.shut_down()
        self.clients.shut_down()
        timer = self._reactor.callLater(SHUTDOWN_SECONDS, self.server.tasks.cancel)
        while self.server.tasks.busy:
            await self.server.tasks.all_ended()
        if timer.active():
            timer.cancel()
        await self.federation.close(GOODBYE_SECONDS)
        await self.server.stop()
        await self.clients.all_closed(GOODBYE_SECONDS)
        self._internet.close()
        for listener in self._http_listeners:
            listener.stop()
        self.http.shut_down()
        await self._fetch.close()
        await self.server.store.close()
        self._log.info("xmppd stopped")
