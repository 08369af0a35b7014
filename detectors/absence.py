"""Absence: entities and members that have stopped, told apart from those nobody wants any more.

A member is present while anything but its scrapes' own series tells of it. An entity should have as
many as it had, or as Kubernetes wants, if kube-state-metrics tells that they are fewer now. Less
than that is an absence once it has lasted: no page for a rolling deploy, none for a scale-down,
which lowers what is wanted, and none for jobs, which end. Nor is anybody missed whose deployment,
or node, Kubernetes doesn't tell of any more: it was removed.

Where nobody says what is wanted, only the loss of all members is told: the rest may be intended.
"""

from enum import StrEnum
from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt

from watchkeep.detectors.arrays import Arrays, every, where
from watchkeep.detectors.columns import NOWHERE
from watchkeep.detectors.roster import Roster

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]

# Only who was there for so many cells can be missed: jobs come and go.
_STEADY_CELLS: Final = 60
# A pod that is replaced, or a target that misses a few scrapes, is back by then.
_ENTITY_CELLS: Final = 5
_MEMBER_CELLS: Final = 10
# What is missing for a day is no longer expected.
_FORGOTTEN_CELLS: Final = 1_440
_STEADY_MAX: Final = 1 << 20


class Gone(StrEnum):
    """What has stopped."""

    ENTITY = "all of its members are gone"
    MEMBER = "fewer members than are wanted"


class Absence(NamedTuple):
    """Entities whose members are missing in a cell.

    Attributes:
        signal: int64[n], the signals that count their members.
        present, usual: int64[n], how many are there, and should be.
        gone: what that is called.
    """

    signal: Ints
    present: Ints
    usual: Ints
    gone: list[Gone]


_NONE: Final = Absence(np.empty(0, np.int64), np.empty(0, np.int64), np.empty(0, np.int64), [])


class Presence(NamedTuple):
    """How many members each entity has in a cell: signals, and their values."""

    signal: Ints
    value: Floats
    absence: Absence


def look(roster: Roster, end_ms: int, hold_ms: int) -> Presence:
    """Count members, and find those that are missing, at the end of a cell.

    Args:
        roster: who is who; its entities' columns are changed in place.
        end_ms: the end of the cell.
        hold_ms: for how long a member without a sample is there.
    """
    columns, used = roster.entities, roster.entity_slots.used
    entity = where(columns["presence"][:used] != NOWHERE)
    wanted = _wanted(roster, end_ms, hold_ms)
    present = _present(roster, end_ms, hold_ms, wanted >= 0).take(entity)
    wanted = wanted.take(entity)

    signal = columns["presence"].take(entity).astype(np.int64)
    most, cells = columns["most"].take(entity), columns["fewer_cells"].take(entity)
    if every(present >= most):
        _note_all(columns, entity, present)
        return Presence(signal, present.astype(np.float64), _NONE)
    told = wanted >= 0
    cells = np.where(present >= most, 0, cells + 1)
    # After an hour of fewer, that many are usual; unless more are wanted.
    settled = ~told & (present > 0) & (cells >= _STEADY_CELLS)
    most = np.where(settled, present, np.maximum(most, present))
    columns["most"][entity], columns["fewer_cells"][entity] = most, cells
    usual = np.where(told, np.minimum(most, wanted), most)

    steady, missing = columns["steady_cells"].take(entity), columns["missing_cells"].take(entity)
    missed = (present < usual) & (steady >= _STEADY_CELLS) & ~columns["jobs"].take(entity)
    missed &= told | (present == 0) & ~_removed(roster, end_ms, hold_ms).take(entity)
    missing = np.where(missed, missing + 1, 0)
    forgotten = missing > _FORGOTTEN_CELLS
    there = (present > 0) | missed & ~forgotten
    columns["missing_cells"][entity] = missing
    columns["steady_cells"][entity] = np.where(there, np.minimum(steady + 1, _STEADY_MAX), 0)

    if not missed.any():
        return Presence(signal, present.astype(np.float64), _NONE)
    nobody = missed & (present == 0) & (missing >= _ENTITY_CELLS)
    fewer = missed & (present > 0) & (missing >= _MEMBER_CELLS)
    at = where((nobody | fewer) & ~forgotten)
    gone = [Gone.ENTITY if count == 0 else Gone.MEMBER for count in present.take(at).tolist()]
    absence = Absence(signal.take(at), present.take(at), usual.take(at).astype(np.int64), gone)
    return Presence(signal, present.astype(np.float64), absence)


def _note_all(columns: Arrays, entity: Ints, present: Ints) -> None:
    """Note that no entity has fewer members than it had, so nobody can be missing."""
    columns["most"][entity] = present
    columns["fewer_cells"][entity] = columns["missing_cells"][entity] = 0
    steady = np.minimum(columns["steady_cells"].take(entity) + 1, _STEADY_MAX)
    columns["steady_cells"][entity] = np.where(present > 0, steady, 0)


def _present(roster: Roster, end_ms: int, hold_ms: int, told: npt.NDArray[np.bool_]) -> Ints:
    """Count the members of each entity that are there; pods only where it is told how many."""
    members, used = roster.members, roster.member_slots.used
    entity = members["entity"][:used]
    last_ms, ended_ms = members["last_ms"][:used], members["ended_ms"][:used]
    there = (entity != NOWHERE) & members["named"][:used]
    # A batch may tell of much that comes after the cell.
    there &= (last_ms >= end_ms - hold_ms) & ((last_ms >= ended_ms) | (ended_ms > end_ms))
    there &= members["begun_ms"][:used] < end_ms
    there &= members["pod"][:used] | ~told.take(entity)
    return np.bincount(entity[there], minlength=len(told))


def _removed(roster: Roster, end_ms: int, hold_ms: int) -> npt.NDArray[np.bool_]:
    """Tell whose deployment, or node, kube-state-metrics told of and doesn't any more."""
    columns, used = roster.entities, roster.entity_slots.used
    wanted, node = columns["wanted"][:used], columns["node"][:used]
    slot = np.where(wanted != NOWHERE, wanted, node)
    last_ms = roster.series["last_ms"].take(slot)
    removed: npt.NDArray[np.bool_] = (slot != NOWHERE) & (last_ms < end_ms - hold_ms)
    return removed


def _wanted(roster: Roster, end_ms: int, hold_ms: int) -> Ints:
    """Tell how many members are wanted of each entity; -1 where nobody says."""
    slot = roster.entities["wanted"][: roster.entity_slots.used]
    series = roster.series
    value = series["last_value"].take(slot)
    # The value is the last one known, and one from after the cell does no harm.
    known = (slot != NOWHERE) & (series["last_ms"].take(slot) >= end_ms - hold_ms)
    known &= (value >= 0) & (value < 1e6)
    return np.where(known, np.where(known, value, 0), -1).astype(np.int64)
