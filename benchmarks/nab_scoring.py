"""The scores of the Numenta Anomaly Benchmark, computed anew from its published rules.

An alarm in a window earns the more the earlier it comes; only the best one in each window counts. A
missed window costs. Every alarm outside windows costs too, a little less soon after one. The sum is
put on a scale where no alarm at all gets 0, and an alarm at the first row of every window and no
other gets 100.

Every threshold is tried at once: rows are sorted by rarity, and each one knows what it adds to the
sums as the threshold falls to it.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Final, NamedTuple

import numpy as np

from corpora import Floats, LayoutError, Longs, Recorded, json_file

PROFILES: Final = {
    "standard": "standard",
    "low_fp": "reward_low_FP_rate",
    "low_fn": "reward_low_FN_rate",
}
_FAR: Final = 3.0  # Windows' widths behind a window, where an alarm costs all of the weight.


class Profile(NamedTuple):
    """What a found window earns, and what a false alarm and a missed window cost."""

    found: float
    false: float
    missed: float


class Steps(NamedTuple):
    """What the scored rows of one record add to its sums as the threshold falls to them.

    Attributes:
        level: float64[n], falling: the rarity of a row.
        added: float64[n, 3]: earliness of windows' best alarms, windows found, and false alarms by
            how much each costs (negative).
        windows: how many there are.
    """

    level: Floats
    added: Floats
    windows: int


class Score(NamedTuple):
    """A normalised score.

    Attributes:
        score: 0 for no alarms, 100 for the best there can be; below 0 for many false alarms.
        threshold: alarms are rarities from here on; NaN where no alarm at all scores best.
        parts: float64[records, 2]: what each record earns over no alarms, and what it could earn.
    """

    score: float
    threshold: float
    parts: Floats


def profiles(folder: Path) -> dict[str, Profile]:
    """Read the weights of each profile from a corpus, by our short names."""
    stored = json_file(folder / "profiles.json")
    missing = set(PROFILES.values()) - set(stored)
    if missing:
        raise LayoutError(f"{folder / 'profiles.json'} lacks {', '.join(sorted(missing))}")
    matrices = {short: stored[name]["CostMatrix"] for short, name in PROFILES.items()}
    return {
        short: Profile(*(float(matrix[f"{weight}Weight"]) for weight in ("tp", "fp", "fn")))
        for short, matrix in matrices.items()
    }


def steps(record: Recorded, rarity: Floats) -> Steps:
    """Prepare a record.

    Args:
        record: its windows are `segments`, its probation ends at `split`.
        rarity: float64[T]; NaN and -inf are never alarms.
    """
    assert rarity.shape == record.time_ms.shape, record.name
    worth, window = _worth(record)
    able = np.flatnonzero(rarity > -np.inf)
    able = able[able >= record.split]
    able = able[np.argsort(-rarity[able], kind="stable")]
    added = np.zeros((len(able), 3))
    outside = window[able] < 0
    added[outside, 2] = worth[able[outside]]
    kept = np.flatnonzero(record.segments[:, 1] > record.split)
    for number in kept:
        inside = np.flatnonzero(window[able] == number)
        if len(inside):
            best = np.maximum.accumulate(worth[able[inside]])
            added[inside, 0] = np.diff(best, prepend=0.0)
            added[inside[0], 1] = 1.0
    return Steps(rarity[able], added, len(kept))


def _worth(record: Recorded) -> tuple[Floats, Longs]:
    """Tell of each row what an alarm there is worth, and which window it is in, or -1.

    Returns:
        float64[T]: 1 at the first row of a window down to nearly 0 at its last; behind it from 0
        down to -1. int64[T].
    """
    row = np.arange(len(record.time_ms))
    begin, end = record.segments.T
    following = np.searchsorted(end, row, side="right")  # The first window that ends later.
    inside = np.zeros(len(row), bool)
    open_ = following < len(end)
    inside[open_] = begin[following[open_]] <= row[open_]
    place = np.full(len(row), np.inf)
    own = following[inside]
    place[inside] = (row[inside] - end[own]) / (end[own] - begin[own])
    behind = ~inside & (following > 0)
    last = following[behind] - 1
    # A window of one row has no width to measure by: all behind it is far.
    with np.errstate(divide="ignore"):
        place[behind] = (row[behind] - end[last] + 1) / (end[last] - begin[last] - 1)
    worth = _sigmoid(place)
    worth[inside] /= _sigmoid(np.array([-1.0]))
    return worth, np.where(inside, following, -1)


def _sigmoid(place: Floats) -> Floats:
    """Fall from 1 to -1 with the place relative to a window's end, in widths: float64[n]."""
    return np.where(place >= _FAR, -1.0, 2 / (1 + np.exp(5 * np.minimum(place, _FAR))) - 1)


def best(prepared: Sequence[Steps], profile: Profile) -> Score:
    """Score at the one threshold that is best for all records together, as the benchmark does."""
    return at(prepared, profile, best_threshold(prepared, profile))


def best_threshold(prepared: Sequence[Steps], profile: Profile) -> float:
    """Find the threshold that earns most; of several, the highest. NaN: better none at all."""
    level = np.concatenate([of.level for of in prepared])
    earned = np.concatenate([_earned(of.added, profile) for of in prepared])
    order = np.argsort(-level, kind="stable")
    level, total = level[order], earned[order].cumsum()
    # Rows of the same rarity alarm together.
    last = np.flatnonzero(np.append(level[1:] != level[:-1], True)) if len(level) else order
    if not len(last) or total[last].max() <= 0:
        return np.nan
    return float(level[last[total[last].argmax()]])


def at(prepared: Sequence[Steps], profile: Profile, threshold: float) -> Score:
    """Score at a threshold that was chosen before."""
    earned = [_earned(of.added[of.level >= threshold], profile).sum() for of in prepared]
    could = [(profile.found + profile.missed) * of.windows for of in prepared]
    parts = np.array([earned, could]).T
    return Score(float(normalised(parts.sum(axis=0))), threshold, parts)


def _earned(added: Floats, profile: Profile) -> Floats:
    weights = np.array([profile.found, profile.missed, profile.false])
    return np.asarray(added @ weights)


def normalised(sums: Floats) -> Floats:
    """Put sums of parts on the scale of 0 to 100: float64[..., 2] -> float64[...]."""
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.asarray(100 * sums[..., 0] / sums[..., 1])


def leaving_out(
    prepared: Sequence[Steps], groups: Sequence[str], profile: Profile
) -> tuple[float, dict[str, float]]:
    """Score each group at the threshold that is best for all the others.

    Returns:
        The score over all groups, from their pooled sums, and the threshold of each group. NaN and
        none where there is only one group.
    """
    names = sorted(set(groups))
    if len(names) < 2:
        return np.nan, {}
    thresholds, sums = {}, np.zeros(2)
    for name in names:
        others = [of for of, group in zip(prepared, groups, strict=True) if group != name]
        own = [of for of, group in zip(prepared, groups, strict=True) if group == name]
        thresholds[name] = best_threshold(others, profile)
        sums += at(own, profile, thresholds[name]).parts.sum(axis=0)
    return float(normalised(sums)), thresholds
