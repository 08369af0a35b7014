"""`watchkeep up` while its database is gone: nothing dies, people are told, and it goes on."""

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread

import psycopg
import pytest

import servers
from small_shop import small_shop
from watchkeep.shop.remote_write import HEADERS, requests
from watchkeep.streams.embedded import free_port

pytestmark = [
    pytest.mark.broker,
    pytest.mark.database,
    pytest.mark.usefixtures("embedded_servers", "debian_postgresql"),
]


@contextmanager
def webhook() -> Iterator[tuple[int, list[bytes]]]:
    """Receive notifications."""
    received: list[bytes] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            received.append(self.rfile.read(int(self.headers["Content-Length"])))
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    server = HTTPServer(("127.0.0.1", 0), Handler)
    Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield server.server_port, received
    finally:
        server.shutdown()
        server.server_close()


def until(true: Callable[[], object], what: str, seconds: float = 180) -> None:
    end_s = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end_s, f"{what} did not come"
        time.sleep(0.2)


def post(port: int, body: bytes) -> bool:
    import urllib.error  # noqa: PLC0415 - For this one function.
    import urllib.request  # noqa: PLC0415 - As above.

    request = urllib.request.Request(
        f"http://127.0.0.1:{port}/api/v1/write", data=body, headers=HEADERS
    )
    try:
        with urllib.request.urlopen(request, timeout=20) as answer:
            return bool(answer.status == 204)
    except (urllib.error.URLError, ConnectionError):
        return False


def rollups(url: str) -> int:
    with psycopg.connect(url) as connection:
        row = connection.execute("SELECT count(*) FROM rollups").fetchone()
        assert row is not None
        return int(row[0])


def test_people_are_told_that_watchkeep_is_blind_and_nothing_dies(short_dir: Path) -> None:
    port, log = free_port(), short_dir / "up.log"
    bodies = [request.body for request in requests(small_shop(1), 4_000)]
    with webhook() as (hook, received), servers.Postgres(short_dir / "pg") as postgres:
        settings = {
            "WATCHKEEP_DATA_DIR": str(short_dir / "d"),
            "WATCHKEEP_CLOCK": "event",
            "WATCHKEEP_GATEWAY__PORT": str(port),
            "WATCHKEEP_DATABASE__URL": postgres.url,
            "WATCHKEEP_NOTIFY__URLS": f"json://127.0.0.1:{hook}/",
            "WATCHKEEP_NOTIFY__BLIND_AFTER_S": "3",
        }
        with log.open("wb") as output:
            up = subprocess.Popen(
                [sys.executable, "-m", "watchkeep.streams.cli", "up"],
                env=os.environ | settings,
                stdout=output,
                stderr=output,
            )
        try:
            until(lambda: post(port, bodies[0]), "the gateway")
            assert all(post(port, body) for body in bodies[1:5])
            until(lambda: rollups(postgres.url), "the first rollups")
            before = rollups(postgres.url)
            postgres.kill()
            assert all(post(port, body) for body in bodies[5:10]), "samples are still taken"
            until(lambda: any(b"is blind" in body for body in received), "the message")
            postgres.start()
            until(lambda: any(b"sees again" in body for body in received), "the second message")
            until(lambda: rollups(postgres.url) > before, "what was missed")
            assert sum(b"is blind" in body for body in received) == 1
            assert up.poll() is None
        finally:
            up.terminate()
            up.wait(20)
    said = log.read_text()
    assert "died" not in said, said
