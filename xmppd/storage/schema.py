"""The tables, as they are after the newest migration.

A change here needs a migration in `migrations/versions`; the tests compare the two.

Times are milliseconds since 1970 in UTC. Everything that belongs to an account goes with it.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    Table,
    Text,
    UniqueConstraint,
)

__all__ = [
    "account",
    "account_data",
    "credential",
    "metadata",
    "offline_message",
    "roster_item",
    "roster_version",
    "server_data",
    "subscription_request",
]

# Numbers that the database hands out. SQLite counts only in a column that is called INTEGER.
_Id = BigInteger().with_variant(Integer, "sqlite")
# Names, compared and sorted by code points on every database.
_Name = Text().with_variant(Text(collation="C"), "postgresql")

metadata = MetaData(
    naming_convention={
        "pk": "%(table_name)s_pkey",
        "fk": "%(table_name)s_%(column_0_name)s_fkey",
        "uq": "%(table_name)s_%(column_0_N_name)s_key",
        "ix": "%(table_name)s_%(column_0_N_name)s_idx",
    }
)


def _owner() -> Column[Any]:
    return Column(
        "account_id",
        _Id,
        ForeignKey("account.id", ondelete="CASCADE"),
        primary_key=True,
        autoincrement=False,
    )


account = Table(
    "account",
    metadata,
    # Never handed out again: what was kept under the id of a deleted account is never another's.
    Column("id", _Id, primary_key=True),
    Column("host", _Name, nullable=False),
    Column("localpart", _Name, nullable=False),
    Column("created", BigInteger, nullable=False),
    Column("enabled", Boolean, nullable=False),
    Column("password_changed", BigInteger, nullable=False),
    UniqueConstraint("host", "localpart"),
    sqlite_autoincrement=True,
)

credential = Table(
    "credential",
    metadata,
    _owner(),
    Column("hash", _Name, primary_key=True),
    Column("salt", LargeBinary, nullable=False),
    Column("iterations", Integer, nullable=False),
    Column("stored_key", LargeBinary, nullable=False),
    Column("server_key", LargeBinary, nullable=False),
)

roster_item = Table(
    "roster_item",
    metadata,
    _owner(),
    Column("jid", _Name, primary_key=True),
    Column("name", Text, nullable=False),
    Column("subscription", Text, nullable=False),
    Column("ask", Text, nullable=False),
    Column("approved", Boolean, nullable=False),
    Column("groups", Text, nullable=False),
)

roster_version = Table(
    "roster_version",
    metadata,
    _owner(),
    Column("version", BigInteger, nullable=False),
)

subscription_request = Table(
    "subscription_request",
    metadata,
    _owner(),
    Column("jid", _Name, primary_key=True),
    Column("stanza", LargeBinary, nullable=False),
    Column("received", BigInteger, nullable=False),
)

offline_message = Table(
    "offline_message",
    metadata,
    Column("id", _Id, primary_key=True),
    Column("account_id", _Id, ForeignKey("account.id", ondelete="CASCADE"), nullable=False),
    Column("received", BigInteger, nullable=False),
    Column("stanza", LargeBinary, nullable=False),
    Index(None, "account_id", "id"),
    sqlite_autoincrement=True,
)

# Stanzas for other servers that these have not acknowledged. The ids sort by time.
outgoing_stanza = Table(
    "outgoing_stanza",
    metadata,
    Column("id", _Id, primary_key=True, autoincrement=False),
    Column("received", BigInteger, nullable=False),
    Column("stanza", LargeBinary, nullable=False),
)

# A session under stream management (XEP-0198), and what its client has not acknowledged.
sm_session = Table(
    "sm_session",
    metadata,
    # Made by the server at random, so that nobody has to wait for it.
    Column("id", _Id, primary_key=True, autoincrement=False),
    Column("account_id", _Id, ForeignKey("account.id", ondelete="CASCADE"), nullable=False, index=True),
    Column("sm_id", _Name, nullable=False),
    Column("resource", _Name, nullable=False),
    Column("handled", BigInteger, nullable=False),
    Column("hibernated", BigInteger),
    # From this position on nothing was ever sent; NULL as long as positions are what the client counts.
    Column("unsent_from", BigInteger),
    Column("state", LargeBinary, nullable=False),
)

sm_stanza = Table(
    "sm_stanza",
    metadata,
    Column(
        "session_id", _Id, ForeignKey("sm_session.id", ondelete="CASCADE"), primary_key=True, autoincrement=False
    ),
    Column("position", BigInteger, primary_key=True, autoincrement=False),
    Column("sent", BigInteger, nullable=False),
    Column("stanza", LargeBinary, nullable=False),
    sqlite_with_rowid=False,
)

# Messages of an account, in the order in which they came (XEP-0313). The id sorts by that, and begins with the time.
archive = Table(
    "archive",
    metadata,
    _owner(),
    Column("id", LargeBinary, primary_key=True),
    Column("contact", _Name, nullable=False),
    Column("resource", _Name, nullable=False),
    Column("stanza", LargeBinary, nullable=False),
    Index(None, "account_id", "contact", "id"),
    Index(None, "account_id", "contact", "resource", "id"),
    sqlite_with_rowid=False,
)

# The newest of them, in the order in which they came from anybody. To write one here takes the end of one table, and
# not a page of each of three trees: `Archive` moves them over many at a time.
archive_recent = Table(
    "archive_recent",
    metadata,
    Column("number", _Id, primary_key=True),
    Column("account_id", _Id, ForeignKey("account.id", ondelete="CASCADE"), nullable=False),
    Column("id", LargeBinary, nullable=False),
    Column("contact", _Name, nullable=False),
    Column("resource", _Name, nullable=False),
    Column("stanza", LargeBinary, nullable=False),
)

# Small things that modules keep (vCard, private XML, block list …): a new module needs no new table.
account_data = Table(
    "account_data",
    metadata,
    _owner(),
    Column("kind", _Name, primary_key=True),
    Column("key", _Name, primary_key=True),
    Column("value", LargeBinary, nullable=False),
)

server_data = Table(
    "server_data",
    metadata,
    Column("kind", _Name, primary_key=True),
    Column("key", _Name, primary_key=True),
    Column("value", LargeBinary, nullable=False),
)
