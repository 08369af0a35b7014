"""The faults of the simulated shop, and where a seed puts them."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Literal

import numpy as np

MINUTE_MS: Final = 60_000
HOUR_MS: Final = 60 * MINUTE_MS

FaultKind = Literal["saturation", "errors", "partition"]
KINDS: Final[tuple[FaultKind, ...]] = ("saturation", "errors", "partition")


@dataclass(frozen=True, slots=True)
class Fault:
    """A fault, and what is known of it: the ground truth.

    Attributes:
        root: the entity where it begins.
        affected: entities whose signals it really moves, the root among them.
    """

    kind: FaultKind
    service: str
    root: str
    affected: tuple[str, ...]
    onset_ms: int
    end_ms: int


@dataclass(frozen=True, slots=True)
class Effect:
    """What a fault does to its service: factors, and the share of requests that fail."""

    rate: float
    latency: float
    cpu: float
    errors: float


EFFECTS: Final[dict[FaultKind, Effect]] = {
    "saturation": Effect(rate=1.0, latency=4.0, cpu=2.5, errors=0.0),
    "errors": Effect(rate=1.0, latency=1.0, cpu=1.0, errors=0.25),
    "partition": Effect(rate=0.25, latency=1.0, cpu=1.0, errors=0.0),
}


def place(
    rng: np.random.Generator, services: Sequence[str], begin_ms: int, end_ms: int
) -> list[tuple[FaultKind, str, int, int]]:
    """Choose a service, an onset and an end for each kind, well apart from each other.

    Args:
        rng: decides.
        services: where faults may begin; each gets at most one.
        begin_ms: no fault begins earlier.
        end_ms: no fault ends later.
    """
    where = rng.permutation(len(services))[: len(KINDS)]
    order = rng.permutation(len(KINDS))
    slot_ms = (end_ms - begin_ms) // len(KINDS)
    placed = []
    for i, kind in enumerate(KINDS[k] for k in order):
        length_ms = int(rng.integers(20, 41)) * MINUTE_MS
        # The last hour of a slot stays calm, so that one fault is over before the next begins.
        room_ms = max(slot_ms - length_ms - HOUR_MS, MINUTE_MS)
        onset_ms = begin_ms + i * slot_ms + int(rng.integers(room_ms))
        placed.append((kind, services[where[i]], onset_ms, onset_ms + length_ms))
    return placed
