"""The ground truth: what each strike really moves, and what was changed.

The load is computed with and without a strike, both without noise; an entity is affected where
the two differ.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Final

import numpy as np

from watchkeep.shop.blocks import Block, Calendar
from watchkeep.shop.blueprint import Blueprint
from watchkeep.shop.load import Load, Model
from watchkeep.shop.plan import Plan
from watchkeep.shop.strikes import Strike, node, workload
from watchkeep.shop.times import MINUTE_MS, SCRAPE_MS, Floats

_BEFORE_MS: Final = 10 * MINUTE_MS
_AFTER_MS: Final = 15 * MINUTE_MS
_MOVED: Final = 0.03
_FAILING: Final = 0.005
_WAITING: Final = 50.0
_STEPS: Final = 2


@dataclass(frozen=True, slots=True)
class Truth:
    """What is known of one strike.

    Attributes:
        fault: False for what nobody should be paged about.
        root: the entity where it begins.
        affected: entities whose signals it really moves, the root first.
    """

    kind: str
    title: str
    fault: bool
    root: str
    affected: tuple[str, ...]
    onset_ms: int
    end_ms: int


def truths(blueprint: Blueprint, plan: Plan) -> tuple[Truth, ...]:
    """Tell the truth of each strike of a plan."""
    calendar = Calendar(plan)
    return tuple(_truth(blueprint, plan, calendar, strike) for strike in plan.strikes)


def as_json(plan: Plan, told: tuple[Truth, ...]) -> dict[str, Any]:
    """Give strikes and changes as what JSON has."""
    changes = [{**change._asdict(), "entity": _entity(change.what)} for change in plan.changes]
    return {"strikes": [asdict(truth) for truth in told], "changes": changes}


def _entity(what: str) -> str:
    number = what.removeprefix("node-")
    return node(int(number) - 1) if number.isdigit() else workload(what)


def _truth(blueprint: Blueprint, plan: Plan, calendar: Calendar, strike: Strike) -> Truth:
    begin_ms = max(strike.onset_ms - _BEFORE_MS, plan.start_ms)
    times = np.arange(begin_ms, min(strike.end_ms + _AFTER_MS, plan.end_ms), SCRAPE_MS)
    blocks = calendar.block(times), calendar.block(times, strike)
    ill, well = (
        _watched(blueprint, plan, block, Model(blueprint, plan, strikes).load(block, None))
        for block, strikes in zip(blocks, ((strike,), ()), strict=True)
    )
    moved = [entity for entity in well if _moves(ill[entity], well[entity])]
    affected = (strike.root, *(entity for entity in moved if entity != strike.root))
    kind = strike.kind
    return Truth(
        kind.name, kind.title, kind.fault, strike.root, affected, strike.onset_ms, strike.end_ms
    )


def _watched(
    blueprint: Blueprint, plan: Plan, block: Block, load: Load
) -> dict[str, Mapping[str, Floats]]:
    """Give what is compared, by entity."""
    owners = np.array([plan.pods[life.pod].workload for life in block.lives])
    watched: dict[str, Mapping[str, Floats]] = {}
    for i, name in enumerate(blueprint.names):
        mine = owners == name
        rate = load.rate[:, mine]
        whole = rate.sum(axis=1)
        shares = np.divide(rate, whole[:, None], out=np.zeros_like(rate), where=whole[:, None] > 0)
        watched[workload(name)] = {
            "rate": load.asked[:, i],
            "latency": (shares * load.latency_s[:, mine]).sum(axis=1),
            "cpu": load.cpu[:, mine].sum(axis=1),
            "memory": (load.memory[:, mine] * block.alive[:, mine]).max(axis=1, initial=0),
            # Where nobody is ready, all fail.
            "errors": 1 - (shares * (1 - load.errors[:, mine])).sum(axis=1),
            "waiting": load.backlog * (blueprint.queue is not None and name == blueprint.queue[0]),
        }
    for number, (begin_ms, end_ms) in enumerate(plan.nodes):
        if begin_ms <= block.times[0] and block.times[-1] < end_ms:
            busy, disk = load.node_cpu[:, number], load.node_disk[:, number]
            watched[node(number)] = {"cpu": busy, "disk": disk}
    return watched


def _moves(ill: Mapping[str, Floats], well: Mapping[str, Floats]) -> bool:
    return any(_differs(name, ill[name], well[name]) for name in well)


def _differs(name: str, ill: Floats, well: Floats) -> bool:
    apart = np.abs(ill - well)
    limit = {"errors": _FAILING, "waiting": _WAITING}.get(name)
    much = apart > (_MOVED * np.abs(well) if limit is None else limit)
    return int(np.count_nonzero(much & (apart > 1e-9))) >= _STEPS
