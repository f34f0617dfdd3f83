"""Messages with one resource of a contact are found by an index of their own.

Revision ID: 0004
Revises: 0003
"""

from __future__ import annotations

from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Make two indexes of one: where the resource stood behind the id it could not be searched for."""
    op.drop_index("archive_account_id_contact_id_resource_idx", "archive")
    op.create_index("archive_account_id_contact_id_idx", "archive", ["account_id", "contact", "id"])
    op.create_index(
        "archive_account_id_contact_resource_id_idx", "archive", ["account_id", "contact", "resource", "id"]
    )
    if op.get_bind().dialect.name == "sqlite":
        # See revision 0003: these are of a long archive as well.
        op.execute("DELETE FROM sqlite_stat1 WHERE tbl = 'archive'")
        op.execute(
            "INSERT INTO sqlite_stat1 (tbl, idx, stat) VALUES"
            " ('archive', 'archive_account_id_contact_id_idx', '1000000 10000 500 1'),"
            " ('archive', 'archive_account_id_contact_resource_id_idx', '1000000 10000 500 100 1'),"
            " ('archive', 'archive', '1000000 10000 1')"
        )
        op.execute("ANALYZE sqlite_schema")


def downgrade() -> None:
    """Refused: an administrator goes back by restoring the copy made before the upgrade."""
    raise NotImplementedError("storage has no way back to an older schema: restore a backup")
