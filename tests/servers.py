"""Real servers of a test's own, to kill and to start again on the same port and data.

    with Kafka(folder) as kafka:
        kafka.kill()
        kafka.start()

It needs no pytest, so that other programs can use it too. The kernel kills a server when the
thread that started it ends.
"""

import base64
import os
import pwd
import random
import secrets
import shutil
import signal
import socket
import subprocess
import time
import uuid
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any, ClassVar, Final, Self

import psutil
import psycopg

from watchkeep.streams.child import die_with_parent

BUILD: Final = Path(__file__).parent / "parts" / "build"
_HOST: Final = "127.0.0.1"
# Below the ports that the kernel lends to clients: one of those may take the port of a server that
# is down, and a client that tries it again and again may end up talking to itself.
_PORTS: Final = range(20_000, 30_000)
_START_S: Final = 60.0
_STOP_S: Final = 30.0
_LOOK_S: Final = 0.05
_TAIL_LINES: Final = 30
_given: Final[set[int]] = set()


class ServerError(Exception):
    """A server doesn't do what it was told; the message has the end of its log."""


def steady_port() -> int:
    """Find a free port that is likely to stay free while its server is down.

    It gives none twice: a server may listen on its port long after it was told which.
    """
    # The tests' own generator is set back before each of them, and would give the same again.
    for port in random.SystemRandom().sample(_PORTS, 100):
        if port not in _given and _is_free(port):
            _given.add(port)
            return port
    raise ServerError(f"no port is free among {_PORTS[0]} to {_PORTS[-1]}")


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        # Connections that ended lately are no listener.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((_HOST, port))
        except OSError:
            return False
        return True


def kafka_missing() -> str:
    """Tell what Apache Kafka lacks here and how to get it; nothing when all is there."""
    if shutil.which("java") is None:
        return "java for Apache Kafka (Debian's default-jre-headless)"
    if not _kafka_jars().exists():
        return "Apache Kafka (`make parts` builds it, with Debian's maven)"
    return ""


def postgres_missing() -> str:
    """Tell what PostgreSQL lacks here and how to get it; nothing when all is there."""
    return "" if _postgres_programs() else "PostgreSQL (Debian's postgresql)"


@cache
def _kafka_jars() -> Path:
    told = subprocess.run([BUILD, "--where", "kafka"], capture_output=True, text=True, check=True)
    return Path(told.stdout.strip()) / "libs"


def _postgres_programs() -> Path | None:
    """Find the newest version of those that Debian installs side by side."""
    found = Path("/usr/lib/postgresql").glob("*/bin/postgres")
    newest = max(found, key=lambda program: float(program.parts[-3]), default=None)
    return newest and newest.parent


