"""What came out of a run, and how two runs differ."""

import json
import re
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple

import psycopg

from watchkeep.schemas.errors import RecordError
from watchkeep.schemas.window import Window, decode
from watchkeep.streams import kafka
from watchkeep.streams.topics import ANOMALIES

_EXAMPLES: Final = 12
_ALERT: Final = re.compile(r"alert (\w+) revision \d+")


@dataclass
class Heard:
    """Windows as readers of the topic saw them, gathered before it is deleted.

    Attributes:
        windows: the bytes of each (id, revision).
        differing: (id, revision)s that were published with other bytes as well.
    """

    windows: dict[tuple[str, int], bytes] = field(default_factory=dict)
    differing: set[tuple[str, int]] = field(default_factory=set)

    async def listen(self, bootstrap: str) -> None:
        """Take in what the topic holds now."""
        async for record in kafka.tail(bootstrap, ANOMALIES, follow=False):
            try:
                anomaly = decode(record.value or b"")
            except RecordError:
                continue
            if isinstance(anomaly, Window):
                name = (anomaly.window_id, anomaly.revision)
                if self.windows.setdefault(name, record.value or b"") != record.value:
                    self.differing.add(name)


class Outcome(NamedTuple):
    """What came out.

    Attributes:
        taken: the windows that incidents took, by (id, revision).
        incidents: final states without their revision, which a restored database lifts.
        rollups: by (signal, time), the row.
        notifications: (alert, kind) as often as they came.
    """

    heard: Heard
    taken: dict[tuple[str, int], str]
    incidents: dict[str, str]
    rollups: dict[tuple[int, str], tuple[Any, ...]]
    notifications: list[tuple[str, str]]


class Difference(NamedTuple):
    """How a run differs from the undisturbed one; see `make chaos`."""

    lost: int
    duplicated: int
    diverged: int
    repeated_notifications: int
    examples: tuple[str, ...]


def outcome(url: str, heard: Heard, notifications: list[tuple[str, str]]) -> Outcome:
    """Read what a run left in the database and told people."""
    with psycopg.connect(url) as connection:
        taken = {
            (row[0], row[1]): json.dumps(row[2], sort_keys=True)
            for row in connection.execute("SELECT window_id, revision, record FROM windows")
        }
        incidents = {
            row[0]: json.dumps(row[1] | {"revision": 0}, sort_keys=True)
            for row in connection.execute("SELECT incident_id, record FROM incidents")
        }
        rollups = {
            (row[0], str(row[1])): row[2:]
            for row in connection.execute(
                "SELECT signal_id, at, step_s, value, members, expected, low, high, rarity, "
                "threshold, warmup, spike, envelope, hour, member FROM rollups"
            )
        }
    told = [
        (found.group(1), title.partition(" ")[0])
        for title, text in notifications
        if (found := _ALERT.search(text))
    ]
    return Outcome(heard, taken, incidents, rollups, told)


def difference(undisturbed: Outcome, disturbed: Outcome) -> Difference:
    """Compare two runs of the same requests."""
    ids = [("window", _windows), ("alert", _alerts), ("notification", _notifications)]
    lost = [f"lost {w} {x}" for w, of in ids for x in sorted(of(undisturbed) - of(disturbed))]
    extra = [f"extra {w} {x}" for w, of in ids for x in sorted(of(disturbed) - of(undisturbed))]
    diverged = [f"window {name} has two contents" for name in sorted(disturbed.heard.differing)]
    contents: list[tuple[str, dict[Any, Any], dict[Any, Any]]] = [
        ("window", undisturbed.heard.windows, disturbed.heard.windows),
        ("taken window", undisturbed.taken, disturbed.taken),
        ("incident", undisturbed.incidents, disturbed.incidents),
        ("rollup", undisturbed.rollups, disturbed.rollups),
    ]
    diverged += [
        f"{what} {name}: {one.get(name)!r} became {other.get(name)!r}"
        for what, one, other in contents
        for name in sorted(one.keys() | other.keys())
        if one.get(name) != other.get(name)
    ]
    return Difference(
        len(lost),
        len(extra),
        len(diverged),
        len(disturbed.notifications) - len(set(disturbed.notifications)),
        tuple(line[:400] for line in (lost + extra + diverged)[:_EXAMPLES]),
    )


def _windows(run: Outcome) -> set[str]:
    return {name for name, _ in run.taken}


def _alerts(run: Outcome) -> set[str]:
    return set(run.incidents)


def _notifications(run: Outcome) -> set[str]:
    return {" ".join(told) for told in run.notifications}
