"""Ids of archived messages: the one that parts what was made from what will be."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator

from hypothesis import given
from hypothesis import strategies as st

from xmppd.modules.mam.ids import Ids, Randomness, to_text

NEAR = st.integers(0, 3) | st.integers(0, 2**47)  # often the same millisecond
TIMES = st.lists(NEAR, max_size=30)
RANDOM = st.sampled_from([0, 1, 2**61, 2**62 - 1])


def clock(*times: list[int]) -> Callable[[], int]:
    """Tells these times, one after the other."""
    left: Iterator[int] = iter([time for part in times for time in part])
    return lambda: next(left)


@given(TIMES, TIMES, RANDOM, RANDOM)
def test_no_id_made_so_far_is_greater_than_the_last_and_every_later_one_is(
    before: list[int], after: list[int], first: int, then: int
) -> None:
    drawn = [first] * len(before) + [then] * len(after)
    ids = Ids(clock(before, after), lambda bits: drawn.pop(0))
    made = [ids.make() for _ in before]
    last = ids.last
    later = [ids.make() for _ in after]
    assert len(last) == 16
    assert all(id <= last for id in made)
    assert all(id > last for id in later)
    assert all(id <= ids.last for id in (*made, *later, last))


@given(TIMES, TIMES, RANDOM, RANDOM)
def test_who_goes_on_from_an_id_makes_none_that_is_less(
    before: list[int], after: list[int], first: int, then: int
) -> None:
    ids = Ids(clock(before), lambda bits: first)
    made = [ids.make() for _ in before]
    for last in (ids.last, *made[-1:]):
        others = Ids(clock(after), lambda bits: then, last)
        assert others.last == ids.last
        later = [others.make() for _ in after]
        assert all(id > ids.last for id in later)
        assert later == sorted(set(later))


@given(st.integers(0, 5000), TIMES.filter(bool), RANDOM)
def test_a_full_millisecond_is_no_exception(count: int, after: list[int], random: int) -> None:
    ids = Ids(clock([0] * count, after), lambda bits: random)
    made = [ids.make() for _ in range(count)]
    last = ids.last
    assert all(id <= last for id in made)
    assert all(ids.make() > last for _ in after)


@given(NEAR, RANDOM, RANDOM)
def test_the_last_follows_an_id_that_was_there(time: int, first: int, then: int) -> None:
    there = Ids(lambda: time, lambda bits: first).make()
    ids = Ids(lambda: 0, lambda bits: then)
    ids.continue_after(there)
    last = ids.last
    assert there <= last < ids.make()


@given(count=st.integers(1, 200))
def test_random_numbers_have_so_many_bits_and_do_not_come_again(count: int) -> None:
    randomness = Randomness()
    numbers = [randomness.bits(count) for _ in range(100)]
    assert all(0 <= number < 2**count for number in numbers)
    assert {number >= 2 ** (count - 1) for number in numbers} == {True, False}
    if count > 100:
        assert len(set(numbers)) == len(numbers)


@given(id=st.binary(min_size=16, max_size=16))
def test_the_text_of_an_id_is_that_of_a_uuid(id: bytes) -> None:
    assert to_text(id) == str(uuid.UUID(bytes=id))
