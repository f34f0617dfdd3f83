"""Contacts, and subscription requests that wait for an answer (RFC 6121 sections 2 and 3)."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import TYPE_CHECKING

from sqlalchemy import Connection, bindparam, delete, select
from twisted.internet.defer import Deferred

from .rows import Roster, RosterItem, SubscriptionRequest
from .schema import roster_item, roster_version, subscription_request
from .sql import Query, Upsert

if TYPE_CHECKING:
    from .store import Store

__all__ = ["Rosters"]

_item = roster_item.c
_request = subscription_request.c
_ITEMS = Query(
    select(_item.jid, _item.name, _item.subscription, _item.ask, _item.approved, _item.groups)
    .where(_item.account_id == bindparam("id"))
    .order_by(_item.jid)
)
_REQUESTS = Query(
    select(_request.jid, _request.stanza, _request.received)
    .where(_request.account_id == bindparam("id"))
    .order_by(_request.jid)
)
_VERSION = Query(select(roster_version.c.version).where(roster_version.c.account_id == bindparam("id")))
_REMOVE = delete(roster_item).where(_item.account_id == bindparam("id"), _item.jid == bindparam("contact"))
_REMOVE_REQUEST = delete(subscription_request).where(
    _request.account_id == bindparam("id"), _request.jid == bindparam("contact")
)
_PUT = Upsert(roster_item)
_PUT_VERSION = Upsert(roster_version)
_PUT_REQUEST = Upsert(subscription_request)


class Rosters:
    """The rosters of all accounts. Each change carries the version that the roster has afterwards."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def load(self, account_id: int) -> Deferred[Roster]:
        """The roster, its version and the waiting requests, with everything that was queued before."""

        def job(connection: Connection) -> Roster:
            who = {"id": account_id}
            return Roster(
                items=[
                    RosterItem(jid, name, subscription, ask, bool(approved), tuple(json.loads(groups)))
                    for jid, name, subscription, ask, approved, groups in _ITEMS(connection, who)
                ],
                version=next((version for (version,) in _VERSION(connection, who)), 0),
                requests=[SubscriptionRequest(*row) for row in _REQUESTS(connection, who)],
            )

        return self._store.write(job)

    def put(self, account_id: int, item: RosterItem, version: int) -> Deferred[None]:
        """Keep an item, new or changed."""
        return self.change(account_id, [item], [], version)

    def remove(self, account_id: int, jid: str, version: int) -> Deferred[None]:
        """Forget an item; there need not be one."""
        return self.change(account_id, [], [jid], version)

    def change(
        self, account_id: int, put: Iterable[RosterItem], remove: Iterable[str], version: int
    ) -> Deferred[None]:
        """Keep some items and forget others, all or nothing.

        Fails with SQLAlchemy's IntegrityError where there is no such account, as whatever writes for one.
        """
        kept = [
            {
                "account_id": account_id,
                "jid": item.jid,
                "name": item.name,
                "subscription": item.subscription,
                "ask": item.ask,
                "approved": item.approved,
                "groups": json.dumps(item.groups, ensure_ascii=False),
            }
            for item in put
        ]
        forgotten = [{"id": account_id, "contact": jid} for jid in remove]

        def job(connection: Connection) -> None:
            if forgotten:
                connection.execute(_REMOVE, forgotten)
            _PUT(connection, kept)
            _PUT_VERSION(connection, {"account_id": account_id, "version": version})

        return self._store.write(job)

    def put_request(self, account_id: int, request: SubscriptionRequest) -> Deferred[None]:
        """Keep a subscription request until it is answered, in place of an earlier one of the same JID."""
        row = {
            "account_id": account_id,
            "jid": request.jid,
            "stanza": request.stanza,
            "received": request.received,
        }
        return self._store.write(lambda connection: _PUT_REQUEST(connection, row))

    def remove_request(self, account_id: int, jid: str) -> Deferred[None]:
        """Forget a subscription request; there need not be one."""

        def job(connection: Connection) -> None:
            connection.execute(_REMOVE_REQUEST, {"id": account_id, "contact": jid})

        return self._store.write(job)