@dataclass
class Server(ABC):
    """One server: a process, or a family of them, on a port and a folder.

    Attributes:
        folder: where its log is, its configuration, and its data unless `data` is given.
        data: the folder of its data, for instance on a small file system.
        settings: the server's own settings, added to what it needs.
        port: where it listens on this machine, the same after each start.
    """

    folder: Path
    data: Path = Path()
    settings: Mapping[str, str] = field(default_factory=dict)
    port: int = field(default_factory=steady_port)
    _process: subprocess.Popen[bytes] | None = field(default=None, init=False, repr=False)

    name: ClassVar[str]
    polite: ClassVar[signal.Signals] = signal.SIGTERM

    def __post_init__(self) -> None:
        self.folder = self.folder.absolute()
        self.data = self.folder / "data" if self.data == Path() else self.data.absolute()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    @property
    def address(self) -> str:
        """Its host:port."""
        return f"{_HOST}:{self.port}"

    @property
    def log(self) -> Path:
        """The file of what it says."""
        return self.folder / "server.log"

    @property
    def pid(self) -> int:
        """Its first process."""
        assert self._process is not None, f"{self.name} was never started"
        return self._process.pid

    def lives(self) -> bool:
        """Tell whether it runs."""
        return self._process is not None and self._process.poll() is None

    def prepare(self) -> None:
        """Make its data and configuration; data that is there is kept.

        Raises:
            ServerError: they can't be made.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        self._prepare()

    def start(self) -> None:
        """Start it on the data that is there, else on new data, and wait until it answers.

        Raises:
            ServerError: it ends, or doesn't answer.
        """
        assert not self.lives(), f"{self.name} runs already"
        if not _is_free(self.port):
            # Whoever listens there might answer in its name.
            raise ServerError(f"{self.name} finds port {self.port} taken")
        self.prepare()
        begin = self.log.stat().st_size if self.log.exists() else 0
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                self._command(),
                cwd=self.folder,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
                preexec_fn=die_with_parent,  # noqa: PLW1509 - It only makes one system call.
                **self._identity(),
            )
        if not _until(lambda: not self.lives() or self._answers(begin), _START_S):
            self.kill()
            raise ServerError(f"{self.name} doesn't answer{self._tail()}")
        if not self.lives():
            raise ServerError(f"{self.name} ended with {self._process.returncode}{self._tail()}")

    def stop(self) -> None:
        """End it politely; kill it when it lingers."""
        if not self.lives():
            return
        assert self._process is not None
        self._process.send_signal(self.polite)
        try:
            self._process.wait(_STOP_S)
        except subprocess.TimeoutExpired:
            self.kill()

    def kill(self) -> None:
        """Kill all of its processes at once, as a crash of the machine would."""
        if not self.lives():
            return
        assert self._process is not None
        first = psutil.Process(self._process.pid)
        # While it stands still it can't start others.
        first.suspend()
        family = [first, *first.children(recursive=True)]
        for process in family:
            process.kill()
        self._process.wait()
        # The next start may find the data locked by whoever is left.
        if not _until(lambda: all(map(_gone, family)), _STOP_S):
            raise ServerError(f"{self.name} can't be killed")

    def backup(self, folder: Path) -> None:
        """Copy the data of the stopped server to a folder."""
        assert not self.lives(), f"stop {self.name} before a backup"
        folder.mkdir(parents=True, exist_ok=True)
        _copy(self.data, folder)

    def restore(self, folder: Path) -> None:
        """Replace the data of the stopped server by a copy that was made before."""
        assert not self.lives(), f"stop {self.name} before you restore its data"
        # The folder itself stays: it may be where a file system is mounted.
        subprocess.run(["find", self.data, "-mindepth", "1", "-delete"], check=True)
        _copy(folder, self.data)

    @abstractmethod
    def _prepare(self) -> None:
        """Make what a start needs, and the data the first time."""

    @abstractmethod
    def _command(self) -> list[str]:
        """Tell the command that runs it in the foreground."""

    @abstractmethod
    def _answers(self, begin: int) -> bool:
        """Tell whether it serves; what it has said since its start begins there in the log."""

    def _identity(self) -> dict[str, Any]:
        """Tell Popen as whom it runs."""
        return {}

    def _once(self, *command: str) -> None:
        """Run a command that makes its data."""
        with self.log.open("ab") as log:
            done = subprocess.run(
                command,
                cwd=self.folder,
                stdout=log,
                stderr=log,
                timeout=_START_S,
                check=False,
                **self._identity(),
            )
        if done.returncode != 0:
            raise ServerError(f"{self.name}: {command[0]} failed{self._tail()}")

    def _tail(self) -> str:
        lines = self.log.read_text(errors="replace").splitlines()[-_TAIL_LINES:]
        return "\n".join([f"; the end of {self.log}:", *lines])


@dataclass
class Kafka(Server):
    """Apache Kafka 4: one node, broker and controller in one process."""

    controller_port: int = field(default_factory=steady_port)

    name = "Apache Kafka"

    def _prepare(self) -> None:
        properties = self.folder / "server.properties"
        properties.write_text("".join(f"{k}={v}\n" for k, v in self._properties().items()))
        if not (self.data / "meta.properties").exists():
            # One that begins with a dash would be taken for an option.
            cluster = base64.urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("=")
            cluster = cluster.replace("-", "_")
            self._once(
                *self._java("kafka.tools.StorageTool", "format", "--standalone"),
                *("-t", cluster, "-c", str(properties)),
            )

    def _properties(self) -> dict[str, str]:
        return {
            "process.roles": "broker,controller",
            "node.id": "1",
            "controller.quorum.bootstrap.servers": f"{_HOST}:{self.controller_port}",
            "listeners": f"PLAINTEXT://{self.address},CONTROLLER://{_HOST}:{self.controller_port}",
            "advertised.listeners": f"PLAINTEXT://{self.address}",
            "controller.listener.names": "CONTROLLER",
            "inter.broker.listener.name": "PLAINTEXT",
            "log.dirs": str(self.data),
            "offsets.topic.replication.factor": "1",
            "offsets.topic.num.partitions": "1",
            "transaction.state.log.replication.factor": "1",
            "transaction.state.log.min.isr": "1",
            "group.initial.rebalance.delay.ms": "0",
            "auto.create.topics.enable": "false",
            # A killed broker is let in again when its last life is forgotten; 9 s are the default.
            "broker.session.timeout.ms": "3000",
            "broker.heartbeat.interval.ms": "500",
            **self.settings,
        }

    def _java(self, *command: str) -> list[str]:
        jars = f"{_kafka_jars()}/*"
        dated = "-Dorg.slf4j.simpleLogger.showDateTime=true"
        return ["java", "-Xmx512m", dated, "-cp", jars, *command]

    def _command(self) -> list[str]:
        return self._java("kafka.Kafka", str(self.folder / "server.properties"))

    def _answers(self, begin: int) -> bool:
        # Its port is open before it lets clients do anything.
        with self.log.open("rb") as log:
            log.seek(begin)
            return b"Kafka Server started" in log.read()


@dataclass
class Postgres(Server):
    """PostgreSQL: a cluster of its own. Every user must be able to enter the folders above it.

    Attributes:
        password: the one of its superuser `postgres`.
    """

    password: str = field(default_factory=lambda: secrets.token_hex(8), repr=False)

    name = "PostgreSQL"
    polite = signal.SIGINT  # It ends the sessions of clients, where SIGTERM waits for them.

    @property
    def url(self) -> str:
        """Where its database `postgres` is."""
        return f"postgresql://postgres:{self.password}@{self.address}/postgres"

    def _prepare(self) -> None:
        if (self.data / "PG_VERSION").exists():
            return
        password = self.folder / "password"
        password.write_text(self.password)
        self.data.mkdir(parents=True, exist_ok=True)
        if user := _user():
            self.folder.chmod(0o755)
            for path in self.data.parents:
                if not path.stat().st_mode & 0o001:
                    raise ServerError(f"{user.pw_name} runs {self.name} and can't enter {path}")
            for path in (self.data, password):
                shutil.chown(path, user.pw_uid, user.pw_gid)
        password.chmod(0o600)
        self._once(
            *(_postgres("initdb"), "-D", str(self.data), "--username=postgres"),
            *(f"--pwfile={password}", "--auth=scram-sha-256"),
            *("--encoding=UTF8", "--locale=C.UTF-8", "--no-sync"),
        )
        password.unlink()

    def _command(self) -> list[str]:
        # Debian's folder of sockets isn't everybody's, so there is none.
        settings = {"unix_socket_directories": "", **self.settings}
        return [
            *(_postgres("postgres"), "-D", str(self.data), "-h", _HOST, "-p", str(self.port)),
            *(part for key, value in settings.items() for part in ("-c", f"{key}={value}")),
        ]

    def _answers(self, begin: int) -> bool:  # noqa: ARG002 - Asking it is better than its log.
        try:
            psycopg.connect(self.url, connect_timeout=2).close()
        except psycopg.OperationalError:
            return False
        return True

    def _identity(self) -> dict[str, Any]:
        user = _user()
        return {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": []} if user else {}


def _postgres(program: str) -> str:
    programs = _postgres_programs()
    assert programs is not None, postgres_missing()
    return str(programs / program)


def _user() -> pwd.struct_passwd | None:
    """Find whom root lets run PostgreSQL, which refuses to run as root; None for others."""
    if os.geteuid() != 0:
        return None
    users = {user.pw_name: user for user in pwd.getpwall()}
    return users.get("postgres") or users["nobody"]


def _until(true: Callable[[], bool], seconds: float) -> bool:
    end_s = time.monotonic() + seconds
    while not true():
        if time.monotonic() > end_s:
            return False
        time.sleep(_LOOK_S)
    return True


def _gone(process: psutil.Process) -> bool:
    try:
        return process.status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def _copy(source: Path, target: Path) -> None:
    # Unlike shutil, it keeps the owner.
    subprocess.run(["cp", "-a", f"{source}/.", str(target)], check=True)
