"""The messages of an account.

Revision ID: 0003
Revises: 0002
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

_ID = sa.BigInteger().with_variant(sa.Integer, "sqlite")
_NAME = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")


def upgrade() -> None:
    """Make the table."""
    op.create_table(
        "archive",
        sa.Column("account_id", _ID, nullable=False, autoincrement=False),
        sa.Column("id", sa.LargeBinary, nullable=False),
        sa.Column("contact", _NAME, nullable=False),
        sa.Column("resource", _NAME, nullable=False),
        sa.Column("stanza", sa.LargeBinary, nullable=False),
        sa.PrimaryKeyConstraint("account_id", "id", name="archive_pkey"),
        sa.ForeignKeyConstraint(
            ["account_id"], ["account.id"], ondelete="CASCADE", name="archive_account_id_fkey"
        ),
        sqlite_with_rowid=False,
    )
    op.create_index(
        "archive_account_id_contact_id_resource_idx", "archive", ["account_id", "contact", "id", "resource"]
    )
    if op.get_bind().dialect.name == "sqlite":
        # Without statistics SQLite looks for a contact through the whole archive. These are of a long one.
        op.execute("ANALYZE")
        op.execute(
            "INSERT INTO sqlite_stat1 (tbl, idx, stat) VALUES"
            " ('archive', 'archive_account_id_contact_id_resource_idx', '1000000 10000 500 1 1'),"
            " ('archive', 'archive', '1000000 10000 1')"
        )
        op.execute("ANALYZE sqlite_schema")


def downgrade() -> None:
    """Refused: an administrator goes back by restoring the copy made before the upgrade."""
    raise NotImplementedError("storage has no way back to an older schema: restore a backup")
