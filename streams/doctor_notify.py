"""The doctor at the end of the way: incidents, alerts, and whom they reach."""

from collections.abc import Mapping, Sequence
from typing import Final

from watchkeep.notifiers.apprise_sender import receivers
from watchkeep.schemas.errors import ConfigError
from watchkeep.schemas.settings import Notify
from watchkeep.schemas.text import plain
from watchkeep.streams.findings import TEXT_MAX, Finding, Level, ago
from watchkeep.streams.lookup import Alerting, Channel
from watchkeep.streams.stores import Trouble

TERMINAL: Final = "terminal"
# All attempts at a receiver take less.
_DELIVERED_S: Final = 180.0


def of_alerting(alerting: Alerting, now_ms: int) -> list[Finding]:
    """Tell what has fired, and judge whether it is published."""
    told = "no window has made an incident so far"
    if alerting.incidents:
        told = f"{alerting.incidents:,} incidents so far, {alerting.firing:,} of them firing"
    if alerting.last_ms is not None:
        told += f"; the last alert was written {ago(alerting.last_ms, now_ms)}"
    found = [Finding(Level.OK, "incidents", told)]
    if alerting.unpublished and _late(alerting, now_ms):
        told = f"{alerting.unpublished:,} revisions of alerts wait to be published"
        advice = "see whether `watchkeep incidents` runs and reaches the broker; its log tells"
        found.append(Finding(Level.BAD, "incidents", told, advice))
    return found


def _late(alerting: Alerting, now_ms: int) -> bool:
    return alerting.last_ms is not None and now_ms - alerting.last_ms > _DELIVERED_S * 1000


def of_receivers(settings: Notify) -> tuple[list[Finding], dict[str, str]]:
    """Judge who would be told.

    Returns:
        What was found, and by the name of each receiver in the delivery log, which one it is.
    """
    try:
        made = receivers(settings.urls, settings.timeout_s)
    except ConfigError as error:
        return [Finding(Level.BAD, "receivers", str(error), "mend that first")], {}
    names = {one.name: f"notify.urls[{n}], {plain(one.name)}" for n, one in enumerate(made)}
    advice = "set notify.urls: mailtos://user:password@host?to=..., json://host/path, and others"
    if settings.terminal:
        names[TERMINAL] = "the terminal"
    if made:
        told = f"alerts go to {', '.join(names.values())}"
        return [Finding(Level.OK, "receivers", told)], names
    if settings.terminal:
        told = "alerts go to no one but the terminal, or log, of `watchkeep up` or `notify`"
        return [Finding(Level.WARN, "receivers", told, advice)], names
    told = "alerts go to no one: notify.urls is empty and notify.terminal is off"
    return [Finding(Level.BAD, "receivers", told, advice)], names


def of_deliveries(
    channels: Sequence[Channel], names: Mapping[str, str], alerting: Alerting, now_ms: int
) -> list[Finding]:
    """Judge whether what was to be told was.

    Args:
        channels: how it went, by receiver; those that aren't set any more are left out.
        names: the receivers that are set.
        alerting: what there was to tell.
        now_ms: the time.
    """
    own = [channel for channel in channels if channel.name in names]
    if not own and not alerting.alerts:
        return [Finding(Level.OK, "deliveries", "none so far: there was nothing to tell")]
    if not own and names and _late(alerting, now_ms):
        told = f"nothing was ever delivered, and there are {alerting.alerts:,} revisions of alerts"
        advice = "see whether `watchkeep notify` runs, how far it is, and its log"
        return [Finding(Level.BAD, "deliveries", told, advice)]
    return [_delivered(channel, names[channel.name], now_ms) for channel in own]


def _delivered(channel: Channel, name: str, now_ms: int) -> Finding:
    told = f"{name}: {channel.sent:,} sent, {channel.failed:,} failed, the last one"
    when = ago(channel.at_ms, now_ms)
    if channel.works:
        level = Level.WARN if channel.failed > channel.sent else Level.OK
        advice = "see the log of `watchkeep notify`" if level is Level.WARN else ""
        return Finding(level, "deliveries", f"{told} sent {when}", advice)
    told += f" failed {when}: {plain(channel.error, TEXT_MAX)}"
    advice = "see the log of `watchkeep notify`; is the receiver up, and are address and password "
    return Finding(Level.BAD, "deliveries", told, f"{advice}right?")


def of_troubles(troubles: Sequence[Trouble]) -> list[Finding]:
    """Tell what the operators should have been told by now."""
    return [
        Finding(Level.WARN, "troubles", plain(one.title), plain(one.text, TEXT_MAX))
        for one in troubles
    ]
