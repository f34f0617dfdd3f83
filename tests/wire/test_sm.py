"""The counting of stream management, with random traffic, cuts and resumptions (XEP-0198 sections 4 and 5)."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from xmppd.wire.sm import MODULUS, HandledCountTooHigh, Unacknowledged, parse_h


def test_what_is_acknowledged_is_forgotten_oldest_first() -> None:
    queue: Unacknowledged[str] = Unacknowledged()
    for item in "abc":
        queue.push(item)
    assert queue.acknowledge(2) == ["a", "b"]
    assert (queue.sent, queue.acknowledged, list(queue.items)) == (3, 2, ["c"])
    assert queue.acknowledge(2) == []


def test_more_than_was_sent_is_refused_and_changes_nothing() -> None:
    queue: Unacknowledged[str] = Unacknowledged(items="ab")
    with pytest.raises(HandledCountTooHigh) as refused:
        queue.acknowledge(3)
    assert (refused.value.h, refused.value.sent) == (3, 2)
    assert list(queue.items) == ["a", "b"]


def test_less_than_was_acknowledged_is_refused() -> None:
    queue: Unacknowledged[str] = Unacknowledged(items="ab")
    queue.acknowledge(2)
    with pytest.raises(HandledCountTooHigh):
        queue.acknowledge(1)


def test_the_counter_starts_again_at_zero() -> None:
    queue: Unacknowledged[str] = Unacknowledged(MODULUS - 1, "ab")
    assert queue.sent == 1
    assert queue.acknowledge(0) == ["a"]
    assert queue.acknowledge(1) == ["b"]


@pytest.mark.parametrize("text", [None, "", "-1", "1.0", "4294967296", "٣", "0x1", "9" * 5000, "+1"])
def test_what_is_no_count(text: str | None) -> None:
    with pytest.raises(ValueError, match="0 to 4294967295"):
        parse_h(text)


@pytest.mark.parametrize(("text", "value"), [("0", 0), ("4294967295", MODULUS - 1), (" 7 ", 7)])
def test_what_is_one(text: str, value: int) -> None:
    assert parse_h(text) == value


# Of each step: how many stanzas are sent; how many of those on the way arrive; whether the connection is then cut.
STEPS = st.lists(st.tuples(st.integers(0, 5), st.integers(0, 10), st.booleans()), max_size=50)


@given(STEPS, st.integers(0, MODULUS - 1))
def test_everything_arrives_once_and_in_order_whatever_is_cut(steps: list[tuple[int, int, bool]], start: int) -> None:
    queue: Unacknowledged[int] = Unacknowledged(start)
    on_the_way: list[int] = []
    received: list[int] = []
    sent = 0
    for count, arriving, cut in steps:
        for _ in range(count):
            queue.push(sent)
            on_the_way.append(sent)
            sent += 1
        received += on_the_way[:arriving]
        del on_the_way[:arriving]
        h = (start + len(received)) % MODULUS
        queue.acknowledge(h)
        if cut:  # what is on the way is gone; at the resumption what is not acknowledged is sent again
            on_the_way = list(queue.items)
    received += on_the_way
    assert received == list(range(sent))
