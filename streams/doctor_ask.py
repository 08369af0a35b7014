"""Asking a stage how it does: its /metrics and /readyz, at the address that the settings tell."""

import asyncio
from collections import Counter, defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final
from urllib.parse import urlsplit

import aiohttp
from prometheus_client.parser import text_string_to_metric_families

from watchkeep.schemas.settings import Settings
from watchkeep.schemas.text import plain

_ANSWER_S: Final = 5.0
SILENCE: Final = "nothing listens there"
_BYTES_MAX: Final = 16 * 1024 * 1024
_NAMES: Final = "watchkeep_"
_NO_ADDRESS: Final = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 - Nothing is bound here.

Samples = Mapping[str, list[tuple[dict[str, str], float]]]


@dataclass(frozen=True, slots=True)
class Answer:
    """What a stage said of itself.

    Attributes:
        where: its address.
        trouble: why there is no answer; empty where there is.
        not_ready: what it can't do its work for; empty while it is ready.
        samples: by a metric's name, all that /metrics told.
    """

    where: str
    trouble: str = ""
    not_ready: str = ""
    samples: Samples = field(default_factory=dict)

    def value(self, name: str) -> float:
        """Add up a metric over its labels."""
        return sum(value for _, value in self.samples.get(name, ()))

    def by(self, name: str, label: str) -> Counter[str]:
        """Add up a metric by one of its labels; what is zero is left out."""
        found: Counter[str] = Counter()
        for labels, value in self.samples.get(name, ()):
            found[labels.get(label, "")] += round(value)
        return +found


def address(host: str) -> str:
    """Tell where to ask a stage that listens on a host, which may be all addresses."""
    host = _NO_ADDRESS.get(host, host)
    return f"[{host}]" if ":" in host else host


def gateway_url(settings: Settings) -> str:
    """Tell where the gateway answers on this machine."""
    gateway = settings.gateway
    scheme = urlsplit(gateway.url).scheme
    return f"{scheme}://{address(gateway.host)}:{gateway.port}"


def stage_url(settings: Settings, stage: str) -> str:
    """Tell where a stage answers on this machine; empty for nowhere."""
    port = settings.monitor.port_of(stage)
    return f"http://{address(settings.monitor.host)}:{port}" if port else ""


async def ask(url: str) -> Answer:
    """Ask a stage; nothing secret is sent, so whoever answers need not prove who it is."""
    try:
        return await _ask(url)
    except TimeoutError:
        return Answer(url, f"no answer within {_ANSWER_S:.0f} s")
    except (aiohttp.ClientError, OSError, ValueError) as error:
        if isinstance(error, aiohttp.ClientConnectorError) and _refused(error):
            return Answer(url, SILENCE)
        trouble = await _other_scheme(url)
        return Answer(url, trouble or f"no answer that could be read: {plain(str(error))}")


def _refused(error: aiohttp.ClientConnectorError) -> bool:
    return isinstance(error.os_error, ConnectionRefusedError) or (
        # All addresses of a name were tried.
        "Connect call failed" in str(error.os_error)
    )


async def _other_scheme(url: str) -> str:
    """Find out whether it is TLS, or the want of it, that keeps us from being answered."""
    secure = url.startswith("https:")
    other = url.replace("https:", "http:", 1) if secure else url.replace("http:", "https:", 1)
    try:
        await _ask(other)
    except (TimeoutError, aiohttp.ClientError, OSError, ValueError):
        return ""
    if secure:
        return "it speaks plain HTTP, and gateway.tls is set: it runs with other settings"
    return "it speaks TLS, and gateway.tls is not set: it runs with other settings"


async def _ask(url: str) -> Answer:
    timeout = aiohttp.ClientTimeout(total=_ANSWER_S)
    async with aiohttp.ClientSession(timeout=timeout) as http:
        async with http.get(f"{url}/metrics", ssl=False) as told:
            told.raise_for_status()
            text = (await _body(told)).decode(errors="replace")
        if _NAMES not in text:
            raise ValueError("what answers there isn't Watchkeep")
        async with http.get(f"{url}/readyz", ssl=False) as ready:
            why = "" if ready.ok else plain(await ready.text(errors="replace"), 300)
        samples = await asyncio.to_thread(_parse, text)
        return Answer(url, "", why or ("" if ready.ok else "it isn't ready"), samples)


async def _body(told: aiohttp.ClientResponse) -> bytes:
    """Read an answer, as long as it isn't without end."""
    parts, size = [], 0
    while chunk := await told.content.readany():
        size += len(chunk)
        if size > _BYTES_MAX:
            raise ValueError("what answers there tells too much")
        parts.append(chunk)
    return b"".join(parts)


def _parse(text: str) -> Samples:
    found: defaultdict[str, list[tuple[dict[str, str], float]]] = defaultdict(list)
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            found[sample.name].append((dict(sample.labels), sample.value))
    return found
