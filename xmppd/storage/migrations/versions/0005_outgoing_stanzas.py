"""Stanzas on their way to other servers.

Revision ID: 0005
Revises: 0004
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

_ID = sa.BigInteger().with_variant(sa.Integer, "sqlite")


def upgrade() -> None:
    """Make the table."""
    op.create_table(
        "outgoing_stanza",
        sa.Column("id", _ID, nullable=False, autoincrement=False),
        sa.Column("received", sa.BigInteger, nullable=False),
        sa.Column("stanza", sa.LargeBinary, nullable=False),
        sa.PrimaryKeyConstraint("id", name="outgoing_stanza_pkey"),
    )


def downgrade() -> None:
    """Refused: an administrator goes back by restoring the copy made before the upgrade."""
    raise NotImplementedError("storage has no way back to an older schema: restore a backup")
