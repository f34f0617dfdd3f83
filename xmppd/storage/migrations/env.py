"""Run by Alembic: brings the database of the connection that it is given to the wanted version."""

from __future__ import annotations

from alembic import context

from xmppd.storage.schema import metadata

if context.is_offline_mode():
    raise SystemExit("xmppd changes its schema when it opens the storage; there is no offline mode")

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=metadata,
    # SQLite changes a table by making a new one and moving the rows.
    render_as_batch=True,
)
with context.begin_transaction():
    context.run_migrations()
