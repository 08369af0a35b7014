"""`watchkeep up` as a person starts it: on its embedded servers, and on those of production."""

import json
import os
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import psycopg
import pytest

from running_up import MOMENTS, START_S, WATCHKEEP, left_of, starting, up
from small_shop import small_shop
from watchkeep.enrichers.incidents import advance
from watchkeep.enrichers.template import alert_of
from watchkeep.schemas.settings import Broker, Settings
from watchkeep.schemas.window import Window
from watchkeep.shop.remote_write import requests
from watchkeep.shop.strikes import workload
from watchkeep.streams import kafka, postgres
from watchkeep.streams.embedded import free_port
from watchkeep.streams.topics import ALERTS

pytestmark = [
    pytest.mark.broker,
    pytest.mark.database,
    pytest.mark.usefixtures("embedded_servers"),
]
WINDOW = """{
  "window_id": "w1", "revision": 1, "state": "open", "entity": "workload/c/shop/cart",
  "onset_ms": 1772409600000, "detected_ms": 1772409780000, "at_ms": 1772409780000,
  "ended_ms": null, "settings": "s", "backlog": false, "strength": 9, "evidence": [{
    "signal": "up", "metric": "up", "labels": {}, "unit": "", "channel": "ewma",
    "direction": "below", "observed": 0, "expected": 1, "low": 0.9, "high": 1.1, "score": -9,
    "threshold": 6, "since_ms": 1772409600000, "peak": 0, "peak_ms": 1772409600000,
    "peak_score": -9, "members": 1
  }]
}"""


def variables(broker: Broker) -> dict[str, str]:
    """Name a broker in the environment."""
    return {
        "WATCHKEEP_BROKER__BOOTSTRAP": broker.bootstrap,
        "WATCHKEEP_BROKER__IDEMPOTENT": str(broker.idempotent),
    }


def refused(*arguments: str, **settings: str) -> str:
    """Run a command that must be refused: exit code 2, one line."""
    done = subprocess.run(
        [*WATCHKEEP, *arguments],
        env=os.environ | settings,
        capture_output=True,
        check=False,
        timeout=START_S,
    )
    assert done.returncode == 2, done.stderr
    *_, line = done.stderr.decode().splitlines()
    assert "Traceback" not in done.stderr.decode()
    return line


def test_it_says_where_it_listens_and_stops_at_ctrl_c(short_dir: Path) -> None:
    with up(short_dir / "d") as running:
        assert f"http://127.0.0.1:{running.port}/api/v1/write" in running.text()
        family = psutil.Process(running.process.pid).children(recursive=True)
        assert running.run("alerts") == "no alerts so far\n"
        assert running.stop() == 0
        assert not [child for child in family if child.is_running()]
        assert not (short_dir / "d" / "run.json").exists()


async def test_alerts_are_shown_to_people_and_programs(short_dir: Path) -> None:
    window = Window.model_validate_json(WINDOW)
    alert = alert_of(advance(None, window))
    with up(short_dir / "d") as running:
        there = Settings.model_validate_json((short_dir / "d" / "run.json").read_text())
        async with kafka.open_sink(there.broker) as sink:
            await sink.send(ALERTS, alert.model_dump_json().encode())
            later = alert.model_copy(update={"revision": 2})
            await sink.send(ALERTS, later.model_dump_json().encode())
        table = running.run("alerts").splitlines()
        assert len(table) == 2
        told = "firing shop/cart 03-02 00:00 3 min less than once in 10 years up"
        assert table[1].split() == told.split()
        (line,) = running.run("alerts", "--json").splitlines()
        assert json.loads(line) == json.loads(later.model_dump_json())


def test_the_database_is_kept_between_starts(short_dir: Path) -> None:
    for expected in (0, 1):
        with up(short_dir / "d") as running:
            url = json.loads((short_dir / "d" / "run.json").read_text())["database"]["url"]
            with psycopg.connect(url, autocommit=True) as connection:
                found = connection.execute("SELECT count(*) FROM deliveries").fetchone()
                assert found == (expected,)
                connection.execute(
                    "INSERT INTO deliveries "
                    "(alert_id, revision, channel, reason, outcome, attempts, error) "
                    "VALUES ('a', 1, 'c', 'new', 'sent', 1, '')"
                )
            assert running.stop() == 0


