"""Real metrics in, an alert out: Prometheus and node-exporter, as Debian ships them."""

import asyncio
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from watchkeep.streams.embedded import free_port

pytestmark = [pytest.mark.prometheus, pytest.mark.usefixtures("embedded_servers")]

# Cells of two seconds, so that who was there for two minutes is missed.
WATCHKEEP = """
data_dir = "{data}"
[gateway]
port = {gateway}
[detect]
step_s = 2
grace_s = 3
hold_s = 10
[notify]
urls = ["json://127.0.0.1:{webhook}/"]
"""

PROMETHEUS = """
global:
  scrape_interval: 1s
  external_labels: {{cluster: test, prometheus_replica: a}}
scrape_configs:
  - job_name: node
    static_configs: [{{targets: ["127.0.0.1:{exporter}"]}}]
remote_write:
  - url: http://127.0.0.1:{gateway}/api/v1/write
    queue_config: {{batch_send_deadline: 1s}}
"""

WARM_S = 150
FOUND_S = 60


@contextmanager
def process(*command: str, log: Path) -> Iterator[subprocess.Popen[bytes]]:
    with log.open("wb") as output, subprocess.Popen(command, stdout=output, stderr=output) as child:
        try:
            yield child
        finally:
            child.terminate()
            try:
                child.wait(10)
            except subprocess.TimeoutExpired:
                child.kill()


@pytest.fixture
async def webhook() -> AsyncIterator[tuple[int, asyncio.Queue[dict[str, Any]]]]:
    received: asyncio.Queue[dict[str, Any]] = asyncio.Queue()

    async def receive(request: web.Request) -> web.Response:
        received.put_nowait(await request.json())
        return web.Response()

    app = web.Application()
    app.router.add_post("/", receive)
    runner = web.AppRunner(app)
    await runner.setup()
    port = free_port()
    await web.TCPSite(runner, "127.0.0.1", port).start()
    yield port, received
    await runner.cleanup()


async def about_the_node(received: asyncio.Queue[dict[str, Any]]) -> dict[str, Any]:
    while True:
        message = await received.get()
        if message["title"] == "FIRING node 127.0.0.1":
            return message


async def test_a_node_exporter_that_dies_is_told_to_a_webhook(
    short_dir: Path,
    webhook: tuple[int, asyncio.Queue[dict[str, Any]]],
    need_program: Callable[[str], str],
) -> None:
    """Within a minute after its end, a webhook hears that nobody is there any more."""
    prometheus, node_exporter = map(need_program, ("prometheus", "prometheus-node-exporter"))
    port, received = webhook
    gateway, exporter = free_port(), free_port()
    config = short_dir / "watchkeep.toml"
    config.write_text(WATCHKEEP.format(data=short_dir / "d", gateway=gateway, webhook=port))
    scrape = short_dir / "prometheus.yml"
    scrape.write_text(PROMETHEUS.format(exporter=exporter, gateway=gateway))
    with ExitStack() as running:
        running.enter_context(
            process(
                *(sys.executable, "-m", "watchkeep.streams.cli", "--config", str(config), "up"),
                log=short_dir / "watchkeep.log",
            )
        )
        dying = running.enter_context(
            process(
                node_exporter,
                *("--collector.disable-defaults", "--collector.cpu"),
                *("--collector.loadavg", "--collector.stat"),
                f"--web.listen-address=127.0.0.1:{exporter}",
                log=short_dir / "exporter.log",
            )
        )
        running.enter_context(
            process(
                prometheus,
                f"--config.file={scrape}",
                f"--storage.tsdb.path={short_dir / 'tsdb'}",
                f"--web.listen-address=127.0.0.1:{free_port()}",
                log=short_dir / "prometheus.log",
            )
        )
        await asyncio.sleep(WARM_S)
        assert received.empty()
        dying.terminate()
        try:
            async with asyncio.timeout(FOUND_S):
                message = await about_the_node(received)
        except TimeoutError:
            pytest.fail((short_dir / "watchkeep.log").read_text()[-3000:])
    assert "all of its members are gone" in message["message"]
