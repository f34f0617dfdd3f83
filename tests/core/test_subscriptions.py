"""The state machine of presence subscriptions against the tables of RFC 6121 appendix A, written out by hand."""

from __future__ import annotations

from dataclasses import replace

import pytest

from xmppd.core.subscriptions import State, inbound, outbound

# Appendix A.1, and what each state is in the terms of our own.
STATES = {
    "None": State(),
    "None + Pending Out": State(pending_out=True),
    "None + Pending In": State(pending_in=True),
    "None + Pending Out+In": State(pending_out=True, pending_in=True),
    "To": State(to=True),
    "To + Pending In": State(to=True, pending_in=True),
    "From": State(from_=True),
    "From + Pending Out": State(from_=True, pending_out=True),
    "Both": State(to=True, from_=True),
}
SUBSCRIPTION = {
    "None": "none", "None + Pending Out": "none", "None + Pending In": "none", "None + Pending Out+In": "none",
    "To": "to", "To + Pending In": "to", "From": "from", "From + Pending Out": "from", "Both": "both",
}  # fmt: skip

# Appendix A.2: existing state; routed or not; new state, "-" for no change.
OUTBOUND = {
    "subscribe": """
        None                  | yes | None + Pending Out
        None + Pending Out    | yes | -
        None + Pending In     | yes | None + Pending Out+In
        None + Pending Out+In | yes | -
        To                    | yes | -
        To + Pending In       | yes | -
        From                  | yes | From + Pending Out
        From + Pending Out    | yes | -
        Both                  | yes | -
    """,
    "unsubscribe": """
        None                  | yes | -
        None + Pending Out    | yes | None
        None + Pending In     | yes | -
        None + Pending Out+In | yes | None + Pending In
        To                    | yes | None
        To + Pending In       | yes | None + Pending In
        From                  | yes | -
        From + Pending Out    | yes | From
        Both                  | yes | From
    """,
    "subscribed": """
        None                  | no  | -
        None + Pending Out    | no  | -
        None + Pending In     | yes | From
        None + Pending Out+In | yes | From + Pending Out
        To                    | no  | -
        To + Pending In       | yes | Both
        From                  | no  | -
        From + Pending Out    | no  | -
        Both                  | no  | -
    """,
    "unsubscribed": """
        None                  | no  | -
        None + Pending Out    | no  | -
        None + Pending In     | yes | None
        None + Pending Out+In | yes | None + Pending Out
        To                    | no  | -
        To + Pending In       | yes | To
        From                  | yes | None
        From + Pending Out    | yes | None + Pending Out
        Both                  | yes | To
    """,
}

# Appendix A.3: existing state; delivered or not; new state.
INBOUND = {
    "subscribe": """
        None                  | yes | None + Pending In
        None + Pending Out    | yes | None + Pending Out+In
        None + Pending In     | no  | -
        None + Pending Out+In | no  | -
        To                    | yes | To + Pending In
        To + Pending In       | no  | -
        From                  | no  | -
        From + Pending Out    | no  | -
        Both                  | no  | -
    """,
    "unsubscribe": """
        None                  | no  | -
        None + Pending Out    | no  | -
        None + Pending In     | yes | None
        None + Pending Out+In | yes | None + Pending Out
        To                    | no  | -
        To + Pending In       | yes | To
        From                  | yes | None
        From + Pending Out    | yes | None + Pending Out
        Both                  | yes | To
    """,
    "subscribed": """
        None                  | no  | -
        None + Pending Out    | yes | To
        None + Pending In     | no  | -
        None + Pending Out+In | yes | To + Pending In
        To                    | no  | -
        To + Pending In       | no  | -
        From                  | no  | -
        From + Pending Out    | yes | Both
        Both                  | no  | -
    """,
    "unsubscribed": """
        None                  | no  | -
        None + Pending Out    | yes | None
        None + Pending In     | no  | -
        None + Pending Out+In | yes | None + Pending In
        To                    | yes | None
        To + Pending In       | yes | None + Pending In
        From                  | no  | -
        From + Pending Out    | yes | From
        Both                  | yes | From
    """,
}


def rows(tables: dict[str, str]) -> list[tuple[str, str, bool, str]]:
    """(type, state, passes, new state) for each line."""
    found = []
    for type, table in tables.items():
        for line in table.strip().splitlines():
            state, passes, after = (part.strip() for part in line.split("|"))
            found.append((type, state, passes == "yes", state if after == "-" else after))
    return found


def test_the_tables_are_whole() -> None:
    for tables in (OUTBOUND, INBOUND):
        assert len({row[:2] for row in rows(tables)}) == len(STATES) * 4


@pytest.mark.parametrize("name", STATES)
def test_what_a_roster_item_says(name: str) -> None:
    assert STATES[name].subscription == SUBSCRIPTION[name]


@pytest.mark.parametrize(("type", "state", "passes", "after"), rows(OUTBOUND))
def test_outbound(type: str, state: str, passes: bool, after: str) -> None:
    """Appendix A.2."""
    move = outbound(type, STATES[state])
    assert move.passes is passes
    assert replace(move.state, approved=False) == STATES[after]
    assert move.reply is None


@pytest.mark.parametrize(("type", "state", "passes", "after"), rows(INBOUND))
def test_inbound(type: str, state: str, passes: bool, after: str) -> None:
    """Appendix A.3; a request of somebody who is subscribed is answered for the user (section 3.1.3)."""
    move = inbound(type, STATES[state])
    assert move.passes is passes
    assert move.state == STATES[after]
    assert move.reply == ("subscribed" if type == "subscribe" and STATES[state].from_ else None)


@pytest.mark.parametrize("type", ["subscribe", "unsubscribe", "subscribed", "unsubscribed"])
@pytest.mark.parametrize("state", STATES)
def test_only_approval_approves(type: str, state: str) -> None:
    """Section 3.4.2: `subscribed` to somebody who has not asked and is not subscribed; nothing else does."""
    approved = type == "subscribed" and state in ("None", "None + Pending Out", "To")
    assert outbound(type, STATES[state]).state.approved is approved
    assert inbound(type, STATES[state]).state.approved is False


@pytest.mark.parametrize(
    ("state", "after"), [("None", "From"), ("None + Pending Out", "From + Pending Out"), ("To", "Both")]
)
def test_an_approved_request_is_answered_at_once(state: str, after: str) -> None:
    """Section 3.4.2: the user never sees the request, and the approval is used up."""
    approved = replace(STATES[state], approved=True)
    move = inbound("subscribe", approved)
    assert (move.state, move.passes, move.reply) == (STATES[after], False, "subscribed")


@pytest.mark.parametrize("state", ["None", "None + Pending Out", "To"])
def test_an_approval_is_taken_back(state: str) -> None:
    """Section 3.4.3: `unsubscribed` ends it, and the contact learns of neither."""
    move = outbound("unsubscribed", replace(STATES[state], approved=True))
    assert (move.state, move.passes) == (STATES[state], False)


@pytest.mark.parametrize("type", ["unsubscribe", "subscribed", "unsubscribed"])
@pytest.mark.parametrize("state", ["None", "None + Pending Out", "To"])
def test_what_else_comes_leaves_an_approval_alone(type: str, state: str) -> None:
    assert inbound(type, replace(STATES[state], approved=True)).state.approved is True


@pytest.mark.parametrize("move", [outbound, inbound])
def test_no_other_types(move: object) -> None:
    with pytest.raises(ValueError):
        move("probe", State())  # type: ignore[operator]
