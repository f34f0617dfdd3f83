"""What a client stream announces (RFC 6120 section 4.3.2), before a login and after it."""

from __future__ import annotations

import base64
import hashlib

from xmppd.core.host import Host
from xmppd.core.session import Session
from xmppd.net.authentication import Authentication
from xmppd.net.limits import after_login as limits_after_login
from xmppd.wire import ns
from xmppd.wire.parser import BEFORE_LOGIN
from xmppd.wire.xml import tag

_BIND = tag("bind", {"xmlns": ns.BIND})
# COMPAT: clients of before RFC 6120 look for it (RFC 3921 section 3); the others see that they need not.
_SESSION = tag("session", {"xmlns": ns.SESSION}, tag("optional"))
_STARTTLS = tag("starttls", {"xmlns": ns.TLS})
_STARTTLS_REQUIRED = tag("starttls", {"xmlns": ns.TLS}, tag("required"))


def before_login(
    host: Host, authentication: Authentication | None, starttls: bool, requires_tls: bool
) -> tuple[bytes, str]:
    """The features of a stream that nobody has logged in on, and their version (XEP-0509), which is "" where there is
    no login that could name it. `authentication` is None where TLS has to come first; `starttls`: it may begin now."""
    features: list[bytes] = []
    if starttls:
        features.append(_STARTTLS_REQUIRED if requires_tls else _STARTTLS)
    if authentication is None:
        return _features(features), ""
    features.append(authentication.features())
    features.append(_LIMITS)
    features += [feature.xml() for feature in host.features if not feature.authenticated]
    if not authentication.speaks(ns.SASL2):
        return _features(features), ""
    version = base64.b64encode(hashlib.sha256(b"".join(features)).digest()[:18]).decode()
    features.append(tag("config-version", {"xmlns": ns.IAP, "scheme": "opaque", "value": version}))
    return _features(features), version


def after_login(host: Host, session: Session | None) -> bytes:
    """The features of a stream after a login, with a session or without one: what still applies."""
    own = [_BIND, _SESSION] if session is None else []
    own.append(limits_feature(limits_after_login(host.settings).bytes))
    managed = session is not None and session.keeper is not None
    wanted = (feature for feature in host.features if feature.authenticated and not (managed and feature.name == "sm"))
    return _features([*own, *(feature.xml() for feature in wanted)])


def limits_feature(size: int, idle_seconds: int | None = None) -> bytes:
    """What may be sent on a stream (XEP-0478 section 3): the largest element in bytes, and how long it may be idle."""
    idle = [tag("idle-seconds", None, str(idle_seconds))] if idle_seconds is not None else []
    return tag("limits", {"xmlns": ns.STREAM_LIMITS}, tag("max-bytes", None, str(size)), *idle)


_LIMITS = limits_feature(BEFORE_LOGIN.bytes)


def _features(features: list[bytes]) -> bytes:
    return tag("stream:features", None, *features)