def test_it_runs_on_apache_kafka_and_debian_s_postgresql(
    kafka_broker: Broker,
    debian_database: str,
    new_database: Callable[[str], str],
    short_dir: Path,
) -> None:
    """Samples are acknowledged, their rollups come to the database, and nothing is embedded."""
    url = new_database(debian_database)
    settings = variables(kafka_broker) | {
        "WATCHKEEP_DATABASE__URL": url,
        "WATCHKEEP_CLOCK": "event",
    }
    shop = small_shop(1, 0.02)
    with (
        up(short_dir / "d", **settings) as running,
        # A transaction that stays open would keep detect from adding a day to the rollups.
        psycopg.connect(url, autocommit=True) as database,
    ):
        assert "embedded" not in running.text()
        for request in requests(shop, 2_000):
            running.send(request.body)
        cells = (shop.end_ms - shop.start_ms) // 60_000 - 2  # The last ones are open still.
        count = "SELECT count(DISTINCT at) FROM rollups JOIN signals USING (signal_id)"
        of_cart = f"{count} WHERE entity = '{workload('cart')}'"
        running.until(lambda: database.execute(of_cart).fetchall()[0][0] >= cells)
        assert running.run("alerts") == "no alerts so far\n"
        assert running.stop() == 0


def test_a_stage_that_is_killed_is_started_again(short_dir: Path) -> None:
    with up(short_dir / "d") as running:
        first = running.pid_of("gateway")
        os.kill(first, signal.SIGKILL)
        running.until(lambda: running.pid_of("gateway") not in {0, first})
        running.until(running.answers)
        assert "gateway died (SIGKILL), starting it again in 0.5 s" in running.text()


def test_it_gives_up_at_five_deaths_in_a_minute(short_dir: Path) -> None:
    with up(short_dir / "d") as running:
        killed: set[int] = set()
        while running.process.poll() is None:
            pid = running.pid_of("incidents")
            if pid and pid not in killed:
                killed.add(pid)
                os.kill(pid, signal.SIGKILL)
            time.sleep(0.05)
        assert running.process.returncode == 1
        assert len(killed) == 5
        assert "incidents died 5 times in a minute, giving up" in running.text()


def test_nothing_outlives_a_killed_parent_nor_the_next_one(short_dir: Path) -> None:
    folder = short_dir / "d"
    with up(folder) as running:
        family = left_of(folder)
        assert len(family) >= 7, family  # Itself, four stages, the broker and the database.
        sockets = (folder / "postgres.socket").readlink()
        running.process.kill()
        running.process.wait()
        assert not psutil.wait_procs(family, timeout=10)[1]
    with up(folder) as running:
        assert running.stop() == 0
    assert left_of(folder) == []
    assert not sockets.exists()
    assert {path.name for path in folder.iterdir()} == {"lock", "postgres", "postgres.log"}


def test_a_database_of_a_process_that_is_no_more_is_no_reason_to_end_another(
    short_dir: Path,
) -> None:
    """A lock file may be left whose pid is another program's now, even one of the same user."""
    home = short_dir / "d" / "postgres"
    lock = home / "postmaster.pid"
    with up(short_dir / "d") as running:
        _, *rest = lock.read_text().splitlines(keepends=True)
        assert running.stop() == 0
    with subprocess.Popen(["sleep", "60"], user=home.stat().st_uid) as other:
        lock.write_text("".join([f"{other.pid}\n", *rest]))
        (home / ".handle_pids.json").write_text(f"[{other.pid}]")  # As older versions do.
        try:
            with up(short_dir / "d") as running:
                assert running.stop() == 0
            assert other.poll() is None
        finally:
            other.kill()


async def test_another_database_on_the_folder_is_told_and_goes_on(short_dir: Path) -> None:
    async with postgres.database(short_dir / "d" / "postgres") as server:
        line = refused(
            "up", WATCHKEEP_DATA_DIR=str(short_dir / "d"), WATCHKEEP_GATEWAY__PORT=str(free_port())
        )
        assert line.startswith(
            f"watchkeep: data_dir: another PostgreSQL (process {server.pid}) runs on"
        )
        assert server.lives()


