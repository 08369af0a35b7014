"""The demo, end to end."""

import json
import subprocess
import sys

import pytest


@pytest.mark.usefixtures("embedded_servers")
def test_the_demo_finds_its_faults_and_ends_by_itself() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "watchkeep.streams.cli", "demo", "--days", "0.5", "--json"],
        capture_output=True,
        check=False,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr.decode()
    result = json.loads(done.stdout.decode().splitlines()[-1])
    assert (result["faults"], result["found"], result["false_alerts"]) == (3, 3, 0)
    assert 0 < result["median_delay_s"] < 600
    assert result["samples"] > 100_000
    assert 0 < result["pss_mb"] < 1_500
    told = done.stderr.decode()
    assert told.count("FIRING") >= 3
    assert "RESOLVED" in told
