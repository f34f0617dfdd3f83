"""What else of a session outlives the process, as JSON: its presence, and what modules say that they keep.

A module that has a record of a session which a restart must not lose adds how to save and restore it to
``host.session_state``.
"""

from __future__ import annotations

import json
from typing import Any

from xmppd.core.session import Session
from xmppd.wire.stored import read_stored


def save_state(session: Session) -> bytes:
    """The state of a session."""
    state: dict[str, Any] = {"lang": session.lang, "interested": session.interested}
    if session.presence is not None:
        state["presence"] = session.presence.to_bytes().decode()
        state["priority"] = session.priority
        state["reachable_since"] = session.reachable_since
    for name, (save, _) in session.host.session_state.items():
        value = save(session)
        if value is not None:
            state[name] = value
    return json.dumps(state, separators=(",", ":")).encode()


def restore_state(session: Session, data: bytes) -> None:
    """Make a new session what it was; `ValueError` for what `save_state` has not written."""
    state = json.loads(data)
    session.lang = state["lang"]
    session.interested = state["interested"]
    if "presence" in state:
        session.presence = read_stored(state["presence"].encode())
        session.priority = state["priority"]
        session.reachable_since = state["reachable_since"]
    for name, (_, restore) in session.host.session_state.items():
        if name in state:
            restore(session, state[name])
