"""The configuration: options are declared where they are used, the file is read once, every value is typed.

A module declares ``TIMEOUT = Option("c2s_timeout", Duration(), "30s", "From accept to authenticated.")``;
`load` reads the file with the declarations of all modules; ``settings[TIMEOUT]`` is a float from then on.
"""

from xmppd.config.errors import ConfigError
from xmppd.config.kinds import Boolean, Choice, Duration, Integer, Kind, Maybe, PathOf, Size, Text
from xmppd.config.lists import Addresses, BareJids, ListOf, Mapping, Networks, Ports
from xmppd.config.loader import load, load_bytes
from xmppd.config.option import Option, Scope
from xmppd.config.reference import reference
from xmppd.config.settings import Change, Config, Settings

__all__ = [
    "Addresses",
    "BareJids",
    "Boolean",
    "Change",
    "Choice",
    "Config",
    "ConfigError",
    "Duration",
    "Integer",
    "Kind",
    "ListOf",
    "Mapping",
    "Maybe",
    "Networks",
    "Option",
    "PathOf",
    "Ports",
    "Scope",
    "Settings",
    "Size",
    "Text",
    "load",
    "load_bytes",
    "reference",
]
