"""Records real exporters at rest, and then one fault after the other: see `rest_record.py`."""

import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final, NamedTuple

import rest_faults
import rest_record
from exporter_run import Run, running
from real_servers import Etcd, KubeApiserver
from rest_record import Entry, Stretch, now_ms
from servers import ServerError
from watchkeep.streams.memory import MemoryLog

SCRAPE_S: Final = 15
REST: Final = "rest"
# About what the controllers of a small cluster ask: 11 requests a second.
_ROUNDS_PER_S: Final = 1.0
_FLUSH_S: Final = 30.0
# That all members of an entity are gone is told after five minutes of it.
_GONE_S_MIN: Final = 360.0


class Plan(NamedTuple):
    """How long everything lasts."""

    rest_s: float
    fault_s: float
    gap_s: float


@dataclass
class _Writer:
    """Moves what the gateway has written from memory to a file."""

    log: MemoryLog
    path: Path

    @contextmanager
    def on(self) -> Iterator[None]:
        """Keep the file up to date meanwhile."""
        stop = threading.Event()
        thread = threading.Thread(target=self._run, args=(stop,), name="writer")
        thread.start()
        try:
            yield
        finally:
            stop.set()
            thread.join()

    def _run(self, stop: threading.Event) -> None:
        while not stop.wait(_FLUSH_S):
            self.flush()
        self.flush()

    def flush(self) -> None:
        """Write what has come."""
        rest_record.append(self.path, list(self._take()))

    def _take(self) -> Iterator[Entry]:
        # A copy is made in one step, and the gateway may add a partition meanwhile.
        partitions = list(self.log.partitions.items())
        for (_, shard), entries in sorted(partitions):
            count = len(entries)
            for entry in entries[:count]:
                if entry.value is not None:
                    yield shard, entry.value
            del entries[:count]


def record(path: Path, folder: Path, plan: Plan, tell: Callable[[str], None]) -> None:
    """Make a file anew.

    Args:
        path: the file.
        folder: for the servers, and the file system that is filled.
        plan: how long.
        tell: is told what happens.
    """
    path.unlink(missing_ok=True)
    disk = rest_faults.Disk(folder / "disk")
    with (
        disk.mounted(),
        running(folder, tell, scrape_s=SCRAPE_S, rounds_per_s=_ROUNDS_PER_S) as run,
        _Writer(run.log, path).on(),
    ):
        _check(run, disk)
        _suffer(path, tell, REST, _nothing, plan.rest_s)
        for name, fault in _faults(run, disk).items():
            least_s = _GONE_S_MIN if name == "etcd" else 0.0
            _suffer(path, tell, name, fault, max(plan.fault_s, least_s))
            time.sleep(plan.gap_s)


def _suffer(
    path: Path, tell: Callable[[str], None], name: str, fault: rest_faults.Fault, wait_s: float
) -> None:
    """Have a fault, and note when, and what it was."""
    begin_ms, facts = now_ms(), list[str]()
    tell(f"{time.strftime('%H:%M:%S')} {name} for {wait_s:.0f} s")
    rest_record.append(path, [rest_record.note(Stretch(name, begin_ms, 0))])
    with fault(facts.append):
        time.sleep(wait_s)
        end_ms = now_ms()
    tell(", ".join(facts))
    stretch = Stretch(name, begin_ms, end_ms, ", ".join(facts))
    rest_record.append(path, [rest_record.note(stretch)])


@contextmanager
def _nothing(tell: rest_faults.Tell) -> Iterator[None]:
    tell(f"{_ROUNDS_PER_S * 11:.0f} requests a second")
    yield


def _check(run: Run, disk: rest_faults.Disk) -> None:
    """See that the file system is watched at all, before an hour is spent.

    Raises:
        ServerError: it isn't.
    """
    asked = f'node_filesystem_avail_bytes{{mountpoint="{disk.folder}"}}'
    for _ in range(2 * SCRAPE_S):
        if run.prometheus.query(asked, now_ms()):
            return
        time.sleep(1)
    raise ServerError(f"node-exporter doesn't tell of {disk.folder}")


def _faults(run: Run, disk: rest_faults.Disk) -> Mapping[str, rest_faults.Fault]:
    """List the faults; two that follow each other befall different servers."""
    (etcd,) = (server for server in run.servers if isinstance(server, Etcd))
    (apiserver,) = (server for server in run.servers if isinstance(server, KubeApiserver))
    return {
        "load": rest_faults.load,
        "etcd": partial(rest_faults.stopped, etcd),
        "disk": disk.full,
        "flood": partial(rest_faults.flood, apiserver),
    }
