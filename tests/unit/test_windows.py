"""Windows open by the budget, go on while what was seen lasts, and cool down."""

from typing import Any

import numpy as np
import pytest

from watchkeep.schemas.frame import Frame, FrameKind, LabelSet, MetricKind, SenderTime
from watchkeep.schemas.labels import canonical, series_id
from watchkeep.schemas.settings import BudgetRule, Detect
from watchkeep.schemas.signal import Role
from watchkeep.schemas.signal_rules import SignalRule
from watchkeep.schemas.window import Window, WindowState
from watchkeep.streams.pipeline import Shard

MINUTE_MS = 60_000
BEGIN_MS = 1_772_409_600_000  # A Monday, 00:00 UTC.
QUIET = 24 * 60
RULE = SignalRule(why="It is the test's.", when={"__name__": "depth|lag"}, role=Role.PAGE)
ENTITY = "workload/c/shop/cart"


def run(values: dict[str, list[float]], **settings: Any) -> tuple[list[Window], Shard]:  # noqa: ANN401 - Whatever a setting takes.
    """Let a shard see a gauge of each name, a sample a minute."""
    shard = Shard(Detect(**{"rules": (RULE,), "grace_s": 1.0, **settings}))
    forms = {name: canonical({"__name__": name, "pod": "p"}.items()) for name in values}
    sets = tuple(
        LabelSet(series_id(form), MetricKind.GAUGE, ENTITY, "p", form) for form in forms.values()
    )
    found = []
    for cell in range(max(map(len, values.values()))):
        now_ms = BEGIN_MS + cell * MINUTE_MS + 30_000
        frame = Frame(
            FrameKind.DATA,
            "gateway-0",
            now_ms,
            "rules",
            (SenderTime("c", "", now_ms, now_ms),),
            np.array([entry.series_id for entry in sets], np.uint64),
            np.full(len(sets), now_ms, np.int64),
            np.array([column[cell] for column in values.values()]),
            sets if cell % 10 == 0 else (),
        )
        found += shard.apply(frame).windows
    return found, shard


def noise(cells: int, seed: int = 1) -> list[float]:
    made: list[float] = np.random.default_rng(seed).normal(100, 1, cells).tolist()
    return made


def test_a_shift_opens_one_window_that_ends_when_the_signal_is_back() -> None:
    value = [*noise(QUIET), *[400 + x for x in noise(40)], *noise(60, 2)]
    found, _ = run({"depth": value})
    after = [w for w in found if w.onset_ms >= BEGIN_MS + (QUIET - 2) * MINUTE_MS]
    assert len({window.window_id for window in after}) == 1
    assert after[0].state is WindowState.OPEN
    assert after[-1].state is WindowState.CLOSED
    (evidence, *_) = after[-1].evidence
    assert evidence.metric == "depth"
    assert evidence.low < 100 < evidence.high < 400
    ended = (after[-1].ended_ms or 0) - BEGIN_MS
    assert QUIET + 35 <= ended // MINUTE_MS <= QUIET + 70


def test_a_small_budget_tells_less() -> None:
    value = noise(QUIET + 200)
    for at, height in ((QUIET + 20, 3), (QUIET + 100, 6)):
        value[at] += 10 * height
    many, few = (run({"depth": value}, budget=budget)[0] for budget in (100, 0.01))
    assert len({w.window_id for w in many}) > len({w.window_id for w in few})
    assert all(window.strength >= 2 for window in few)


def test_a_rule_gives_entities_a_budget_of_their_own() -> None:
    rules = (
        BudgetRule(entity="workload/c/shop/*", budget=10),
        BudgetRule(entity="workload/*", budget=0.1),
    )
    settings = Detect(budget=1, budgets=rules)
    assert settings.opens_at(ENTITY) == -1
    assert settings.opens_at("workload/c/pay/cart") == 1
    assert settings.opens_at("node/c//n1") == 0
    _, shard = run({"depth": noise(3)}, budgets=rules)
    (cluster,) = shard.clusters.values()
    slot = cluster.fold.roster.entity_slot[ENTITY]
    assert cluster.windows.entities["opens"][slot] == -1


def test_the_same_again_opens_no_window_for_a_while() -> None:
    value = noise(QUIET + 200)
    for at in (QUIET, QUIET + 60, QUIET + 150):
        value[at] += 300
    calm, hasty = (run({"depth": value}, cool_down_s=s, budget=10)[0] for s in (10_000, 1))
    begun = [
        sorted({w.onset_ms for w in found if w.onset_ms >= BEGIN_MS + (QUIET - 2) * MINUTE_MS})
        for found in (calm, hasty)
    ]
    assert len(begun[0]) < len(begun[1])


@pytest.mark.parametrize(
    ("days", "zone", "teaches"),
    [
        ((), "UTC", True),
        (("2026-03-02",), "UTC", False),
        (("2026-03-03",), "UTC", True),
        (("2026-03-01",), "America/New_York", False),
    ],
)
def test_days_that_are_excluded_teach_nothing(
    days: tuple[str, ...], zone: str, *, teaches: bool
) -> None:
    _, shard = run({"depth": noise(180)}, excluded_days=days, time_zone=zone)
    (cluster,) = shard.clusters.values()
    slot = next(
        slot
        for slot, watched in enumerate(cluster.fold.roster.watched)
        if watched and watched.signal.metric == "depth"
    )
    columns = cluster.bank.dump()
    assert (columns["spike-rarity/count"][slot] > 0) == teaches
    assert (columns["envelope/cells"][slot] > 0) == teaches
    assert columns["spike/level"][slot] == pytest.approx(100, abs=2)


def test_a_zone_that_is_none_is_refused() -> None:
    with pytest.raises(ValueError, match="no time zone"):
        Detect(time_zone="Mars/Olympus")


def test_what_only_decides_keeps_what_was_learnt() -> None:
    usual = Detect()
    assert Detect(budget=3).state_version == usual.state_version
    assert Detect(excluded_days=("2026-12-25",)).state_version == usual.state_version
    assert Detect(hold_s=60).state_version != usual.state_version
    assert Detect(budget=3).version != usual.version
