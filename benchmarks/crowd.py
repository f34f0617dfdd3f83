"""A store with many accounts and sessions that wait for their clients, for measurements that need one.

One account and one session are made by the server itself; the others are copies of their rows under other names, so
that each is just as the server writes it.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Engine, Row, Table, create_engine, delete, insert, select, update

from tests.conversations.process import RunningServer
from tests.conversations.raw import RawClient
from xmppd.storage import schema

HOST = "localhost"
RESOURCE = "phone"
CONTACTS = 10  # in the roster of everybody who has a session
BATCH = 10_000  # rows that are written at once

SM = "<enable xmlns='urn:xmpp:sm:3' resume='true'/>"
CARBONS = "<iq type='set' id='carbons'><enable xmlns='urn:xmpp:carbons:2'/></iq>"
ROSTER = "<iq type='get' id='roster'><query xmlns='jabber:iq:roster'/></iq>"


def name(number: int) -> str:
    """The account of this number; the first ones have the sessions."""
    return f"user{number}"


def body(number: int) -> str:
    """A message that was not acknowledged, counted from 0."""
    return f"unacknowledged-{number}"


def make(server: RunningServer, accounts: int, hibernated: int, messages: int) -> int:
    """Fill the store of a server that does not run: `accounts`, of which the first `hibernated` have a session with
    `messages` that are not acknowledged; how many stanzas their clients have acknowledged."""
    server.start()
    server.user(name(0), "sender")
    handled = _leave_behind(server, messages)
    server.stop()
    engine = create_engine(f"sqlite:///{server.folder / 'var' / 'xmppd.sqlite'}")
    with engine.begin() as connection:
        ids = _copy_accounts(connection, accounts)
        if hibernated:
            _copy_sessions(connection, ids[:hibernated])
        else:
            connection.execute(delete(schema.sm_session))
            connection.execute(delete(schema.sm_stanza))
    engine.dispose()
    return handled


def crash(database: Path) -> None:
    """Make it look as if the server had been killed while all the clients were connected."""
    engine = create_engine(f"sqlite:///{database}")
    with engine.begin() as connection:
        connection.execute(update(schema.sm_session).values(hibernated=None, unsent_from=None))
    engine.dispose()


def sm_id(database: Path, number: int) -> str:
    """The SM-ID of the session of an account."""
    engine: Engine = create_engine(f"sqlite:///{database}")
    owner = select(schema.account.c.id).where(schema.account.c.localpart == name(number)).scalar_subquery()
    with engine.connect() as connection:
        found = connection.execute(
            select(schema.sm_session.c.sm_id).where(schema.sm_session.c.account_id == owner)
        ).scalar_one()
    engine.dispose()
    return str(found)


# ---- the one that the server makes


def _leave_behind(server: RunningServer, messages: int) -> int:
    """A client logs in, gets messages, and is gone; how many stanzas it has acknowledged."""
    client, sender = RawClient(server, direct_tls=True), RawClient(server, direct_tls=True)
    client.login(name(0), RESOURCE, presence=False)
    client.send(SM)
    client.read_until("<enabled ")
    client.send(ROSTER + CARBONS + "<presence><status>in a crowd</status></presence>")
    client.read_until("in a crowd</status></presence>")
    handled = 3  # two answers, and its own presence
    client.send(f"<a xmlns='urn:xmpp:sm:3' h='{handled}'/>")
    sender.login("sender", "desk", presence=False)
    for number in range(messages):
        sender.send(f"<message to='{name(0)}@{HOST}' type='chat' id='m{number}'><body>{body(number)}</body></message>")
        client.read_until(f"{body(number)}</body>")
    client.close()
    server.wait_for(" hibernates")
    sender.send("</stream:stream>")
    sender.read_all()
    sender.close()
    return handled


# ---- and its copies


def _copy_accounts(connection: Connection, accounts: int) -> list[int]:
    """Give everybody an account with the same password; their ids."""
    model = connection.execute(select(schema.account).where(schema.account.c.localpart == name(0))).one()
    keys = connection.execute(select(schema.credential).where(schema.credential.c.account_id == model.id)).all()
    first = 1 + max(connection.execute(select(schema.account.c.id)).scalars())
    ids = [model.id, *range(first, first + accounts - 1)]
    rows = (
        {**model._asdict(), "id": id, "localpart": name(number)} for number, id in enumerate(ids) if id != model.id
    )
    _insert(connection, schema.account, rows)
    _insert(
        connection,
        schema.credential,
        ({**key._asdict(), "account_id": id} for id in ids[1:] for key in keys),
    )
    return ids


def _copy_sessions(connection: Connection, ids: list[int]) -> None:
    """Give these accounts a session each, and a roster."""
    session = connection.execute(select(schema.sm_session)).one()
    stanzas = connection.execute(select(schema.sm_stanza)).all()
    resource = session.sm_id.partition(".")[2]
    sessions = (
        {
            **session._asdict(), "id": session.id + number, "account_id": id,
            "sm_id": f"{secrets.token_urlsafe(18)}.{resource}", "state": _renamed(session.state, number),
        }
        for number, id in enumerate(ids) if number
    )  # fmt: skip
    _insert(connection, schema.sm_session, sessions)
    _insert(connection, schema.sm_stanza, _stanzas(session, stanzas, len(ids)))
    contacts = (
        {
            "account_id": id, "jid": f"{name(other)}@{HOST}", "name": "", "subscription": "both", "ask": "",
            "approved": False, "groups": "[]",
        }
        for number, id in enumerate(ids)
        for other in {(number + distance) % len(ids) for distance in range(1, CONTACTS + 1)}
    )  # fmt: skip
    _insert(connection, schema.roster_item, contacts)


def _stanzas(session: Row[Any], stanzas: Iterable[Row[Any]], count: int) -> Iterator[dict[str, Any]]:
    for number in range(1, count):
        for row in stanzas:
            yield {**row._asdict(), "session_id": session.id + number, "stanza": _renamed(row.stanza, number)}


def _renamed(data: bytes, number: int) -> bytes:
    return data.replace(f"{name(0)}@".encode(), f"{name(number)}@".encode())


def _insert(connection: Connection, table: Table, rows: Iterator[dict[str, Any]]) -> None:
    while batch := list(islice(rows, BATCH)):
        connection.execute(insert(table), batch)
