"""Sending the simulated shop's samples to a gateway, as Prometheus would."""

import asyncio
import time
from dataclasses import dataclass
from typing import Final

import aiohttp
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn

from watchkeep.schemas.errors import StageError
from watchkeep.schemas.text import clock_time, duration
from watchkeep.shop.model import Shop
from watchkeep.shop.remote_write import HEADERS, requests

# Some ten scrapes at a time: days go by in minutes.
_SAMPLES_A_REQUEST: Final = 50_000
_AGAIN_S: Final = 0.1
_RESEND_S: Final = 60.0
_PLAIN_STEP: Final = 0.2


@dataclass(slots=True)
class Sent:
    """How far it is.

    Attributes:
        samples: acknowledged; `seconds`: wall time since the first was sent.
        last_ms: when the newest of them was taken.
    """

    samples: int = 0
    seconds: float = 0.0
    last_ms: int = 0

    @property
    def rate(self) -> str:
        """Samples by wall time, in words."""
        return f"{self.samples / max(self.seconds, 1e-3):,.0f} samples a second"


async def send(shop: Shop, url: str, console: Console, sent: Sent) -> None:
    """Send every request, one after the other, with a progress bar.

    Raises:
        StageError: the gateway refuses a request, or can't be reached for a minute.
    """
    begun_s = time.monotonic()
    plain_from, whole_ms = _PLAIN_STEP, shop.end_ms - shop.live_ms
    timeout = aiohttp.ClientTimeout(total=_RESEND_S)
    async with aiohttp.ClientSession(timeout=timeout) as http:
        with _progress(console) as progress:
            bar = progress.add_task("", total=whole_ms, clock="", rate="")
            for request in requests(shop, _SAMPLES_A_REQUEST, grouped=True):
                await _send(http, url, request.body)
                sent.samples += request.samples
                sent.last_ms = request.last_ms
                sent.seconds = time.monotonic() - begun_s
                done_ms = min(sent.last_ms, shop.end_ms) - shop.live_ms
                now = clock_time(sent.last_ms)
                progress.update(bar, completed=done_ms, clock=now, rate=sent.rate)
                if progress.disable and done_ms >= plain_from * whole_ms:
                    plain_from += _PLAIN_STEP
                    console.print(f"{now}  {done_ms / whole_ms:.0%}  {sent.rate}", highlight=False)
    console.print(
        f"sent {sent.samples:,} samples of {duration(whole_ms / 1000)} in {sent.seconds:.1f} s, "
        f"{sent.rate}",
        highlight=False,
    )


def _progress(console: Console) -> Progress:
    return Progress(
        TextColumn("{task.fields[clock]}"),
        BarColumn(),
        TextColumn("{task.percentage:>3.0f}%  {task.fields[rate]}"),
        console=console,
        disable=not console.is_terminal,
        transient=True,
    )


async def _send(http: aiohttp.ClientSession, url: str, body: bytes) -> None:
    """Send a request until it is taken: a gateway that died is started again."""
    deadline_s = time.monotonic() + _RESEND_S
    while (wait_s := await _post(http, url, body)) is not None:
        if time.monotonic() + wait_s > deadline_s:
            raise StageError(f"{url} did not take a request within {_RESEND_S:.0f} s")
        await asyncio.sleep(wait_s)


async def _post(http: aiohttp.ClientSession, url: str, body: bytes) -> float | None:
    """Send once; return how long to wait before sending again, None when it was taken."""
    try:
        async with http.post(url, data=body, headers=HEADERS) as answer:
            if answer.status == 503:
                return float(answer.headers.get("Retry-After", "1"))
            if not answer.ok:
                raise StageError(f"{url} answered {answer.status}: {await answer.text()}")
            return None
    except (aiohttp.ClientConnectionError, TimeoutError):
        return _AGAIN_S
