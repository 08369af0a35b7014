"""The gateway's door on a real socket, for tests; as a program, the gateway on a log in memory."""

import asyncio
import contextlib
import resource
import sys
from collections.abc import AsyncIterator

import cramjam
from aiohttp import web

from watchkeep.schemas.errors import RemoteWriteError
from watchkeep.schemas.remote_write_pb2 import WriteRequest
from watchkeep.schemas.settings import Gateway as GatewaySettings
from watchkeep.schemas.settings import Settings
from watchkeep.streams import front_door
from watchkeep.streams.bodies import BodyBudget, read_body
from watchkeep.streams.gateway import Gateway
from watchkeep.streams.memory import MemoryLog
from watchkeep.streams.senders import SENDER, charge, check_senders
from watchkeep.streams.vitals import TURNED_AWAY, routes

PATH = "/api/v1/write"
HEADERS = {"Content-Type": "application/x-protobuf", "Content-Encoding": "snappy"}
# What a sample is here: so many bytes of a body.
SAMPLE_BYTES = 100


class Plain:
    """An application that reads bodies and tells their length and sender."""

    def __init__(self, settings: GatewaySettings) -> None:
        self._settings = settings
        self.budget = BodyBudget(round(settings.bodies_max_mb * 1024 * 1024))

    def app(self) -> web.Application:
        """Make it."""
        app = web.Application(middlewares=[check_senders(self._settings)])
        app.router.add_post(PATH, self._write)
        app.router.add_routes(routes())
        return app

    async def _write(self, request: web.Request) -> web.Response:
        bytes_max = round(self._settings.max_body_mb * 1024 * 1024)
        try:
            with self.budget.share() as share:
                body = await read_body(request, bytes_max, share, self._settings.request_timeout_s)
        except RemoteWriteError as error:
            headers = {"Retry-After": str(error.retry_after_s)} if error.retry_after_s else {}
            return web.Response(status=error.status, headers=headers, text=f"{error}\n")
        charge(request, len(body) // SAMPLE_BYTES)
        return web.Response(text=f"{len(body)} {request[SENDER]}")


@contextlib.asynccontextmanager
async def opened(settings: GatewaySettings, plain: Plain | None = None) -> AsyncIterator[int]:
    """Open the door to `Plain` while the block runs; give its port."""
    app = (plain or Plain(settings)).app()
    door = await front_door.open_door(app, settings.model_copy(update={"port": 0}))
    try:
        yield door.port
    finally:
        await door.close()


def turned_away(reason: str) -> float:
    """Tell how many were turned away for a reason."""
    return float(TURNED_AWAY.labels(reason)._value.get())


def small_body() -> bytes:
    """Make a request of one sample, compressed."""
    message = WriteRequest()
    series = message.timeseries.add()
    for name, value in {"__name__": "up", "namespace": "shop", "pod": "cart-0"}.items():
        series.labels.add(name=name, value=value)
    series.samples.add(timestamp=1_772_409_600_000, value=1.0)
    return bytes(cramjam.snappy.compress_raw(message.SerializeToString()))


async def _serve(settings: GatewaySettings) -> None:
    # As a shell or container starts it: with few files, and leave to have more.
    resource.setrlimit(
        resource.RLIMIT_NOFILE, (1_024, resource.getrlimit(resource.RLIMIT_NOFILE)[1])
    )
    gateway = Gateway(Settings(gateway=settings), MemoryLog())
    door = await front_door.open_door(gateway.app(), settings.model_copy(update={"port": 0}))
    sys.stdout.write(f"{door.port}\n")
    sys.stdout.flush()
    await gateway.write()


if __name__ == "__main__":
    asyncio.run(_serve(GatewaySettings.model_validate_json(sys.argv[1])))
