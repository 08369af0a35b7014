"""Strikes: faults, and what only looks like one, put into time and place."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np

from watchkeep.schemas.entity import Entity, EntityKind
from watchkeep.schemas.errors import ConfigError
from watchkeep.shop.blueprint import CLUSTER, NAMESPACE, Blueprint, Role
from watchkeep.shop.kinds import FACTORS, Dial, Effect, Kind, Shape, Target, read, shipped
from watchkeep.shop.times import HOUR_MS, MINUTE_MS, Floats, Times

_CALM_MS: Final = (30 * MINUTE_MS, 45 * MINUTE_MS)
_SPIKE: Final = 0.2


@dataclass(frozen=True, slots=True)
class Strike:
    """One kind, somewhere, for some time.

    Attributes:
        where: the workload that it strikes; of an edge the callee, of users the first one.
        caller: of an edge, who calls.
        slot: of a pod, its number in the workload; of a node, its number.
    """

    kind: Kind
    where: str
    onset_ms: int
    end_ms: int
    caller: str = ""
    slot: int = 0

    @property
    def root(self) -> str:
        """The entity where it begins."""
        if self.kind.target is Target.NODE:
            return node(self.slot)
        return workload(self.where)


def workload(name: str) -> str:
    """Name a workload's entity."""
    return Entity(EntityKind.WORKLOAD, CLUSTER, NAMESPACE, name).key


def node_name(number: int) -> str:
    """Name the node with a number; a node that takes another's place has a number of its own."""
    return f"node-{number + 1}"


def node(number: int) -> str:
    """Name a node's entity."""
    return Entity(EntityKind.NODE, CLUSTER, "", node_name(number)).key


def chosen(folder: Path | None, blueprint: Blueprint) -> dict[str, Kind]:
    """Read the kinds of a folder, or those that are shipped, for a shop that they can strike.

    Raises:
        ConfigError: one of them is wrong, or has nothing to strike.
    """
    kinds = shipped() if folder is None else read(folder)
    require(kinds, blueprint)
    return kinds


def require(kinds: Mapping[str, Kind], blueprint: Blueprint) -> None:
    """See that a shop has something for each kind to strike.

    Raises:
        ConfigError: it has nothing for one of them.
    """
    for kind in kinds.values():
        if not _places(kind, blueprint):
            names = ", ".join(blueprint.names)
            raise ConfigError(
                f"{kind.name}.toml: among: there is nothing to strike; the workloads are {names}"
                + (" (of an edge those that are called)" if kind.target is Target.EDGE else "")
            )


def _places(kind: Kind, blueprint: Blueprint) -> list[tuple[str, str]]:
    """List the callers (of an edge) and workloads that a kind may strike."""
    if kind.target is Target.USERS:
        return [("", blueprint.names[0])]
    if kind.target is Target.EDGE:
        return [
            (caller, callee)
            for caller, callee, _ in blueprint.edges
            if not kind.among or callee in kind.among
        ]
    able = [name for name in blueprint.names if _able(kind, blueprint, name)]
    if kind.among:
        return [("", name) for name in able if name in kind.among]
    # Where all users arrive it is too easy; that has to be asked for.
    return [("", name) for name in able if name != blueprint.names[0]]


def _able(kind: Kind, blueprint: Blueprint, name: str) -> bool:
    """Tell whether a kind can do anything to a workload."""
    service = blueprint.services[name]
    if kind.change != "none" and service.role is not Role.SERVICE:
        return False
    if any(effect.what is Dial.CONSUMERS for effect in kind.effects):
        return blueprint.queue is not None and name == blueprint.queue[2]
    # One of several: where there is one pod only, it would be the whole workload.
    return kind.target is not Target.POD or service.pods > 1


def place(
    rng: np.random.Generator,
    kinds: Mapping[str, Kind],
    blueprint: Blueprint,
    begin_ms: int,
    end_ms: int,
) -> tuple[Strike, ...]:
    """Put kinds into a stretch of time one after the other, until it is full.

    Each kind comes once before any comes twice, and some calm lies between two of them.
    """
    able = [kind for kind in kinds.values() if _places(kind, blueprint)]
    strikes: list[Strike] = []
    now_ms, waiting = begin_ms, list[Kind]()
    while able:
        if not waiting:
            waiting = [able[i] for i in rng.permutation(len(able))]
        kind = waiting.pop()
        length_ms = round(rng.uniform(*kind.minutes) * MINUTE_MS)
        onset_ms = now_ms + int(rng.integers(*_CALM_MS))
        if onset_ms + length_ms > end_ms:
            # A shorter one may still fit, but not for ever.
            if onset_ms + HOUR_MS > end_ms or not waiting:
                break
            continue
        strikes.append(_strike(rng, kind, blueprint, onset_ms, onset_ms + length_ms))
        now_ms = onset_ms + length_ms
    return tuple(strikes)


def _strike(
    rng: np.random.Generator, kind: Kind, blueprint: Blueprint, onset_ms: int, end_ms: int
) -> Strike:
    places = _places(kind, blueprint)
    caller, where = places[int(rng.integers(len(places)))]
    slots = blueprint.nodes if kind.target is Target.NODE else blueprint.services[where].pods
    slot = int(rng.integers(slots))
    return Strike(kind, where, onset_ms, end_ms, caller, slot)


def course(strike: Strike, effect: Effect, times: Times) -> Floats:
    """Give an effect's strength over time: float64[times], 0 to 1, 0 outside its time."""
    length_ms = strike.end_ms - strike.onset_ms
    begin_ms = strike.onset_ms + effect.begins * length_ms
    end_ms = strike.onset_ms + effect.ends * length_ms
    share = (times - begin_ms) / (end_ms - begin_ms)
    turns = (times - begin_ms) / (effect.every_minutes * MINUTE_MS) % 1
    shapes = {
        Shape.STEP: np.ones(len(times)),
        Shape.RAMP: share,
        Shape.HUMP: np.sin(np.pi * share) ** 2,
        Shape.SAW: turns,
        Shape.SPIKES: (turns < _SPIKE).astype(np.float64),
    }
    return np.asarray(np.where((share >= 0) & (share < 1), shapes[effect.shape], 0.0))


def turned(effect: Effect, strength: Floats) -> Floats:
    """Give what an effect makes of its dial: a factor around 1, or an addition."""
    if effect.what in FACTORS:
        return np.asarray(1 + (effect.size - 1) * strength)
    return np.asarray(effect.size * strength)


def during(strikes: Sequence[Strike], begin_ms: int, end_ms: int) -> list[Strike]:
    """List the strikes that a stretch of time meets."""
    return [s for s in strikes if s.onset_ms < end_ms and s.end_ms > begin_ms]
