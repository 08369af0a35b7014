"""A remote-write request as columns, and what is said of one that can't be read.

Two readers make them: `_wire.c` behind `wire_compiled.py` where it was built, else `wire_plain.py`.
Of a label set they know a slot, by its bytes; what a slot means is the intake's business.
"""

import os
from importlib.util import find_spec
from typing import Final, NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

from watchkeep.schemas.errors import RemoteWriteError

Ints = npt.NDArray[np.int64]

V1: Final = 1
V2: Final = 2

# What stands in place of a series' slot.
UNKNOWN: Final = -1
SCATTERED: Final = -2
NO_SYMBOL: Final = -3
HALF_A_LABEL: Final = -4
TOO_LARGE: Final = -5

# What is wrong with a request.
TRUNCATED: Final = 1
BAD_NUMBER: Final = 2
BAD_TYPE: Final = 3
OTHER_MESSAGE: Final = 4
NO_EMPTY_SYMBOL: Final = 5
TOO_MANY_SERIES: Final = 6
TOO_MANY_SAMPLES: Final = 7
TOO_MANY_LABELS: Final = 8


class Limits(NamedTuple):
    """How much of a request is read.

    Attributes:
        series: most series; most native histograms and pieces of metadata too.
        samples: most samples; most symbols too.
        label_bytes: most bytes of one label set; it has to fit into a record of the log together
            with others.
        drawn_bytes: most bytes of all label sets of version 2.0: there a small request may repeat
            a large symbol again and again.
    """

    series: int
    samples: int
    label_bytes: int
    drawn_bytes: int


# Far more than senders put into a request, and few enough that their columns are no burden.
LIMITS: Final = Limits(200_000, 2_000_000, 16 * 1024, 128 * 1024 * 1024)

_REQUEST_WORDS: Final = {
    TRUNCATED: (400, "the body ends in the middle of a field"),
    BAD_NUMBER: (400, "the body has a number that is none"),
    BAD_TYPE: (400, "the body has a field of another type than it must be"),
    OTHER_MESSAGE: (400, "the body is of the other version than its content type says"),
    NO_EMPTY_SYMBOL: (400, "the first symbol must be the empty one"),
    TOO_MANY_SERIES: (413, "more than {0.series} series are too many for a request"),
    TOO_MANY_SAMPLES: (413, "more than {0.samples} samples are too many for a request"),
    TOO_MANY_LABELS: (413, "labels of more than {0.drawn_bytes} bytes are too many for a request"),
}


class Columns(NamedTuple):
    """A request of s series with n samples.

    Attributes:
        slot: int64[s]; below 0 why there is none.
        samples: int64[s], how many each has.
        exemplars: int64[s].
        kind: int64[s], what metadata of version 2.0 says of it; 0 for nothing.
        time_ms: int64[n], series by series.
        value: float64[n]; the bits of stale markers survive.
        unknown: the series whose label sets are not known, by number, and these, written as the
            fields of version 1.0, in whatever order.
        histograms: native histograms, by the number of their series, as messages.
        metadata: of version 1.0, as messages.
    """

    slot: Ints
    samples: Ints
    exemplars: Ints
    kind: Ints
    time_ms: Ints
    value: npt.NDArray[np.float64]
    unknown: list[tuple[int, bytes]]
    histograms: list[tuple[int, bytes]]
    metadata: list[bytes]


class Reader(Protocol):
    """Reads requests, and knows label sets by their bytes."""

    def read(self, plain: bytes, version: int) -> Columns:
        """Take a request apart.

        Raises:
            RemoteWriteError: it can't be read, or is too large.
        """
        ...

    def learn(self, labels: bytes) -> int:
        """Give a label set the next slot, unless it has one."""
        ...

    def keep(self, slots: Ints) -> None:
        """Forget all slots but some, which become 0, 1, 2 ... in that order."""
        ...


# Tests, and whoever distrusts a compiler, can do without what was compiled.
PLAIN_VARIABLE: Final = "WATCHKEEP_PLAIN"
COMPILED: Final = find_spec("watchkeep.streams._wire") is not None


def reader(limits: Limits = LIMITS) -> Reader:
    """Make the fastest reader that this installation has."""
    # The one that isn't there can't be imported.
    if COMPILED and not os.environ.get(PLAIN_VARIABLE):
        from watchkeep.streams.wire_compiled import CompiledReader  # noqa: PLC0415

        return CompiledReader(limits)
    from watchkeep.streams.wire_plain import PlainReader  # noqa: PLC0415

    return PlainReader(limits)


def refusal(wrong: int, limits: Limits) -> RemoteWriteError:
    """Put what is wrong with a request into words."""
    status, words = _REQUEST_WORDS[wrong]
    return RemoteWriteError(status, words.format(limits))
