"""Sessions under stream management, with what their clients have not acknowledged.

Revision ID: 0002
Revises: 0001
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

_ID = sa.BigInteger().with_variant(sa.Integer, "sqlite")
_NAME = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")


def upgrade() -> None:
    """Make the two tables."""
    op.create_table(
        "sm_session",
        sa.Column("id", _ID, nullable=False, autoincrement=False),
        sa.Column("account_id", _ID, nullable=False),
        sa.Column("sm_id", _NAME, nullable=False),
        sa.Column("resource", _NAME, nullable=False),
        sa.Column("handled", sa.BigInteger, nullable=False),
        sa.Column("hibernated", sa.BigInteger),
        sa.Column("unsent_from", sa.BigInteger),
        sa.Column("state", sa.LargeBinary, nullable=False),
        sa.PrimaryKeyConstraint("id", name="sm_session_pkey"),
        sa.ForeignKeyConstraint(
            ["account_id"], ["account.id"], ondelete="CASCADE", name="sm_session_account_id_fkey"
        ),
    )
    op.create_index("sm_session_account_id_idx", "sm_session", ["account_id"])
    op.create_table(
        "sm_stanza",
        sa.Column("session_id", _ID, nullable=False, autoincrement=False),
        sa.Column("position", sa.BigInteger, nullable=False, autoincrement=False),
        sa.Column("sent", sa.BigInteger, nullable=False),
        sa.Column("stanza", sa.LargeBinary, nullable=False),
        sa.PrimaryKeyConstraint("session_id", "position", name="sm_stanza_pkey"),
        sa.ForeignKeyConstraint(
            ["session_id"], ["sm_session.id"], ondelete="CASCADE", name="sm_stanza_session_id_fkey"
        ),
        sqlite_with_rowid=False,
    )


def downgrade() -> None:
    """Refused: an administrator goes back by restoring the copy made before the upgrade."""
    raise NotImplementedError("storage has no way back to an older schema: restore a backup")
