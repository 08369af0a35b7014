"""Ids find their slots, however many there are and in whatever order they come."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from watchkeep.detectors.idtable import IdTable

IDS = st.sets(st.integers(1, 2**64 - 1), max_size=300)


@given(st.lists(IDS, max_size=4), IDS, st.data())
def test_it_finds_what_was_added_and_nothing_else(
    added: list[set[int]], asked: set[int], data: st.DataObject
) -> None:
    table = IdTable()
    known: dict[int, int] = {}
    for some in added:
        new = sorted(some - known.keys())
        slots = table.add(np.array(new, np.uint64)).tolist()
        known |= dict(zip(new, slots, strict=True))
        gone = data.draw(st.sets(st.sampled_from(sorted(known)))) if known else set()
        table.remove(np.array([known.pop(one) for one in sorted(gone)], np.int64))
    assert len(table) == len(known)
    assert len(set(known.values())) == len(known)
    wanted = [*known, *asked] * 3
    found = table.find(np.array(wanted, np.uint64)).tolist()
    assert found == [known.get(one, -1) for one in wanted]
    again = IdTable(table.ids)
    assert again.find(np.array(wanted, np.uint64)).tolist() == found


def test_it_guesses_the_slots_of_series_in_their_usual_order() -> None:
    dice = np.random.default_rng(1)
    ids = dice.integers(1, 2**64, 5_000, dtype=np.uint64)
    table = IdTable()
    table.add(ids)
    orders = [np.arange(5_000), np.arange(5_000)[::-1], dice.permutation(5_000)]
    gap = np.delete(np.arange(5_000), [100, 777, 778, 4_999])
    for order in (*orders, gap):
        assert (table.find(ids[order]) == order).all()
    strangers = ids.copy()
    strangers[::7] += np.uint64(1)
    assert (table.find(strangers)[::7] == -1).all()


@given(st.integers(1, 60), st.integers(0, 2**32), st.integers(0, 40))
def test_it_guesses_no_slot_that_is_none(count: int, seed: int, strangers: int) -> None:
    """A frame may have each series many times."""
    dice = np.random.default_rng(seed)
    ids = dice.integers(1, 2**64, count + strangers, dtype=np.uint64)
    table = IdTable()
    table.add(ids[:count])
    order = np.resize(dice.integers(0, count + strangers, 97), 2_000)
    expected = np.where(order < count, order, -1)
    assert (table.find(ids[order]) == expected).all()
