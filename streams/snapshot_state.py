"""What of a shard's state goes into a snapshot: names as JSON, everything else as columns.

Texts that seldom change are columns of bytes of their own, so that they are written once.
"""

import json
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any, Final, NamedTuple

import numpy as np
import numpy.typing as npt

from watchkeep.detectors.arrays import Arrays, Slots
from watchkeep.detectors.cells import Grid, Open
from watchkeep.detectors.idtable import IdTable
from watchkeep.detectors.left_out import Refused, Unwatched
from watchkeep.detectors.places import Native
from watchkeep.detectors.roster import Roster, Watched
from watchkeep.schemas.settings import Detect
from watchkeep.schemas.signal import Folding, Role, Signal
from watchkeep.streams.pipeline import Cluster

Column = npt.NDArray[Any]
Columns = dict[str, Column]

_SLOTS: Final = ("strand_slots", "member_slots", "signal_slots", "entity_slots")
_ARRAYS: Final = ("series", "strands", "members", "signals", "entities")
_OPEN: Final = ("weighted", "covered", "seen", "from_ms", "to_ms")
_BANK: Final = "bank/"
# Columns whose place in the stream changes with every new series or cell.
FLEETING: Final = frozenset({"open", "free"})


class State(NamedTuple):
    """A part of the state.

    Attributes:
        head: what is no column, for JSON.
        columns: by name; the first part of a name says what it is of.
    """

    head: dict[str, Any]
    columns: Columns


def capture_cluster(cluster: Cluster) -> State:
    """Copy the state of a cluster."""
    fold, roster = cluster.fold, cluster.fold.roster
    columns: Columns = {}
    for part, arrays in _parts(cluster).items():
        columns |= {f"{part}/{name}": column for name, column in arrays.dump().items()}
    columns |= {f"{_BANK}{name}": column for name, column in cluster.bank.dump().items()}
    for step_s, grid in fold.grids.items():
        for index, cell in grid.open.items():
            for name in _OPEN:
                columns[f"open/{step_s}/{index}/{name}"] = getattr(cell, name).copy()
    columns["ids/series"] = roster.table.ids.copy()
    columns["free/series"] = np.array(roster.table.slots.free, np.int64)
    for name in _SLOTS:
        columns[f"free/{name}"] = np.array(getattr(roster, name).free, np.int64)
    columns["names/all"] = np.frombuffer(json.dumps(_names(roster)).encode(), np.uint8)
    head = {
        "used": [roster.table.slots.used, *(getattr(roster, name).used for name in _SLOTS)],
        "grids": [[step_s, grid.next_cell, list(grid.open)] for step_s, grid in fold.grids.items()],
        "swept": fold.swept,
        "drops": fold.drops,
        "blamed": fold.blamed,
        "refused": [[*key, *refused] for key, refused in roster.left_out.refused.items()],
        "natives": [[slot, *native] for slot, native in roster.natives.items()],
        "renewed": roster.renewed,
        "minute": [roster.minute, roster.new_this_minute],
        "windows": cluster.windows.dump(),
    }
    return State(head, columns)


def _parts(cluster: Cluster) -> dict[str, Arrays]:
    roster = cluster.fold.roster
    return {name: getattr(roster, name) for name in _ARRAYS} | {
        "rows": cluster.ids,
        "levels": cluster.windows.entities,
    }


def _names(roster: Roster) -> dict[str, Any]:
    return {
        "signals": [watched and _flat(watched) for watched in roster.watched],
        # A signal whose kind was unknown is known under its first name too.
        "also": [
            [list(signal), slot]
            for signal, slot in roster.signal_slot.items()
            if roster.signal(slot) != signal
        ],
        "members": roster.names,
        "entities": roster.keys,
        "unwatched": [
            [*entry[:4], entry.example.decode("latin-1")] for entry in roster.left_out.unwatched
        ],
    }


def _flat(watched: Watched) -> list[Any]:
    signal, role, why, step_s, folded, example = watched
    return [list(signal), role, why, step_s, folded, example.decode("latin-1")]


def load_cluster(state: State, settings: Detect) -> Cluster:
    """Make a cluster from its state."""
    head, columns = state
    cluster = Cluster(settings)
    fold, roster = cluster.fold, cluster.fold.roster
    for part, arrays in _parts(cluster).items():
        arrays.restore(_of(columns, part))
    cluster.bank.restore(_of(columns, _BANK.rstrip("/")))
    roster.table = IdTable(columns["ids/series"])
    used, *others = head["used"]
    roster.table.slots = Slots(used, columns["free/series"].tolist())
    for name, count in zip(_SLOTS, others, strict=True):
        setattr(roster, name, Slots(count, columns[f"free/{name}"].tolist()))
    _load_names(roster, json.loads(columns["names/all"].tobytes()))
    for step_s, next_cell, indexes in head["grids"]:
        grid = fold.grids[step_s] = Grid(step_s * 1000)
        grid.next_cell = next_cell
        for index in indexes:
            cell = _of(columns, f"open/{step_s}/{index}")
            grid.open[index] = Open(**{name: column.copy() for name, column in cell.items()})
    fold.swept, fold.drops = head["swept"], Counter(head["drops"])
    fold.blamed = {reason: (whose, at_ms) for reason, (whose, at_ms) in head["blamed"].items()}
    roster.left_out.refused = {
        (limit, entity): Refused(*rest) for limit, entity, *rest in head["refused"]
    }
    roster.natives = {slot: Native(*native) for slot, *native in head["natives"]}
    roster.renewed = head["renewed"]
    roster.minute, roster.new_this_minute = head["minute"]
    cluster.windows.restore(head["windows"])
    # Budgets may be others now.
    cluster.windows.place([slot for slot, key in enumerate(roster.keys) if key])
    return cluster


def _of(columns: Mapping[str, Column], part: str) -> Columns:
    start = f"{part}/"
    return {
        name.removeprefix(start): column
        for name, column in columns.items()
        if name.startswith(start)
    }


def _load_names(roster: Roster, names: dict[str, Any]) -> None:
    roster.watched = [entry and _watched(entry) for entry in names["signals"]]
    roster.signal_slot = {
        watched.signal: slot for slot, watched in enumerate(roster.watched) if watched
    } | {_signal(entry): slot for entry, slot in names["also"]}
    roster.names, roster.keys = names["members"], names["entities"]
    entities = roster.members["entity"].tolist()
    roster.member_slot = {
        (entity, name): slot
        for slot, (entity, name) in enumerate(zip(entities, roster.names, strict=False))
        if entity >= 0
    }
    roster.entity_slot = {key: slot for slot, key in enumerate(roster.keys) if key}
    roster.left_out.recall(
        Unwatched(entity, metric, reason, why, example.encode("latin-1"))
        for entity, metric, reason, why, example in names["unwatched"]
    )
    roster.steps = sorted({watched.step_s for watched in roster.watched if watched})


def _watched(entry: Iterable[Any]) -> Watched:
    signal, role, why, step_s, folded, example = entry
    return Watched(
        _signal(signal), Role(role), why, step_s, tuple(folded), example.encode("latin-1")
    )


def _signal(entry: Iterable[Any]) -> Signal:
    entity, metric, labels, folding = entry
    pairs = tuple((name, value) for name, value in labels)
    return Signal(entity, metric, pairs, Folding(folding))
