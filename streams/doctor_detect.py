"""The doctor at detect: whom it hears, what it folds, what it refuses and drops."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Final

from watchkeep.schemas.entity import Entity
from watchkeep.schemas.text import clock_time, duration, plain
from watchkeep.streams.catalogue import RefusalRow
from watchkeep.streams.findings import TEXT_MAX, Finding, Level, ago
from watchkeep.streams.lookup import Heard

# detect counts a sender that is silent for so long as gone, and one so far behind as backlog.
_SILENT_S: Final = 60.0
_BEHIND_S: Final = 600.0
_PAST_S: Final = 86_400.0
# Cells close a little after their end, and are written in the next moments.
_CELLS_LATE_S: Final = 300.0
# detect tells what it watches every few minutes.
_REPORT_LATE_S: Final = 900.0

_RULE: Final = "keep fewer labels with a rule, drop what nobody needs, or raise the limit"
# By the setting of each limit, what to do when it refuses.
LIMITS: Final[Mapping[str, str]] = {
    "signals_per_entity": _RULE,
    "entities": "see with `watchkeep signals list` whether an entity rule makes too many of one "
    "thing, or raise the limit",
    "members_per_entity": "further ones are folded as one: see whether an entity rule puts "
    "strangers together, or raise the limit",
    "new_series_per_minute": "find the label that changes all the time, and drop it at the sender "
    "or its metric with a rule",
}
_REASONS: Final[Mapping[str, str]] = {
    "clock_ahead": "set the sender's clock; it is ahead of the gateway's",
    "late": "see why they come after their cell has closed, or raise detect.grace_s",
    "not_newer": "see whether two senders send the same series: each of a pair needs a replica "
    "label that gateway.replica_labels names",
    "before_1970": "see which exporter sets such times",
    "negative_counter": "tell its kind with a rule: what goes below zero is no counter",
    "buckets_per_histogram": "see which exporter changes the bounds of its native histograms: of "
    "each, 400 buckets are folded",
    "no_histogram": "see which exporter sends native histograms of what it calls something else",
    "too_large": "see which exporter sends such values; none is real",
    "unknown_series": "wait ten minutes after a start in the middle of the log; labels are sent "
    "again by then",
}
_HARMLESS: Final[Mapping[str, str]] = {
    "standby_replica": "the other one of a pair is folded, as it should be",
}


def of_senders(
    senders: Sequence[Heard], now_ms: int | None, address: str, *, folded: bool
) -> list[Finding]:
    """Judge who sends, how far behind each is, and which one of a pair is folded.

    Args:
        senders: as the store tells of them.
        now_ms: the time; None when event time is what counts.
        address: where senders are to write to.
        folded: there are cells, or samples were accepted, so that somebody has sent.
    """
    if not senders and folded:
        told = "samples have come, and detect hasn't told yet whom it hears"
        return [Finding(Level.WARN, "senders", told, "it does so every minute: ask again then")]
    if not senders:
        advice = f"have a Prometheus write to {address}; its own log tells if that fails"
        return [Finding(Level.BAD, "senders", "nobody has been heard yet", advice, blocks=True)]
    told_ms = max(sender.told_ms for sender in senders)
    found = [] if now_ms is None else [_report(told_ms, now_ms)]
    # What is known is as old as the report: who is silent was silent then.
    then_ms = told_ms if now_ms is not None else max(sender.heard_ms for sender in senders)
    judged = [_sender(sender, then_ms) for sender in senders]
    # While all work off a backlog, nothing pages.
    blocks = all(finding.level is not Level.OK for finding in judged)
    return found + [finding._replace(blocks=blocks) for finding in judged]


def _report(told_ms: int, now_ms: int) -> Finding:
    told = f"detect reported {ago(told_ms, now_ms)}; as of then:"
    if now_ms - told_ms <= _REPORT_LATE_S * 1000:
        return Finding(Level.OK, "senders", told)
    return Finding(Level.BAD, "senders", told, "see whether `watchkeep detect` runs, and its log")


def _sender(sender: Heard, then_ms: int) -> Finding:
    silent_s = max(0, then_ms - sender.heard_ms) / 1000
    behind_s = max(0, sender.heard_ms - sender.newest_ms) / 1000
    told = f"cluster {plain(sender.cluster)}"
    if sender.replica:
        told += f", replica {plain(sender.replica)}, {_elected(sender)}"
    told += f": heard {duration(silent_s)} ago, its samples {duration(behind_s)} behind"
    if silent_s > _SILENT_S:
        # Another one of its group would have been elected by now, if there were one.
        level = Level.BAD if 2 * sender.elected > sender.shards else Level.WARN
        return Finding(level, "senders", told, "see whether that Prometheus runs and can write")
    if behind_s > _BEHIND_S:
        advice = "it works off a backlog, and nothing pages until it is done"
        if behind_s > _PAST_S:
            advice += '; if its clock is right, it sends a past: clock = "event" is for that'
        return Finding(Level.WARN, "senders", told, advice)
    return Finding(Level.OK, "senders", told)


def _elected(sender: Heard) -> str:
    if sender.elected == sender.shards:
        return "elected"
    return f"elected in {sender.elected} of {sender.shards} shards" if sender.elected else "standby"


def of_cells(newest_ms: int | None, now_ms: int | None, step_s: int) -> Finding:
    """Judge whether samples are folded."""
    if newest_ms is None:
        advice = "a first cell closes a minute or two after the first samples"
        return Finding(Level.WARN, "folding", "nothing has been folded yet", advice, blocks=True)
    end_ms = newest_ms + step_s * 1000
    told = f"the newest cell is of {clock_time(newest_ms)}"
    if now_ms is None or now_ms - end_ms <= _CELLS_LATE_S * 1000:
        return Finding(Level.OK, "folding", told)
    told += f" and ended {ago(end_ms, now_ms)}"
    advice = "see whether the senders above are heard, and whether `watchkeep detect` runs"
    return Finding(Level.BAD, "folding", told, advice)


def of_limits(refusals: Sequence[RefusalRow], settings: Mapping[str, object]) -> list[Finding]:
    """Judge each limit: has it refused anything."""
    found = []
    for limit, advice in LIMITS.items():
        name = f"detect.{limit}"
        told = f"{name} = {settings[limit]}" if limit in settings else name
        rows = [row for row in refusals if row.limit == limit]
        if rows:
            found.append(Finding(Level.WARN, "limit", f"{told}: {_refused(rows)}", advice))
        else:
            found.append(Finding(Level.OK, "limit", f"{told}: has refused nothing"))
    return found


def _refused(rows: Sequence[RefusalRow]) -> str:
    """Say how often a limit refused; the rows come most first."""
    first, entities = rows[0], {row.entity for row in rows if row.entity}
    told = f"refused {sum(row.count for row in rows):,}"
    if entities:
        most = next(row.entity for row in rows if row.entity)
        title = plain(Entity.from_key(most).title)
        told += f" for {title}" if len(entities) == 1 else ""
        told += f" for {len(entities):,} entities, most for {title}" if len(entities) > 1 else ""
    return f"{told}, e.g. {plain(first.what, TEXT_MAX)}" if first.what else told


def of_reasons(refusals: Sequence[RefusalRow]) -> list[Finding]:
    """Tell for which reasons samples are dropped."""
    reasons: defaultdict[str, list[RefusalRow]] = defaultdict(list)
    for row in refusals:
        if row.limit not in LIMITS:
            reasons[row.limit].append(row)
    found = []
    for reason, rows in reasons.items():
        what = next((row.what for row in rows if row.what), "")
        count = sum(row.count for row in rows)
        last = clock_time(max(row.at_ms for row in rows))
        told = f"{plain(reason)}: {count:,}, last {last}"
        told += f", e.g. {plain(what, TEXT_MAX)}" if what else ""
        if reason in _HARMLESS:
            found.append(Finding(Level.OK, "dropped", f"{told}; {_HARMLESS[reason]}"))
        else:
            found.append(Finding(Level.WARN, "dropped", told, _REASONS.get(reason, "")))
    return found or [Finding(Level.OK, "dropped", "no sample was dropped")]
