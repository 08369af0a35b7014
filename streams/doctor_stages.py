"""The doctor at the servers and the processes: do they answer, run, and keep up with the log."""

import asyncio
from collections.abc import Awaitable, Mapping
from typing import Final

from watchkeep.schemas.errors import WatchkeepError
from watchkeep.schemas.settings import Settings
from watchkeep.schemas.text import plain
from watchkeep.streams import kafka, store
from watchkeep.streams.doctor_ask import SILENCE, Answer
from watchkeep.streams.findings import Finding, Level
from watchkeep.streams.topics import DEAD_LETTERS, specs

ANSWER_S: Final = 15.0
# Ticks alone are one a second for each of 64 shards: it is more than a minute behind.
_LAG_MAX: Final = 64 * 60


async def of_broker(settings: Settings) -> list[Finding]:
    """Judge the broker: does it answer, are its topics there, and what was put aside."""
    return await _within("broker", _broker(settings))


async def of_database(settings: Settings) -> Finding:
    """Judge the database: does it answer, and are its tables those of this version."""
    (found,) = await _within("database", _database(settings))
    return found


async def _within(stage: str, looking: Awaitable[list[Finding]]) -> list[Finding]:
    try:
        async with asyncio.timeout(ANSWER_S):
            return await looking
    except WatchkeepError as error:
        return [Finding(Level.BAD, stage, str(error))]
    except TimeoutError:
        told = f"no answer within {ANSWER_S:.0f} s"
        return [Finding(Level.BAD, stage, told, "is a firewall in between?")]


async def _broker(settings: Settings) -> list[Finding]:
    where, wanted = settings.broker.bootstrap, specs()
    if missing := await kafka.missing_topics(where, wanted):
        told = f"{where} answers, and has no topic {', '.join(missing)}"
        return [Finding(Level.BAD, "broker", told, "`watchkeep topics apply` creates them")]
    found = [Finding(Level.OK, "broker", f"{where} answers, all {len(wanted)} topics are there")]
    if letters := await _dead_letters(where):
        told = f"{letters:,} records that a stage could not take were put aside, as dead letters"
        advice = "`watchkeep dlq list` tells why; `watchkeep dlq replay` sends them once more"
        found.append(Finding(Level.WARN, "broker", told, advice))
    return found


async def _dead_letters(where: str) -> int:
    reader = kafka.LogReader(where, DEAD_LETTERS)
    try:
        span = (await reader.spans([0]))[0]
    finally:
        await reader.close()
    return span.end - span.begin


async def _database(settings: Settings) -> list[Finding]:
    url = settings.database.url.get_secret_value()
    where = store.place(url)
    if missing := await store.pending(url):
        told = f"{where} answers, and its tables lack {', '.join(missing)}"
        return [Finding(Level.BAD, "database", told, "`watchkeep migrate` brings them up to date")]
    return [Finding(Level.OK, "database", f"{where} answers, its tables are up to date")]


def of_stage(stage: str, answer: Answer | None, *, active: str | None) -> list[Finding]:
    """Judge a stage's process.

    Args:
        stage: its name.
        answer: what it says; None where its monitor is off.
        active: who does its work by the database; "" for nobody, None where that isn't known.
    """
    if answer is not None and not answer.trouble:
        return _running(stage, answer)
    told = "monitor.port is 0, so it can't be asked"
    if answer is not None:
        told = f"{answer.where} is where it should tell how it does: {answer.trouble}"
    if active:
        told += f"; it runs all the same, by the database: {plain(active)}"
        if answer is None or answer.trouble == SILENCE:
            return [Finding(Level.OK, stage, told)]
        advice = "it may be busy: ask again, and if it stays so, see its log and start it again"
        return [Finding(Level.WARN, stage, told, advice)]
    if answer is None and active is None:
        return [Finding(Level.OK, stage, told)]
    advice = f"start `watchkeep up` or `watchkeep {stage}`; its log tells why if it ended"
    return [Finding(Level.BAD, stage, told, advice, blocks=True)]


def _running(stage: str, answer: Answer) -> list[Finding]:
    lag = answer.by("watchkeep_lag_records", "topic")
    if answer.not_ready:
        told = f"it can't do its work: {plain(answer.not_ready)}"
        advice = "see the broker and the database above, and its log"
        return [Finding(Level.BAD, stage, told, advice, blocks=True)]
    if lag.total() > _LAG_MAX:
        told = f"{lag.total():,} records behind in {', '.join(map(plain, lag))}"
        advice = "it works them off; if that grows, give it more processor or more workers"
        return [Finding(Level.WARN, stage, told, advice)]
    told = "it runs, and has read all of the log"
    if lag:
        told = f"it runs, {lag.total():,} records behind"
    return [Finding(Level.OK, stage, told)]


def of_all(
    answers: Mapping[str, Answer | None], active: Mapping[str, str] | None, *, reports: bool
) -> dict[str, list[Finding]]:
    """Judge all stages behind the gateway, by name.

    Args:
        answers: what they say.
        active: who holds which lease; None where the database can't be read.
        reports: detect has written to the database a moment ago.
    """
    found = {}
    for stage, answer in answers.items():
        holder = None if active is None else active.get(stage, "")
        if stage == "detect":
            holder = "it has written a moment ago" if reports else None
        found[stage] = of_stage(stage, answer, active=holder)
    return found
