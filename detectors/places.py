"""Where series are added: the strand of a place, and what a native histogram feeds."""

from typing import NamedTuple

from watchkeep.detectors.columns import CLASSIC


class Place(NamedTuple):
    """What a strand is found by.

    Attributes:
        le: a bucket's upper bound; `low`: where a native histogram's begins.
    """

    signal: int
    member: int
    le: float = 0.0
    low: float = CLASSIC


class Native(NamedTuple):
    """A native histogram: the signals and the member it feeds, and its buckets' slots so far.

    Attributes:
        count_id, sum_id: the series that its classic form has.
    """

    p99: int
    average: int
    rate: int
    member: int
    count_id: int
    sum_id: int
    buckets: list[int]
