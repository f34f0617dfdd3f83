"""The machine of stream management, with random traffic, cuts and resumptions (XEP-0198 sections 3 to 6)."""

from __future__ import annotations

from collections import deque

import pytest
from hypothesis import given
from hypothesis import strategies as st

from xmppd.wire import sm
from xmppd.wire.sm import MODULUS, SLACK, HandledCountTooHigh, Machine, parse_h


def machine(items: str, acknowledged: int = 0, sent: int | None = None) -> Machine[str]:
    """A machine that has sent its items, or the first of them."""
    made: Machine[str] = Machine(0, acknowledged, items)
    for _ in range(len(items) if sent is None else sent):
        made.was_sent(0.0)
    return made


def test_what_is_acknowledged_is_forgotten_oldest_first() -> None:
    one = machine("abc")
    assert one.acknowledge(2, 0.0) == ["a", "b"]
    assert (one.acknowledged, one.sent, list(one.items), one.position) == (2, 1, ["c"], 3)
    assert one.acknowledge(2, 0.0) == []


def test_more_than_was_sent_is_refused_and_changes_nothing() -> None:
    one = machine("abc", sent=2)
    with pytest.raises(HandledCountTooHigh) as refused:
        one.acknowledge(3, 0.0)
    assert (refused.value.h, refused.value.sent) == (3, 2)
    assert list(one.items) == ["a", "b", "c"]
    assert b"<handled-count-too-high xmlns='urn:xmpp:sm:3' h='3' send-count='2'/>" in (
        refused.value.stream_error().to_bytes()
    )


def test_less_than_was_acknowledged_is_refused() -> None:
    one = machine("ab")
    one.acknowledge(2, 0.0)
    with pytest.raises(HandledCountTooHigh):
        one.acknowledge(1, 0.0)


def test_the_counters_start_again_at_zero() -> None:
    one = machine("ab", MODULUS - 1)
    assert one.acknowledge(0, 0.0) == ["a"]
    assert one.acknowledge(1, 0.0) == ["b"]
    one.handled = MODULUS + 3
    assert one.h == 3


def test_an_acknowledgement_is_asked_for_by_count_and_by_time_and_once() -> None:
    one = machine("ab", sent=0)
    assert not one.should_ask(100.0, 5, 1.0)
    one.was_sent(100.0)
    assert not one.should_ask(100.9, 1, 1.0)
    assert one.should_ask(101.0, 1, 1.0)
    one.was_sent(100.5)
    assert one.should_ask(100.5, 1, 1.0)
    one.ask(100.5)
    assert not one.should_ask(200.0, 1, 1.0)
    one.acknowledge(1, 200.0)
    assert not one.should_ask(200.5, 5, 1.0)
    assert one.should_ask(201.0, 5, 1.0)
    one.acknowledge(2, 201.0)
    assert not one.should_ask(900.0, 5, 1.0)


def test_what_was_not_sent_can_be_taken_out() -> None:
    one = machine("abcd", sent=1)
    assert one.drop({"c"}) is True
    assert one.drop({"d"}) is False
    assert (list(one.items), one.position) == (["a", "b"], 2)


def test_after_a_restart_the_peer_says_what_it_has() -> None:
    one = machine("abcd", sent=0)
    one.place(12, [11, 12, 13])  # "d" came after the restart
    assert (one.acknowledged, list(one.items), one.sent) == (12, ["c", "d"], 0)
    for known, h in (([11, 12], 15), ([11, 12], 7), ([11, 13], 13)):  # more was sent, or less is known, than is there
        one = machine("ab", sent=0)
        one.place(h, known)
        assert (one.acknowledged, len(one.items)) == (h, sum(place > h for place in known))
    one = machine("", sent=0)
    one.place(77, [])
    assert one.acknowledged == 77
    one = machine("ab", sent=0)
    one.place(1, [MODULUS, MODULUS + 1])
    assert one.acknowledged == MODULUS + 1


@pytest.mark.parametrize("h", [12 + SLACK + 1, MODULUS - 1, MODULUS // 2])
def test_after_a_restart_the_peer_cannot_say_anything(h: int) -> None:
    one = machine("ab", sent=0)
    with pytest.raises(HandledCountTooHigh):
        one.place(h, [11, 12])
    assert list(one.items) == ["a", "b"]


@pytest.mark.parametrize("text", [None, "", "-1", "1.0", "4294967296", "٣", "0x1", "9" * 5000, "+1"])
def test_what_is_no_count(text: str | None) -> None:
    with pytest.raises(ValueError, match="0 to 4294967295"):
        parse_h(text)


@pytest.mark.parametrize(("text", "value"), [("0", 0), ("4294967295", MODULUS - 1), (" 7 ", 7)])
def test_what_is_one(text: str, value: int) -> None:
    assert parse_h(text) == value


def test_the_elements() -> None:
    assert sm.answer(7) == b"<a xmlns='urn:xmpp:sm:3' h='7'/>"
    assert sm.enabled("x", 60) == b"<enabled xmlns='urn:xmpp:sm:3' id='x' resume='true' max='60'/>"
    assert sm.enabled("", 60) == b"<enabled xmlns='urn:xmpp:sm:3'/>"
    assert sm.resumed("x", 0) == b"<resumed xmlns='urn:xmpp:sm:3' previd='x' h='0'/>"
    assert sm.failed("item-not-found", "gone", 0).startswith(b"<failed xmlns='urn:xmpp:sm:3' h='0'><item-not-found ")
    assert sm.failed("unexpected-request", "no").startswith(b"<failed xmlns='urn:xmpp:sm:3'><unexpected-request ")


class End:
    """One of two ends that talk: what it sends is on the way until it arrives, or is cut off."""

    def __init__(self, start: int) -> None:
        self.machine: Machine[int] = Machine(start, start)
        self.on_the_way: deque[int] = deque()
        self.said = 0
        self.heard: list[int] = []

    def send(self) -> None:
        while (item := self.machine.next()) is not None:
            self.machine.was_sent(0.0)
            self.on_the_way.append(item)

    def says(self) -> None:
        self.machine.push(self.said)
        self.said += 1
        self.send()

    def arrives(self, other: End, count: int) -> None:
        for _ in range(min(count, len(self.on_the_way))):
            other.heard.append(self.on_the_way.popleft())
            other.machine.handled += 1


# Who does something; how much is said; how much of what is on the way arrives; and then: nothing, an
# acknowledgement, or a cut with a resumption.
STEPS = st.lists(
    st.tuples(st.booleans(), st.integers(0, 5), st.integers(0, 10), st.sampled_from(["", "ack", "cut"])), max_size=60
)


@given(STEPS, st.sampled_from([0, 5, MODULUS - 3]))
def test_everything_arrives_once_and_in_order_whatever_is_cut(
    steps: list[tuple[bool, int, int, str]], start: int
) -> None:
    ends = End(start), End(start)
    for first, saying, arriving, then in steps:
        one, other = ends if first else reversed(ends)
        for _ in range(saying):
            one.says()
        one.arrives(other, arriving)
        if then == "ack":
            one.machine.acknowledge(other.machine.h, 0.0)
        if then == "cut":
            for end, peer in (ends, ends[::-1]):
                end.on_the_way.clear()
                end.machine.acknowledge(peer.machine.h, 0.0)
                end.machine.restart()
            for end in ends:
                end.send()
    for end, peer in (ends, ends[::-1]):
        end.arrives(peer, len(end.on_the_way))
        assert peer.heard == list(range(end.said))
        assert len(end.machine.acknowledge(peer.machine.h, 0.0)) <= end.said
        assert not end.machine.items