async def test_why_a_database_does_not_start_is_told(short_dir: Path) -> None:
    home = short_dir / "d" / "postgres"
    async with postgres.database(home):
        pass
    (home / "PG_VERSION").write_text("9.1\n")
    line = refused(
        "up", WATCHKEEP_DATA_DIR=str(short_dir / "d"), WATCHKEEP_GATEWAY__PORT=str(free_port())
    )
    assert line.startswith("watchkeep: data_dir: the embedded database doesn't start on")
    assert "The data directory was initialized by PostgreSQL version 9.1" in line


def test_a_long_path_through_a_closed_folder_stays_closed(short_dir: Path) -> None:
    short_dir.chmod(0o700)
    folder = short_dir / ("d" * 120)
    with up(folder) as running:
        assert running.stop() == 0
    assert short_dir.stat().st_mode & 0o777 == 0o700
    assert left_of(folder) == []


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("moment", MOMENTS)
def test_it_can_be_stopped_while_it_starts(
    short_dir: Path, moment: str, number: signal.Signals
) -> None:
    folder = short_dir / "d"
    with starting(folder, moment) as running:
        assert running.stop(number) == 0, running.text()
        assert running.text().splitlines()[-1] == "stopped"
        assert "remote write" not in running.text()
    assert left_of(folder) == []
    assert not list(folder.glob("postgres.new-*"))
    with up(folder) as running:
        assert running.stop() == 0


def test_a_database_half_made_is_made_again(short_dir: Path) -> None:
    folder = short_dir / "d"
    with starting(folder, "while the database is made") as running:
        family = left_of(folder)
        running.process.kill()
        running.process.wait()
        assert not psutil.wait_procs(family, timeout=10)[1]
    with up(folder) as running:
        assert running.stop() == 0
    assert left_of(folder) == []
    assert not list(folder.glob("postgres.new-*"))


def test_a_second_one_on_the_same_folder_is_refused(short_dir: Path) -> None:
    with up(short_dir / "d"):
        port = str(free_port())
        line = refused("up", WATCHKEEP_DATA_DIR=str(short_dir / "d"), WATCHKEEP_GATEWAY__PORT=port)
        assert line.startswith("watchkeep: data_dir: another `watchkeep up` runs on")


def test_a_port_in_use_is_told(short_dir: Path) -> None:
    with up(short_dir / "d") as running:
        port = str(running.port)
        line = refused("up", WATCHKEEP_DATA_DIR=str(short_dir / "e"), WATCHKEEP_GATEWAY__PORT=port)
        assert line.startswith(f"watchkeep: gateway.port: can't listen on 127.0.0.1:{port}")


@pytest.mark.parametrize("command", ["up", "incidents"])
def test_a_database_out_of_reach_is_told(broker: Broker, short_dir: Path, command: str) -> None:
    line = refused(
        command,
        WATCHKEEP_DATA_DIR=str(short_dir),
        WATCHKEEP_GATEWAY__PORT=str(free_port()),
        **variables(broker),
        WATCHKEEP_DATABASE__URL="postgresql://u:hunter2@127.0.0.1:1/d",
    )
    assert line.startswith("watchkeep: database.url: can't connect to 127.0.0.1:1")
    assert "hunter2" not in line


@pytest.mark.parametrize("command", ["up", "gateway", "detect"])
def test_a_broker_out_of_reach_is_told(database_url: str, short_dir: Path, command: str) -> None:
    line = refused(
        command,
        WATCHKEEP_DATA_DIR=str(short_dir),
        WATCHKEEP_GATEWAY__PORT=str(free_port()),
        WATCHKEEP_BROKER__BOOTSTRAP="127.0.0.1:1",
        WATCHKEEP_DATABASE__URL=database_url,
    )
    assert line.startswith("watchkeep: broker.bootstrap: no Kafka answers at 127.0.0.1:1")


def test_a_stage_alone_says_what_it_needs(short_dir: Path) -> None:
    line = refused("detect", WATCHKEEP_DATA_DIR=str(short_dir))
    assert "broker.bootstrap is empty and no `watchkeep up` runs on" in line


def test_a_wrong_url_of_a_notification_is_told_before_anything_starts(short_dir: Path) -> None:
    line = refused("up", WATCHKEEP_DATA_DIR=str(short_dir / "d"), WATCHKEEP_NOTIFY__URLS="nonsense")
    assert line.startswith("watchkeep: notify.urls[0]: ")
    assert not (short_dir / "d").exists()
