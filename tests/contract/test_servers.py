"""What the tests' real servers promise: they come clean, and come back with their data."""

from pathlib import Path

import psycopg
import pytest

from servers import Kafka, Postgres, ServerError
from watchkeep.schemas.settings import Broker
from watchkeep.streams import kafka
from watchkeep.streams.topics import ALERTS, specs

pytestmark = [pytest.mark.broker, pytest.mark.database]


async def test_kafka_keeps_its_records_when_it_is_killed(
    kafka_server: Kafka, kafka_broker: Broker
) -> None:
    await kafka.create_topics(kafka_broker.bootstrap, specs())
    async with kafka.open_sink(kafka_broker) as sink:
        await sink.send(ALERTS, b"before", key=b"k")
    killed = kafka_server.pid
    kafka_server.kill()
    kafka_server.start()
    assert kafka_server.pid != killed
    async with kafka.open_sink(kafka_broker) as sink:
        await sink.send(ALERTS, b"after", key=b"k")
    records = kafka.tail(kafka_broker.bootstrap, ALERTS, follow=False)
    assert [record.value async for record in records] == [b"before", b"after"]


async def test_a_broker_comes_without_topics(broker: Broker) -> None:
    names = [spec.name for spec in specs()]
    assert await kafka.missing_topics(broker.bootstrap, specs()) == names
    made = await kafka.create_topics(broker.bootstrap, specs())
    assert made == names
    assert await kafka.missing_topics(broker.bootstrap, specs()) == []


@pytest.mark.usefixtures("debian_postgresql")
def test_postgresql_keeps_its_rows_when_it_is_killed(short_dir: Path) -> None:
    with Postgres(short_dir / "pg") as server:
        run(server, "CREATE TABLE t AS SELECT 1 AS x")
        server.kill()
        with pytest.raises(psycopg.OperationalError):
            run(server, "SELECT 1")
        server.start()
        assert run(server, "TABLE t") == [(1,)]


@pytest.mark.usefixtures("debian_postgresql")
def test_postgresql_goes_back_to_a_backup(short_dir: Path) -> None:
    with Postgres(short_dir / "pg", data=short_dir / "elsewhere") as server:
        run(server, "CREATE TABLE t AS SELECT 1 AS x")
        server.stop()
        server.backup(short_dir / "backup")
        server.start()
        run(server, "INSERT INTO t VALUES (2)")
        server.stop()
        server.restore(short_dir / "backup")
        server.start()
        assert run(server, "TABLE t") == [(1,)]


@pytest.mark.usefixtures("debian_postgresql")
def test_why_a_server_does_not_start_is_told(short_dir: Path) -> None:
    with pytest.raises(ServerError, match='unrecognized configuration parameter "nonsense"'):
        Postgres(short_dir / "pg", settings={"nonsense": "1"}).start()


def run(server: Postgres, statement: str) -> list[tuple[object, ...]]:
    with psycopg.connect(server.url, autocommit=True) as connection:
        done = connection.execute(statement)
        return done.fetchall() if done.description else []
