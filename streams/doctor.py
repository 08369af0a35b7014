"""`watchkeep doctor`: stage by stage, is all well, and if not, what to do.

The findings come in the order of the data's way, after the servers that all of it stands on; so
the first that is in the way is what to mend first.
"""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from watchkeep.schemas.errors import ConfigError, WatchkeepError
from watchkeep.schemas.settings import Settings
from watchkeep.streams import config, running, store
from watchkeep.streams.doctor_ask import Answer, ask, gateway_url, stage_url
from watchkeep.streams.doctor_detect import of_cells, of_limits, of_reasons, of_senders
from watchkeep.streams.doctor_gateway import elsewhere, of_gateway, write_url
from watchkeep.streams.doctor_notify import (
    of_alerting,
    of_deliveries,
    of_receivers,
    of_troubles,
)
from watchkeep.streams.doctor_signals import WARM_CELLS, of_budgets, of_days, of_warmth
from watchkeep.streams.doctor_stages import ANSWER_S, of_all, of_broker, of_database
from watchkeep.streams.findings import Finding, Level, first_cause
from watchkeep.streams.lookup import Alerting, Channel, DoctorStore
from watchkeep.streams.ports import Clock
from watchkeep.streams.stores import Trouble

_BEHIND: Final = ("detect", "incidents", "notify")
# detect writes what it watches every minute.
_HEARD_MS: Final = 180_000


@dataclass(frozen=True, slots=True)
class Kept:
    """What the store tells.

    Attributes:
        found: of detect.
        active: who holds which lease; None where the store can't be read.
        reports: detect has written a moment ago; `heard` somebody by then.
    """

    found: list[Finding] = field(default_factory=list)
    active: Mapping[str, str] | None = None
    reports: bool = False
    heard: bool = False
    alerting: Alerting | None = None
    channels: list[Channel] = field(default_factory=list)
    troubles: list[Trouble] = field(default_factory=list)


async def examine(file: Path | None, clock: Clock) -> list[Finding]:
    """Look at everything that can be looked at; the last finding is the verdict."""
    found = await _examine(file, clock)
    return [*found, first_cause(found)]


async def _examine(file: Path | None, clock: Clock) -> list[Finding]:
    try:
        settings = config.load(file)
    except ConfigError as error:
        return [Finding(Level.BAD, "settings", str(error), "mend that first")]
    found = [Finding(Level.OK, "settings", "they are fine")]
    try:
        settings = running.resolved(settings)
    except ConfigError as error:
        return [*found, await _no_servers(settings, error)]
    # Each of them may wait long for who doesn't answer.
    (gateway, broker, database), answers = await asyncio.gather(
        asyncio.gather(ask(gateway_url(settings)), of_broker(settings), of_database(settings)),
        asyncio.gather(*(_ask_stage(settings, stage) for stage in _BEHIND)),
    )
    found += [*broker, database]
    kept = Kept()
    if database.level is Level.OK:
        try:
            kept = await _kept(settings, clock, gateway)
        except (WatchkeepError, TimeoutError) as error:
            found.append(Finding(Level.BAD, "database", f"it can't be read: {error}"))
    now_ms = clock.now_ms()
    if gateway.trouble and (other := _of_up(settings)):
        found.append(elsewhere(gateway, other))
        gateway = await ask(other)
    found += of_gateway(gateway, settings.gateway, now_ms, heard=kept.heard)
    stages = of_all(dict(zip(_BEHIND, answers, strict=True)), kept.active, reports=kept.reports)
    found += [*stages["detect"], *kept.found, *of_budgets(settings.detect), *stages["incidents"]]
    if kept.alerting is not None:
        found += of_alerting(kept.alerting, now_ms)
    told, names = of_receivers(settings.notify)
    found += [*stages["notify"], *told]
    if kept.alerting is not None:
        found += of_deliveries(kept.channels, names, kept.alerting, now_ms)
    return found + of_troubles(kept.troubles)


async def _no_servers(settings: Settings, error: ConfigError) -> Finding:
    answer = await ask(gateway_url(settings))
    advice = ""
    if not answer.trouble:
        advice = (
            f"a gateway answers at {answer.where} though: if it is of a `watchkeep up`, ask with "
            "the data_dir and the --config that it has"
        )
    return Finding(Level.BAD, "servers", str(error), advice)


def _of_up(settings: Settings) -> str:
    """Tell where the gateway of a running `up` is, if it isn't where these settings say."""
    there = running.settings_of_up(settings)
    url = gateway_url(there) if there else ""
    return "" if url == gateway_url(settings) else url


async def _ask_stage(settings: Settings, stage: str) -> Answer | None:
    url = stage_url(settings, stage)
    return await ask(url) if url else None


async def _kept(settings: Settings, clock: Clock, gateway: Answer) -> Kept:
    url = settings.database.url.get_secret_value()
    accepted = gateway.value("watchkeep_accepted_samples_total") > 0
    async with asyncio.timeout(ANSWER_S), store.open_store(url) as opened:
        senders = await opened.senders()
        told_ms = max((sender.told_ms for sender in senders), default=0)
        reports = clock.now_ms() - told_ms <= _HEARD_MS
        heard_ms = max((sender.heard_ms for sender in senders), default=0)
        if settings.clock == "event":
            heard_ms = told_ms  # Event time doesn't tell when that was.
        return Kept(
            await of_store(opened, settings, clock, accepted=accepted),
            await opened.active(),
            reports,
            reports and heard_ms >= told_ms - _HEARD_MS,
            await opened.alerting(),
            list(await opened.channels()),
            list(await opened.troubles()),
        )


async def of_store(
    opened: DoctorStore, settings: Settings, clock: Clock, *, accepted: bool = False
) -> list[Finding]:
    """Judge what detect has written.

    Args:
        opened: where.
        settings: those in force.
        clock: for the age of what is found.
        accepted: the gateway has taken samples, so that somebody sends.
    """
    cells, senders = await opened.newest_cell_ms(), await opened.senders()
    # Event time says nothing about today.
    now_ms = clock.now_ms() if settings.clock == "wall" else None
    refusals = await opened.refusals()
    begun = accepted or cells is not None
    found = [
        *of_senders(senders, now_ms, write_url(settings.gateway), folded=begun),
        of_cells(cells, now_ms, settings.detect.step_s),
        *of_limits(refusals, settings.detect.model_dump()),
        *of_reasons(refusals),
    ]
    if cells is not None:
        found.append(of_warmth(await opened.warmth(WARM_CELLS)))
    today_ms = now_ms if now_ms is not None else cells
    return found if today_ms is None else [*found, *of_days(settings.detect, today_ms)]
