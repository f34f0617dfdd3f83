"""Messages that are in no archive's order yet.

Revision ID: 0006
Revises: 0005
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None

_ID = sa.BigInteger().with_variant(sa.Integer, "sqlite")
_NAME = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")


def upgrade() -> None:
    """Make the table."""
    op.create_table(
        "archive_recent",
        sa.Column("number", _ID, nullable=False),
        sa.Column("account_id", _ID, nullable=False),
        sa.Column("id", sa.LargeBinary, nullable=False),
        sa.Column("contact", _NAME, nullable=False),
        sa.Column("resource", _NAME, nullable=False),
        sa.Column("stanza", sa.LargeBinary, nullable=False),
        sa.PrimaryKeyConstraint("number", name="archive_recent_pkey"),
        sa.ForeignKeyConstraint(
            ["account_id"], ["account.id"], name="archive_recent_account_id_fkey", ondelete="CASCADE"
        ),
    )


def downgrade() -> None:
    """Refused: an administrator goes back by restoring the copy made before the upgrade."""
    raise NotImplementedError("storage has no way back to an older schema: restore a backup")
