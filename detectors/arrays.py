"""State as a struct of arrays over dense slots.

A slot is an index that one series or signal keeps for as long as it lives. Arrays grow by an
eighth and freed slots are used again, so state is bounded by what is alive.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

SlotArray = npt.NDArray[np.int64]


class Field(NamedTuple):
    """A column: its dtype, what a new slot holds, and how much of it.

    Attributes:
        shape: of what one slot holds; () for a single number.
    """

    dtype: str
    fill: float
    shape: tuple[int, ...] = ()


class Slots:
    """Hands out slots, freed ones first.

    Attributes:
        used: one more than the highest slot ever handed out.
    """

    def __init__(self, used: int = 0, free: list[int] | None = None) -> None:
        self.used = used
        self.free = free or []

    def take(self) -> int:
        """Hand out a slot."""
        if self.free:
            return self.free.pop()
        self.used += 1
        return self.used - 1


class Arrays:
    """Named columns of equal length."""

    def __init__(self, fields: Mapping[str, Field]) -> None:
        self._fields = dict(fields)
        self._columns = {
            name: np.full((0, *field.shape), field.fill, field.dtype)
            for name, field in self._fields.items()
        }

    def __getitem__(self, name: str) -> npt.NDArray[Any]:
        """Give a whole column; index it with slots."""
        return self._columns[name]

    @property
    def nbytes(self) -> int:
        """Tell how much memory the columns take."""
        return sum(column.nbytes for column in self._columns.values())

    def grow(self, size: int) -> None:
        """Make room for slots below `size`; new ones hold their field's fill."""
        if size <= len(next(iter(self._columns.values()))):
            return
        for name, field in self._fields.items():
            self._columns[name] = grown(self._columns[name], size, field.fill)

    def reset(self, slots: SlotArray) -> None:
        """Make slots new again."""
        for name, field in self._fields.items():
            self._columns[name][slots] = field.fill

    def dump(self) -> dict[str, npt.NDArray[Any]]:
        """Give a copy of all columns, for a snapshot."""
        return {name: column.copy() for name, column in self._columns.items()}

    def restore(self, columns: Mapping[str, npt.NDArray[Any]]) -> None:
        """Take over the columns of a snapshot."""
        for name, field in self._fields.items():
            self._columns[name] = np.array(columns[name], field.dtype)


def at_once(slots: SlotArray) -> SlotArray | slice:
    """Give slots that are a range, in order, as a slice, whose columns are views; others as is."""
    count = len(slots)
    if not count or slots[-1] - slots[0] != count - 1 or not every(slots[1:] > slots[:-1]):
        return slots
    return slice(int(slots[0]), int(slots[-1]) + 1)


def grown(column: npt.NDArray[Any], size: int, fill: float) -> npt.NDArray[Any]:
    """Return a column with room for `size` slots, an eighth larger when it has to grow."""
    if size <= len(column):
        return column
    slots = max(size, len(column) * 9 // 8, 16)
    larger = np.full((slots, *column.shape[1:]), fill, column.dtype)
    larger[: len(column)] = column
    return larger


def begins(column: npt.NDArray[Any]) -> npt.NDArray[np.bool_]:
    """Tell which entries begin a run of equal ones."""
    result = np.empty(len(column), bool)
    result[:1] = True
    np.not_equal(column[1:], column[:-1], out=result[1:])
    return result


def run_sizes(firsts: SlotArray, count: int) -> SlotArray:
    """Tell how long runs are, by their first entries, the last one's end being `count`."""
    ends = np.empty_like(firsts)
    ends[:-1], ends[-1:] = firsts[1:], count
    return ends - firsts


def some(flags: npt.NDArray[np.bool_]) -> bool:
    """Tell whether any entry is true; `any` itself takes several times as long."""
    return bool(np.count_nonzero(flags))


def every(flags: npt.NDArray[np.bool_]) -> bool:
    """Tell whether all entries are true."""
    return int(np.count_nonzero(flags)) == flags.size


def least(column: npt.NDArray[Any]) -> Any:  # noqa: ANN401 - As the column's entries.
    """Give the smallest entry, NaN if there is one; `min` itself takes several times as long."""
    return column[column.argmin()]


def most(column: npt.NDArray[Any]) -> Any:  # noqa: ANN401 - As the column's entries.
    """Give the largest entry, NaN if there is one."""
    return column[column.argmax()]


def where(flags: npt.NDArray[np.bool_]) -> SlotArray:
    """Find the entries that are true; `flatnonzero` without its detours."""
    return flags.nonzero()[0]


# It serves all that ask, one after the other, and means nothing in between.
_mark = np.empty(0, np.int32)


def unique(slots: SlotArray, size: int) -> bool:
    """Tell whether slots below `size` are all different: faster than sorting them."""
    global _mark  # noqa: PLW0603 - A scratch for each would be as large as a column of state.
    if every(slots[1:] > slots[:-1]):
        return True
    if len(_mark) < size:
        _mark = np.empty(size, np.int32)
    number = np.arange(len(slots), dtype=np.int32)
    _mark[slots] = number
    return every(_mark.take(slots) == number)
