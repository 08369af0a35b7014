"""One run through the shop's time, block by block."""

from collections.abc import Iterator
from typing import Final, NamedTuple

import numpy as np

from watchkeep.shop.batches import Batch
from watchkeep.shop.blocks import BEFORE_MS, Bools, Calendar, Indexes
from watchkeep.shop.blueprint import Blueprint
from watchkeep.shop.exhibits import Exhibits
from watchkeep.shop.load import Model
from watchkeep.shop.noise import Wobbles
from watchkeep.shop.plan import Plan
from watchkeep.shop.scene import Lasting, Scene
from watchkeep.shop.scrapes import SKEW_MS, STALE, Scrapes, Sent
from watchkeep.shop.times import SCRAPE_MS, Floats, Times

_BLOCK_MS: Final = 120 * SCRAPE_MS


class _Shown(NamedTuple):
    """All columns of a block, in the order of groups, things and families."""

    value: Floats
    present: Bools
    series: Indexes
    target: Indexes


class Run:
    """Computes all samples once; another run of the same parts gives the same."""

    def __init__(
        self, blueprint: Blueprint, plan: Plan, layout: Exhibits, seed: int, replicas: int
    ) -> None:
        self._blueprint, self._plan, self._layout = blueprint, plan, layout
        span_ms = (plan.start_ms, plan.end_ms)
        self._rng = np.random.default_rng([seed, 2])
        self._calendar = Calendar(plan)
        self._model = Model(blueprint, plan, plan.strikes)
        self._wobbles = Wobbles(self._rng, len(plan.pods), span_ms, tame=blueprint.lean)
        self._lasting = Lasting(plan)
        self._scrapes = [
            Scrapes(
                np.random.default_rng([seed, 3, number]),
                len(layout.targets),
                span_ms,
                skew_ms=number * SKEW_MS,
                tidy=blueprint.lean,
            )
            for number in range(replicas)
        ]
        self._sent = [Sent(layout.series) for _ in range(replicas)]

    def blocks(self, from_ms: int, until_ms: int) -> Iterator[Batch]:
        """Give the samples of each block in a stretch of time; what came before is gone through."""
        for begin_ms in range(self._plan.start_ms, until_ms, _BLOCK_MS):
            times = np.arange(begin_ms, min(begin_ms + _BLOCK_MS, until_ms), SCRAPE_MS)
            batch = self._sent_of(times, self._shown(times))
            if begin_ms >= from_ms:
                yield batch

    def _shown(self, times: Times) -> _Shown:
        block = self._calendar.block(times)
        pods = np.array([life.pod for life in block.lives], np.intp)
        load = self._model.load(block, self._wobbles.block(times, pods))
        scene = Scene(self._blueprint, self._plan, block, load, self._rng, self._lasting)
        values, presents, series, targets = [], [], [], []
        for group, make in self._layout.shown:
            which = group.who(int(times[0]) - BEFORE_MS, int(times[-1]) + 1)
            if not len(which):
                continue
            filled = group.fill(make(scene, which), which)
            values.append(filled.value.reshape(len(times), -1))
            presents.append(filled.present.reshape(len(times), -1))
            first = group.base + which * group.columns
            series.append((first[:, None] + np.arange(group.columns)).ravel())
            targets.append(np.repeat(group.targets[which], group.columns))
        return _Shown(
            np.concatenate(values, axis=1),
            np.concatenate(presents, axis=1),
            np.concatenate(series),
            np.concatenate(targets),
        )

    def _sent_of(self, times: Times, shown: _Shown) -> Batch:
        """Send what every Prometheus sees, scrape after scrape."""
        parts = [self._seen(times, shown, number) for number in range(len(self._scrapes))]
        offset = np.concatenate(
            [self._scrapes[i].offset_ms[shown.target] for i in range(len(parts))]
        )
        order = np.argsort(offset, kind="stable")
        skew = np.repeat([scrapes.skew_ms for scrapes in self._scrapes], len(shown.target))
        series = np.concatenate([shown.series + i * self._layout.series for i in range(len(parts))])
        mask = np.concatenate([sent for sent, _ in parts], axis=1)[:, order]
        value = np.concatenate([value for _, value in parts], axis=1)[:, order]
        ahead = (offset + skew)[order]
        rows, columns = np.nonzero(mask)
        return Batch(
            series[order].astype(np.int32)[columns],
            times[rows] + ahead[columns],
            value[rows, columns],
        )

    def _seen(self, times: Times, shown: _Shown, number: int) -> tuple[Bools, Floats]:
        """Tell what one Prometheus sends: which columns when, and with stale markers."""
        scrapes, sent = self._scrapes[number], self._sent[number]
        running = scrapes.running(times)
        missed = scrapes.missed(times)[:, shown.target]
        present, value = shown.present, shown.value
        if missed.any():
            own = shown.series < self._layout.own
            present = present & (~missed | own)
            value = np.where(missed & self._layout.zeroed[shown.series], 0.0, value)
        ended = sent.ended(shown.series, present, running)
        if ended.any():
            value = np.where(ended, STALE, value)
        return (present | ended) & running[:, None], value
