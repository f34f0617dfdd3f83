"""The module loader: which capabilities a host has.

A module is one file in `xmppd.modules` with its name. It has a function ``setup(host)``, which hooks what it
needs, and, where it has any, the declarations of its options in ``OPTIONS``.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Iterable
from types import ModuleType
from typing import Any

from xmppd import modules as package
from xmppd.config import ListOf, Option, Text
from xmppd.core.host import Host

MODULES_ENABLED = Option(
    "modules_enabled", ListOf(Text()), "", "Modules that are loaded in addition to the default ones.", live=False
)
MODULES_DISABLED = Option(
    "modules_disabled", ListOf(Text()), "", "Modules, of those loaded by default, that are not loaded.", live=False
)
OPTIONS = (MODULES_ENABLED, MODULES_DISABLED)

ESSENTIAL = ("roster", "presence")  # without these there is no messaging: they cannot be disabled

DEFAULT = (
    "roster", "presence", "blocklist", "smacks", "mam", "carbons", "csi", "offline", "disco", "caps", "ping", "version",
    "sasl2_fast", "client_management", "time", "uptime", "lastactivity", "private", "vcard", "register",
    "server_contact_info", "cloud_notify", "cloud_notify_filters", "cloud_notify_encrypted",
    "cloud_notify_priority_tag", "notification_settings", "http_altconnect",
)  # fmt: skip


def available() -> list[str]:
    """The names of all modules that there are."""
    return sorted(info.name for info in pkgutil.iter_modules(package.__path__))


def find(name: str) -> ModuleType:
    """The module of this name; `ModuleNotFoundError` when there is none."""
    return importlib.import_module(f"{package.__name__}.{name}")


def options(names: Iterable[str]) -> dict[str, tuple[Option[Any], ...]]:
    """The options that each of these modules declares."""
    return {name: tuple(getattr(find(name), "OPTIONS", ())) for name in names}


def chosen(host: Host) -> list[str]:
    """The names of the modules that this host is to have, in the order in which they are set up."""
    disabled = host.settings[MODULES_DISABLED]
    enabled = [name for name in host.settings[MODULES_ENABLED] if name not in DEFAULT]
    return [name for name in (*DEFAULT, *enabled) if name not in disabled]


def set_up(host: Host) -> None:
    """Load and set up the modules of a host."""
    for name in chosen(host):
        module = find(name)
        module.setup(host)
        host.modules[name] = module
