"""`watchkeep up` as a process, for the tests."""

import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil

from watchkeep.shop.remote_write import HEADERS
from watchkeep.streams.embedded import free_port

WATCHKEEP = [sys.executable, "-m", "watchkeep.streams.cli"]
START_S = 30
STOP_S = 5
MOMENTS = {
    "at its first words": "lock",
    "while the database is made": "postgres.new-*/base",
    "while the database starts": "postgres/PG_VERSION",
}


class Running:
    """One `watchkeep up` in a folder."""

    def __init__(self, folder: Path, port: int, **settings: str) -> None:
        self.folder, self.port = folder, port
        self.environment = os.environ | {
            "WATCHKEEP_DATA_DIR": str(folder),
            "WATCHKEEP_GATEWAY__PORT": str(port),
            **settings,
        }
        self.log = (folder.parent / f"{folder.name}.log").open("a+")
        self.process = subprocess.Popen(
            [*WATCHKEEP, "up"],
            env=self.environment,
            stdout=self.log,
            stderr=self.log,
            start_new_session=True,
        )

    def text(self) -> str:
        """Read what it has said."""
        return Path(self.log.name).read_text()

    def until(self, true: Callable[[], bool], seconds: float = START_S) -> None:
        """Wait until something is true."""
        end_s = time.monotonic() + seconds
        while not true():
            assert time.monotonic() < end_s, self.text()
            time.sleep(0.1)

    def answers(self) -> bool:
        """Tell whether the gateway answers."""
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/healthz") as answer:
                return bool(answer.status == 200)
        except urllib.error.URLError:
            return False

    def send(self, body: bytes) -> None:
        """Send samples, which it acknowledges."""
        to = f"http://127.0.0.1:{self.port}/api/v1/write"
        with urllib.request.urlopen(urllib.request.Request(to, body, HEADERS)) as answer:
            assert answer.status == 204

    def pid_of(self, stage: str) -> int:
        """Find a stage's process; 0 when there is none."""
        try:
            children = psutil.Process(self.process.pid).children()
            return next((c.pid for c in children if c.cmdline()[-1:] == [stage]), 0)
        except psutil.Error:
            return 0  # One of them is ending just now.

    def run(self, *arguments: str) -> str:
        """Run another command beside it."""
        done = subprocess.run(
            [*WATCHKEEP, *arguments], env=self.environment, capture_output=True, check=True
        )
        return done.stdout.decode()

    def stop(self, number: int = signal.SIGINT) -> int:
        """Press Ctrl-C, which goes to all of the process's group, and wait for the end."""
        os.killpg(self.process.pid, number)
        return self.process.wait(STOP_S)

    def end(self) -> None:
        """Leave nothing behind."""
        if self.process.poll() is None:
            self.process.terminate()
            self.process.wait(10)
        self.log.close()


@contextmanager
def up(folder: Path, **settings: str) -> Iterator[Running]:
    """Start it, and wait until all of it is there."""
    running = Running(folder, free_port(), **settings)
    try:
        running.until(running.answers)
        running.until(lambda: running.pid_of("notify") > 0)
        yield running
    finally:
        running.end()


@contextmanager
def starting(folder: Path, moment: str) -> Iterator[Running]:
    """Start it, and wait only for a moment of its start."""
    running = Running(folder, free_port())
    try:
        end_s = time.monotonic() + START_S
        while not any(folder.glob(MOMENTS[moment])):
            assert time.monotonic() < end_s, running.text()
            time.sleep(0.001)
        yield running
    finally:
        running.end()


def left_of(folder: Path) -> list[psutil.Process]:
    """List the processes that belong to a folder: by their arguments, or their environment."""
    found = []
    for process in psutil.process_iter():
        with suppress(psutil.Error):  # Of another user, or just ending.
            if any(str(folder) in argument for argument in process.cmdline()) or (
                process.environ().get("WATCHKEEP_DATA_DIR") == str(folder)
            ):
                found.append(process)
    return found
