"""A table from 64-bit ids to slots that looks up whole columns at once.

Ids are hashes, so some of their bits serve as the place in a level, a plain array. Who finds its
place taken goes to the next level, which is half as large and goes by other bits. A lookup goes
through the levels with what it hasn't found yet: all ids, then a third, then a tenth. The few that
no level took stand sorted. Python's loops run over levels, never over ids.
"""

from typing import Final

import numpy as np
import numpy.typing as npt

from watchkeep.detectors.arrays import Slots, grown, where

Ids = npt.NDArray[np.uint64]
Found = npt.NDArray[np.int32]

NONE: Final = -1
_LEVELS: Final = 4
_SHIFT: Final = np.uint64(14)
_SMALLEST: Final = 64
# So many ids are worth a guess; one in so many is looked up for it.
_MANY: Final = 512
_STRIDE: Final = 32
_AHEAD: Final = np.arange(_STRIDE, dtype=np.int32)
# Of the first level: a fuller one saves memory, and sends more lookups to the next.
_LOAD_MAX: Final = 0.7


class IdTable:
    """Slots by id.

    Attributes:
        ids: uint64, by slot; 0 where a slot is free, so no id may be 0.
        slots: hands out the slots.
    """

    def __init__(self, ids: Ids | None = None) -> None:
        self.ids = np.zeros(0, np.uint64) if ids is None else ids.copy()
        free = where(self.ids == 0)[::-1].tolist()
        self.slots = Slots(len(self.ids), free)
        self._levels: list[Found] = []
        self._rest = np.empty(0, np.int32)
        self._build()

    def __len__(self) -> int:
        """Count the ids."""
        return self.slots.used - len(self.slots.free)

    @property
    def nbytes(self) -> int:
        """Tell how much memory it takes."""
        return self.ids.nbytes + self._rest.nbytes + sum(level.nbytes for level in self._levels)

    def find(self, ids: Ids) -> Found:
        """Look ids up: int32[n] slots, -1 for ids that are not there."""
        if len(ids) < _MANY or not len(self):
            return self._find(ids)
        # Senders repeat their series in one order, in which they were given their slots: from one
        # that is looked up, the next ones can be guessed, and a guess is cheap to check.
        found = np.add.outer(self._guess(ids[::_STRIDE]), _AHEAD).ravel()[: len(ids)]
        # A guess beyond the last slot is no slot at all, nor is one before the first.
        found = np.maximum(np.minimum(found, np.int32(len(self.ids) - 1)), np.int32(0))
        missed = where(self.ids.take(found) != ids)
        if len(missed):
            found[missed] = self._find(ids.take(missed))
        return found

    def _guess(self, ids: Ids) -> Found:
        """Guess the slots of ids that stand a stride apart, from those that the first level has."""
        slot = self._levels[0].take(_place(ids, 0, len(self._levels[0])))
        hit = self.ids.take(slot) == ids
        number = np.arange(len(ids), dtype=np.int32)
        # The ones before the first that is known are guessed from it too.
        known = np.maximum.accumulate(np.where(hit, number, np.int32(hit.argmax())))
        guess: Found = slot.take(known) + (number - known) * np.int32(_STRIDE)
        return guess

    def _find(self, ids: Ids) -> Found:
        found = np.full(len(ids), NONE, np.int32)
        if not len(self):
            return found
        left = np.empty(0, np.int64)
        wanted = ids
        for number, level in enumerate(self._levels):
            slot = level.take(_place(wanted, number, len(level)))
            # An empty place's -1 reads the last slot's id, which is right or wrong like any other.
            hit = self.ids.take(slot.astype(np.int64)) == wanted
            missed = where(~hit)
            if number:
                found[left.take(where(hit))] = slot.compress(hit)
                left = left.take(missed)
            else:
                np.copyto(found, slot, where=hit)
                left = missed
            if not len(left):
                return found
            wanted = wanted.take(missed)
        if len(self._rest):
            at = np.searchsorted(self.ids[self._rest], wanted)
            slot = self._rest[np.minimum(at, len(self._rest) - 1)]
            hit = self.ids[slot] == wanted
            found[left[hit]] = slot[hit]
        return found

    def add(self, ids: Ids) -> Found:
        """Give ids slots that have none yet, each id once: int32[n]."""
        slots = np.fromiter((self.slots.take() for _ in range(len(ids))), np.int32, len(ids))
        self.ids = grown(self.ids, self.slots.used, 0)
        self.ids[slots] = ids
        if len(self) > _LOAD_MAX * len(self._levels[0]):
            self._build()
        else:
            self._take_in(slots)
        return slots

    def remove(self, slots: npt.NDArray[np.int64]) -> None:
        """Free slots."""
        self.ids[slots] = 0
        self.slots.free.extend(slots.tolist())
        self._build()

    def _build(self) -> None:
        used = where(self.ids != 0).astype(np.int32)
        size = _SMALLEST
        while len(used) > _LOAD_MAX * size:
            size *= 2
        self._levels = [np.full(size >> number, NONE, np.int32) for number in range(_LEVELS)]
        self._rest = np.empty(0, np.int32)
        self._take_in(used)

    def _take_in(self, slots: Found) -> None:
        for number, level in enumerate(self._levels):
            place = _place(self.ids[slots], number, len(level))
            free = level[place] == NONE
            # Of several that want one place the last is written.
            level[place[free]] = slots[free]
            slots = slots[level[place] != slots]
        rest = np.concatenate([self._rest, slots])
        self._rest = rest[np.argsort(self.ids[rest])]


def _place(ids: Ids, level: int, size: int) -> npt.NDArray[np.int64]:
    shifted = ids >> (np.uint64(level) * _SHIFT) if level else ids
    return (shifted & np.uint64(size - 1)).view(np.int64)
