"""Accounts, rosters, offline messages and small data.

Revision ID: 0001
Revises:
"""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

_ID = sa.BigInteger().with_variant(sa.Integer, "sqlite")
_NAME = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")


def _table(name: str, *columns: sa.Column[Any], key: tuple[str, ...], owned: bool = True) -> None:
    """A table that may belong to an account, and goes with it."""
    parts: list[Any] = list(columns)
    if owned:
        parts.insert(0, sa.Column("account_id", _ID, nullable=False, autoincrement=False))
        parts.append(
            sa.ForeignKeyConstraint(
                ["account_id"], ["account.id"], ondelete="CASCADE", name=f"{name}_account_id_fkey"
            )
        )
    op.create_table(name, *parts, sa.PrimaryKeyConstraint(*key, name=f"{name}_pkey"))


def upgrade() -> None:
    """Make the tables of the first version."""
    op.create_table(
        "account",
        sa.Column("id", _ID, nullable=False),
        sa.Column("host", _NAME, nullable=False),
        sa.Column("localpart", _NAME, nullable=False),
        sa.Column("created", sa.BigInteger, nullable=False),
        sa.Column("enabled", sa.Boolean, nullable=False),
        sa.Column("password_changed", sa.BigInteger, nullable=False),
        sa.PrimaryKeyConstraint("id", name="account_pkey"),
        sa.UniqueConstraint("host", "localpart", name="account_host_localpart_key"),
        sqlite_autoincrement=True,
    )
    _table(
        "credential",
        sa.Column("hash", _NAME, nullable=False),
        sa.Column("salt", sa.LargeBinary, nullable=False),
        sa.Column("iterations", sa.Integer, nullable=False),
        sa.Column("stored_key", sa.LargeBinary, nullable=False),
        sa.Column("server_key", sa.LargeBinary, nullable=False),
        key=("account_id", "hash"),
    )
    _make_roster()
    op.create_table(
        "offline_message",
        sa.Column("id", _ID, nullable=False),
        sa.Column("account_id", _ID, nullable=False),
        sa.Column("received", sa.BigInteger, nullable=False),
        sa.Column("stanza", sa.LargeBinary, nullable=False),
        sa.PrimaryKeyConstraint("id", name="offline_message_pkey"),
        sa.ForeignKeyConstraint(
            ["account_id"], ["account.id"], ondelete="CASCADE", name="offline_message_account_id_fkey"
        ),
        sqlite_autoincrement=True,
    )
    op.create_index("offline_message_account_id_id_idx", "offline_message", ["account_id", "id"])
    for name, owned in (("account_data", True), ("server_data", False)):
        _table(
            name,
            sa.Column("kind", _NAME, nullable=False),
            sa.Column("key", _NAME, nullable=False),
            sa.Column("value", sa.LargeBinary, nullable=False),
            key=("account_id", "kind", "key") if owned else ("kind", "key"),
            owned=owned,
        )


def _make_roster() -> None:
    _table(
        "roster_item",
        sa.Column("jid", _NAME, nullable=False),
        sa.Column("name", sa.Text, nullable=False),
        sa.Column("subscription", sa.Text, nullable=False),
        sa.Column("ask", sa.Text, nullable=False),
        sa.Column("approved", sa.Boolean, nullable=False),
        sa.Column("groups", sa.Text, nullable=False),
        key=("account_id", "jid"),
    )
    _table("roster_version", sa.Column("version", sa.BigInteger, nullable=False), key=("account_id",))
    _table(
        "subscription_request",
        sa.Column("jid", _NAME, nullable=False),
        sa.Column("stanza", sa.LargeBinary, nullable=False),
        sa.Column("received", sa.BigInteger, nullable=False),
        key=("account_id", "jid"),
    )


def downgrade() -> None:
    """Refused: an administrator goes back by restoring the copy made before the upgrade."""
    raise NotImplementedError("storage has no way back to an older schema: restore a backup")
