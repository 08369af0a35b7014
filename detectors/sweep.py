"""Sweep: free the slots of what is gone, so that state is bounded by what is alive.

Series go an hour after their last sample, and strands and members with them; signals outlive pods
and go after 30 days. All in log time.
"""

from collections.abc import Iterable
from typing import Final

import numpy as np
import numpy.typing as npt

from watchkeep.detectors.arrays import where
from watchkeep.detectors.cells import Open
from watchkeep.detectors.columns import NEVER, NOWHERE, SWEPT
from watchkeep.detectors.roster import Roster

Ints = npt.NDArray[np.int64]

EVERY_MS: Final = 600_000
_SERIES_MS: Final = 3_600_000
_SIGNALS_MS: Final = 30 * 86_400_000


def sweep(roster: Roster, cells: Iterable[Open], now_ms: int) -> None:
    """Free what is gone.

    Args:
        roster: who is who.
        cells: the open ones, which forget it too.
        now_ms: log time.
    """
    _sweep_series(roster, now_ms)
    strands = _sweep_strands(roster)
    members = _sweep_members(roster)
    for cell in cells:
        cell.forget(strands, members)
    _sweep_signals(roster, now_ms)
    _sweep_entities(roster)


def _sweep_series(roster: Roster, now_ms: int) -> None:
    series, used = roster.series, roster.table.slots.used
    there = roster.table.ids[:used] != 0
    last_ms, flags = series["last_ms"][:used], series["flags"][:used]
    silent = there & (last_ms == NEVER)
    gone = there & (last_ms != NEVER) & (last_ms < now_ms - _SERIES_MS)
    gone |= silent & (flags & SWEPT != 0)
    flags[silent] |= SWEPT
    slots = where(gone)
    if len(slots):
        roster.table.remove(slots)
        for slot in roster.natives.keys() & set(slots.tolist()):
            del roster.natives[slot]
        for native in roster.natives.values():
            native.buckets[:] = [slot for slot in native.buckets if not gone[slot]]
        series.reset(slots)
        for name in ("wanted", "node"):
            told = roster.entities[name]
            told[np.isin(told, slots)] = NOWHERE


def _sweep_strands(roster: Roster) -> Ints:
    used = roster.strand_slots.used
    strand = roster.series["strand"]
    fed = np.bincount(strand[strand >= 0], minlength=used)
    gone = where((roster.strands["signal"][:used] != NOWHERE) & (fed[:used] == 0))
    if len(gone):
        roster.strands.reset(gone)
        roster.strand_slots.free.extend(gone.tolist())
        roster.version += 1
    return gone


def _sweep_members(roster: Roster) -> Ints:
    used = roster.member_slots.used
    member = roster.strands["member"]
    woven = np.bincount(member[member >= 0], minlength=used)
    entity = roster.members["entity"][:used]
    gone = where((entity != NOWHERE) & (woven[:used] == 0))
    for slot in gone.tolist():
        del roster.member_slot[int(entity[slot]), roster.names[slot]]
        roster.entities["members"][entity[slot]] -= 1
        roster.names[slot] = ""
    roster.members.reset(gone)
    roster.member_slots.free.extend(gone.tolist())
    return gone


def _sweep_signals(roster: Roster, now_ms: int) -> None:
    signals, used = roster.signals, roster.signal_slots.used
    signal = roster.strands["signal"]
    fed = np.bincount(signal[signal >= 0], minlength=used)[:used] > 0
    partner = signals["partner"][:used]
    fed[partner[fed & (partner != NOWHERE)]] = True
    alive = roster.entities["members"] > 0
    fed[roster.entities["presence"][alive & (roster.entities["presence"] != NOWHERE)]] = True
    signals["fed_ms"][:used][fed] = now_ms
    entity = signals["entity"][:used]
    fed_ms = signals["fed_ms"][:used]
    gone = where((entity != NOWHERE) & (fed_ms < now_ms - _SIGNALS_MS))
    for slot in gone.tolist():
        watched = roster.watched[slot]
        assert watched is not None
        roster.forget_name(watched.signal, slot)
        roster.entities["signals"][entity[slot]] -= 1
        roster.watched[slot] = None
    signals.reset(gone)
    roster.signal_slots.free.extend(gone.tolist())


def _sweep_entities(roster: Roster) -> None:
    used = roster.entity_slots.used
    entities = roster.entities
    empty = (entities["signals"][:used] == 0) & (entities["members"][:used] == 0)
    for slot in where(empty).tolist():
        if roster.keys[slot]:
            del roster.entity_slot[roster.keys[slot]]
            roster.keys[slot] = ""
            entities.reset(np.array([slot]))
            roster.entity_slots.free.append(slot)
