"""`watchkeep doctor` beside a running `watchkeep up`."""

import json
import subprocess
from pathlib import Path

import pytest

from running_up import WATCHKEEP, Running, up
from small_shop import small_shop
from watchkeep.shop.remote_write import requests
from watchkeep.streams.embedded import free_port

pytestmark = [
    pytest.mark.broker,
    pytest.mark.database,
    pytest.mark.usefixtures("embedded_servers"),
]
# It leaves room for the two ports behind it.
MONITOR_MAX = 65_000


def asked(running: Running) -> tuple[int, list[dict[str, str]]]:
    """Ask the doctor: its exit code, and what it found."""
    done = subprocess.run(
        [*WATCHKEEP, "doctor", "--json"], env=running.environment, capture_output=True, check=False
    )
    return done.returncode, [json.loads(line) for line in done.stdout.splitlines()]


def test_it_says_what_is_missing_before_any_data_came_and_after(short_dir: Path) -> None:
    monitor = str(min(free_port(), MONITOR_MAX))
    settings = {"WATCHKEEP_CLOCK": "event", "WATCHKEEP_MONITOR__PORT": monitor}
    with up(short_dir / "d", **settings) as running:
        code, found = asked(running)
        assert code == 1, found
        assert found[-1]["stage"] == "verdict"
        assert found[-1]["told"] == (
            "first in the way is gateway: nobody has tried to send since it started"
        )
        assert f"- url: http://127.0.0.1:{running.port}/api/v1/write" in found[-1]["advice"]
        told = {one["stage"]: one["told"] for one in found}
        assert told["detect"].startswith("it runs")

        for request in requests(small_shop(1, 0.01), 5_000):
            running.send(request.body)
        running.until(lambda: any(one["stage"] == "signals" for one in asked(running)[1]))
        code, found = asked(running)
        assert code == 0, found
        assert [one["told"] for one in found if one["stage"] == "gateway"][1].endswith("requests")
        assert [one["level"] for one in found if one["stage"] == "folding"] == ["ok"]
        # A quarter of an hour is too little to fire.
        assert "fire" in found[-1]["told"] or "may page" in found[-1]["told"]
        assert found[-1]["level"] == "warn"
