"""What belongs together in a family: a histogram's buckets, and each sum with its count."""

from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import numpy.typing as npt

from watchkeep.detectors.arrays import begins, where
from watchkeep.detectors.columns import CLASSIC, FOLDINGS, NOWHERE
from watchkeep.detectors.quantiles import Layout, layout
from watchkeep.schemas.signal import Folding

if TYPE_CHECKING:
    from watchkeep.detectors.roster import Roster

Ints = npt.NDArray[np.int64]


class Buckets(NamedTuple):
    """The buckets of all histograms, by signal and bound.

    Attributes:
        at: int64[k], their strands; `bound`, `low`: float64[k].
        native: bool[h], whether their counts are their own, not of all below the bound.
        layout: which bucket is of which histogram.
        p99, p50, counted: int64[h], the signals of each: its quantiles, and its rate.
    """

    at: Ints
    bound: npt.NDArray[np.float64]
    low: npt.NDArray[np.float64]
    native: npt.NDArray[np.bool_]
    layout: Layout
    p99: Ints
    p50: Ints
    counted: Ints


def find_buckets(roster: "Roster") -> Buckets:
    """Put the buckets of all histograms in order."""
    columns = roster.strands
    signal = columns["signal"][: roster.strand_slots.used].astype(np.int64)
    p99 = FOLDINGS.index(Folding.P99)
    at = where((signal != NOWHERE) & (roster.signals["folding"].take(signal) == p99))
    own = columns["low"].take(at) != np.float32(CLASSIC)
    # A family that is sent both ways would be counted twice.
    both = np.zeros(roster.signal_slots.used, bool)
    both[signal.take(at[own])] = True
    at = at[own | ~both[signal.take(at)]]
    at = at.take(np.lexsort((columns["low"].take(at), columns["le"].take(at), signal.take(at))))
    firsts = where(begins(signal.take(at)))
    slots = signal.take(at.take(firsts))
    watched = [roster.watched[slot] for slot in slots.tolist()]
    counted = [
        roster.signal_slot.get(known.signal._replace(folding=Folding.RATE), slot)
        for slot, known in zip(slots.tolist(), watched, strict=True)
        if known is not None
    ]
    return Buckets(
        at,
        columns["le"].take(at).astype(np.float64),
        columns["low"].take(at).astype(np.float64),
        both[slots],
        layout(firsts, len(at)),
        slots,
        roster.signals["partner"].take(slots).astype(np.int64),
        np.array(counted, np.int64),
    )


def find_mates(roster: "Roster") -> Ints:
    """Find, by strand, of each sum the count of the same member and family; else -1."""
    used = roster.strand_slots.used
    signal = roster.strands["signal"][:used].astype(np.int64)
    member = roster.strands["member"][:used].astype(np.int64)
    partner = roster.signals["partner"].take(signal).astype(np.int64)
    average = FOLDINGS.index(Folding.AVERAGE)
    sums = where(
        (signal != NOWHERE)
        & (roster.signals["folding"].take(signal) == average)
        & (partner != NOWHERE)
    )
    key = signal << 32 | member & 0xFFFF_FFFF
    order = np.argsort(key)
    wanted = partner.take(sums) << 32 | member.take(sums)
    at = order.take(np.searchsorted(key, wanted, sorter=order), mode="clip")
    mates = np.full(used, NOWHERE, np.int64)
    mates[sums] = np.where(key.take(at) == wanted, at, NOWHERE)
    return mates
