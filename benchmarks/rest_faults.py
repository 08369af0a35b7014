"""Faults of a real node, a real etcd and a real API server, each for as long as it is entered."""

import errno
import http.client
import multiprocessing
import os
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from multiprocessing.synchronize import Event
from pathlib import Path
from typing import TYPE_CHECKING, Final

from real_servers import Etcd, KubeApiserver
from watchkeep.streams.child import die_with_parent

if TYPE_CHECKING:
    from multiprocessing.sharedctypes import Synchronized

# What is told of a fault once it is over.
Tell = Callable[[str], None]
Fault = Callable[[Tell], AbstractContextManager[None]]

_BUSY_PER_CORE: Final = 4
_DISK_MB: Final = 200
_USED: Final = 0.3
_CHUNK: Final = bytes(1 << 20)
_FLOOD_PROCESSES: Final = 2
_FLOOD_THREADS: Final = 16
_ASKED: Final = ("/api/v1/namespaces/default/configmaps", "/api/v1/namespaces")


@contextmanager
def load(tell: Tell) -> Iterator[None]:
    """Keep more processes busy than there are cores."""
    count = _BUSY_PER_CORE * (os.cpu_count() or 1)
    loop = ["sh", "-c", "while :; do :; done"]
    with ExitStack() as stack:
        for _ in range(count):
            busy = subprocess.Popen(loop, preexec_fn=die_with_parent)  # noqa: PLW1509 - As servers.
            stack.callback(busy.wait)
            stack.callback(busy.kill)
        yield
    tell(f"{count} busy loops on {os.cpu_count()} cores")


class Disk:
    """A small file system of its own, a part of it used.

    Attributes:
        folder: where it is mounted.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._image = folder.with_suffix(".img")

    @contextmanager
    def mounted(self) -> Iterator[None]:
        """Have it meanwhile; only root may.

        The rules of signals leave out what lives in memory, so it has to be on a disk.
        """
        self.folder.mkdir(parents=True)
        with self._image.open("wb") as image:
            image.truncate(_DISK_MB << 20)
        subprocess.run(["mkfs.ext4", "-q", "-m", "0", self._image], check=True)
        with self._image.open("rb+") as image:
            # The disk that it lies on shan't fill as well.
            os.posix_fallocate(image.fileno(), 0, _DISK_MB << 20)
        subprocess.run(["mount", "-o", "loop", self._image, self.folder], check=True)
        try:
            _write(self.folder / "used", round(_DISK_MB * _USED))
            yield
        finally:
            subprocess.run(["umount", "--lazy", self.folder], check=True)

    @contextmanager
    def full(self, tell: Tell) -> Iterator[None]:
        """Fill it meanwhile."""
        filling = self.folder / "filling"
        written = _write(filling, _DISK_MB)
        tell(f"{written} MB more on a file system of {_DISK_MB} MB, of which {_USED:.0%} were used")
        try:
            yield
        finally:
            filling.unlink()


def _write(path: Path, mb: int) -> int:
    """Write so much, or until the disk is full; tell how much it was."""
    with path.open("wb", buffering=0) as file:
        for done in range(mb):
            try:
                file.write(_CHUNK)
            except OSError as error:
                if error.errno != errno.ENOSPC:
                    raise
                return done
        os.fsync(file)
    return mb


@contextmanager
def stopped(etcd: Etcd, tell: Tell) -> Iterator[None]:
    """Kill etcd, and start it again on its data."""
    etcd.kill()
    try:
        yield
    finally:
        etcd.start()
    tell("etcd killed, and started again on its data")


@contextmanager
def flood(apiserver: KubeApiserver, tell: Tell) -> Iterator[None]:
    """Ask for lists as fast as they come, from other processes."""
    context = multiprocessing.get_context("spawn")
    stop, answered = context.Event(), context.Value("q", 0)
    arguments = (apiserver.folder, apiserver.port, apiserver.token, stop, answered)
    processes = [
        context.Process(target=_ask_much, args=arguments, daemon=True)
        for _ in range(_FLOOD_PROCESSES)
    ]
    begin_s = time.monotonic()
    for process in processes:
        process.start()
    try:
        yield
    finally:
        stop.set()
        for process in processes:
            process.join()
    rate = answered.value / (time.monotonic() - begin_s)
    tell(f"{rate:.0f} requests a second by {_FLOOD_PROCESSES * _FLOOD_THREADS} threads")


def _ask_much(
    folder: Path, port: int, token: str, stop: Event, answered: "Synchronized[int]"
) -> None:
    server = KubeApiserver(folder, port=port, token=token)
    counts = [0] * _FLOOD_THREADS

    def ask(place: int) -> None:
        connection = server.connect()
        while not stop.is_set():
            try:
                connection.request("GET", _ASKED[counts[place] % 2], headers=server.headers())
                connection.getresponse().read()
                counts[place] += 1
            except (OSError, http.client.HTTPException):
                connection.close()
                stop.wait(0.1)
        connection.close()

    threads = [threading.Thread(target=ask, args=(i,)) for i in range(_FLOOD_THREADS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    with answered.get_lock():
        answered.value += sum(counts)
