"""`watchkeep alerts`: the alerts topic, for people and for programs."""

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from watchkeep.schemas.alert import Alert, AlertState, decode
from watchkeep.schemas.errors import RecordError
from watchkeep.schemas.text import clock_time, duration, how_often, plain
from watchkeep.schemas.window import known_ms
from watchkeep.streams.kafka import tail
from watchkeep.streams.topics import ALERTS


async def show(bootstrap: str, *, follow: bool, as_json: bool) -> None:
    """Print the newest revision of each alert, or with `follow` each revision as it comes."""
    console = Console(soft_wrap=True)
    newest: dict[str, Alert] = {}
    async for record in tail(bootstrap, ALERTS, follow=follow):
        if record.value is None:
            continue
        try:
            alert = decode(record.value)
        except RecordError:
            continue  # The stages keep it as a dead letter.
        if follow:
            _print(console, alert, as_json=as_json)
        elif alert.alert_id not in newest or newest[alert.alert_id].revision < alert.revision:
            newest[alert.alert_id] = alert
    if as_json:
        for alert in newest.values():
            _print(console, alert, as_json=True)
    elif not follow:
        console.print(_table(list(newest.values())) if newest else "no alerts so far")


def _print(console: Console, alert: Alert, *, as_json: bool) -> None:
    if as_json:
        console.out(alert.model_dump_json(), highlight=False)
    else:
        console.print(line(alert))


def line(alert: Alert) -> str:
    """Write an alert as one line of rich's markup; its text is untrusted and escaped."""
    state = "[red]FIRING[/]  " if alert.state is AlertState.FIRING else "[green]RESOLVED[/]"
    summary = escape(alert.explanation.summary)
    return f"{clock_time(alert.at_ms)}  {state}  {summary}"


def _table(alerts: list[Alert]) -> Table:
    table = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False)
    for heading in ("state", "entity", "since (UTC)", "for", "seen"):
        table.add_column(heading, no_wrap=True)
    table.add_column("signal", overflow="fold")
    for alert in sorted(alerts, key=lambda alert: alert.onset_ms):
        seconds = alert.duration_s or (alert.at_ms - alert.onset_ms) / 1000
        table.add_row(
            "[red]firing[/]" if alert.state is AlertState.FIRING else "[green]resolved[/]",
            escape(alert.title),
            clock_time(alert.onset_ms)[5:16],
            duration(seconds),
            how_often(alert.strength, known_ms(alert.evidence)).replace("seen ", "", 1),
            escape(plain(alert.evidence[0].signal)),
        )
    return table
