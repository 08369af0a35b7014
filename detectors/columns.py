"""The columns of who is who: series, strands, members, signals and entities, by slot."""

from typing import Final

import numpy as np

from watchkeep.detectors import siblings
from watchkeep.detectors.arrays import Field
from watchkeep.schemas.signal import Folding

NEVER: Final = -1
NOWHERE: Final = -1
LATEST: Final = np.iinfo(np.int64).max
# No real metric comes near, and sums of larger values could overflow.
LARGEST: Final = 1e30
STILL: Final = 0.0
# The buckets of classic histograms begin where the one below ends; this stands for that.
CLASSIC: Final = float(np.finfo(np.float32).max)

# Of a series: what is known of it, in one byte.
COUNTS: Final = 1
MOVED: Final = 2
UNSURE: Final = 4  # Its kind is not told; its behaviour may tell.
META: Final = 8  # Prometheus tells it of a scrape, also of one that failed.
SWEPT: Final = 128  # A sweep has seen it without any sample.
KIND_SHIFT: Final = 4

SERIES: Final = {
    "strand": Field("i4", NOWHERE),
    "flags": Field("u1", 0),
    "last_ms": Field("i8", NEVER),
    "last_value": Field("f8", np.nan),
    # What a counter stands for while it says nothing: its last rate. A gauge that has been seen
    # twice has STILL here.
    "held": Field("f4", np.nan),
}
STRANDS: Final = {
    "signal": Field("i4", NOWHERE),
    "member": Field("i4", NOWHERE),
    "le": Field("f4", 0.0),  # A bucket's upper bound.
    "low": Field("f4", CLASSIC),  # Where a native histogram's bucket begins.
    **siblings.FIELDS,
}
MEMBERS: Final = {
    "entity": Field("i4", NOWHERE),
    "named": Field("?", 0),
    "pod": Field("?", 0),  # Not an exporter that tells something of the entity.
    "begun_ms": Field("i8", NEVER),
    "last_ms": Field("i8", NEVER),
    "ended_ms": Field("i8", NEVER),  # When the last of its series did.
}
SIGNALS: Final = {
    "entity": Field("i4", NOWHERE),
    "folding": Field("u1", 0),
    "step_s": Field("i4", 0),
    # Of P99 its P50, of AVERAGE the RATE of the same family.
    "partner": Field("i4", NOWHERE),
    "page": Field("?", 0),
    "side": Field("i1", 0),  # Which way it must go to page: 1 for up, -1 for down, 0 for both.
    "events": Field("?", 0),  # Its rate counts things that happen, one by one.
    # It takes part once any of its series has moved; until then it was `quiet`.
    "awake": Field("?", 0),
    "awake_ms": Field("i8", LATEST),
    "quiet": Field("f8", np.nan),
    "born_ms": Field("i8", LATEST),
    "seen_ms": Field("i8", NEVER),
    "value": Field("f8", np.nan),
    "fed_ms": Field("i8", LATEST),
    "from_ms": Field("i8", NEVER),  # Cells before it tell nothing.
    "rises": Field("i4", 0),
    "falls": Field("i4", 0),
    "resets": Field("i4", 0),
}
ENTITIES: Final = {
    "signals": Field("i4", 0),
    "members": Field("i4", 0),
    "presence": Field("i4", NOWHERE),  # The signal that counts its members.
    "wanted": Field("i4", NOWHERE),  # The series that tells how many are wanted.
    "node": Field("i4", NOWHERE),  # A series that it has as long as it is a node of the cluster.
    "jobs": Field("?", 0),  # Its members are meant to end.
    # What absence keeps: how many were there at a time lately, and for how many cells what lasts.
    "most": Field("i4", 0),
    "fewer_cells": Field("i4", 0),
    "steady_cells": Field("i4", 0),
    "missing_cells": Field("i4", 0),
}
PRESENCE: Final = "watchkeep_members"

FOLDINGS: Final = tuple(Folding)
