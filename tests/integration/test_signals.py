"""`watchkeep signals` and `doctor` as a person runs them, beside a `watchkeep up`."""

import json
import subprocess
import time
from pathlib import Path

import pytest

from running_up import WATCHKEEP, Running, up
from small_catalogue import CART, fill
from watchkeep.schemas.settings import Settings
from watchkeep.streams.store import open_to_read

pytestmark = [
    pytest.mark.broker,
    pytest.mark.database,
    pytest.mark.usefixtures("embedded_servers"),
]


def doctor(running: Running) -> tuple[int, dict[str, str]]:
    """Ask the doctor; return its exit code, and of each stage the last line's level."""
    done = subprocess.run(
        [*WATCHKEEP, "doctor", "--json"],
        env=running.environment,
        capture_output=True,
        check=False,
        text=True,
    )
    found = [json.loads(line) for line in done.stdout.splitlines()]
    return done.returncode, {finding["stage"]: finding["level"] for finding in found}


async def test_a_person_sees_what_is_watched_and_what_is_wrong(short_dir: Path) -> None:
    with up(short_dir / "d") as running:
        assert running.run("signals", "list").startswith("no data has arrived yet: ")
        code, levels = doctor(running)
        assert (code, levels["broker"], levels["database"]) == (1, "ok", "ok")
        assert levels["senders"] == "bad"
        settings = Settings.model_validate_json((short_dir / "d" / "run.json").read_text())
        async with open_to_read(settings.database.url.get_secret_value()) as store:
            now_ms = time.time_ns() // 1_000_000
            await fill(store, now_ms // 60_000 * 60_000 - 60_000, now_ms)
        assert "shop/cart" in running.run("signals", "list", "shop/*")
        (told,) = running.run("signals", "show", "shop/cart", "--json").splitlines()
        assert json.loads(told)["entity"] == CART
        assert doctor(running) == (
            0,
            {
                "settings": "ok",
                "broker": "ok",
                "database": "ok",
                "gateway": "ok",
                "detect": "ok",
                "senders": "ok",
                "folding": "ok",
                "limit": "ok",
                "dropped": "warn",
                "signals": "ok",
                "incidents": "ok",
                "notify": "ok",
                "receivers": "warn",
                "deliveries": "ok",
                "verdict": "ok",
            },
        )
