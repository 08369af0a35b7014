"""The demo, end to end."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.usefixtures("embedded_servers")
def test_the_demo_finds_faults_and_ends_by_itself(tmp_path: Path) -> None:
    page = tmp_path / "report.html"
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "watchkeep.streams.cli",
            "demo",
            "--days",
            "0.2",
            "--json",
            "--out",
            str(page),
        ],
        capture_output=True,
        check=False,
        timeout=400,
    )
    assert done.returncode == 0, done.stderr.decode()
    result = json.loads(done.stdout.decode().splitlines()[-1])
    # With no past to compare with it can't find them all.
    assert result["faults"] >= 2
    assert result["found"] >= 1
    assert 0 < result["median_delay_s"] < 600
    assert result["samples"] > 2_000_000
    assert 0 < result["pss_mb"] < 1_500
    told = done.stderr.decode()
    assert "FIRING" in told
    assert "RESOLVED" in told
    report = page.read_text()
    assert report.count("<svg") >= 1 + result["faults"]
    # It is whole by itself: nothing is fetched.
    assert not re.search(r"(src|href)=.https?:|url\(.?https?:|<script", report)
