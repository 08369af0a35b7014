"""`watchkeep inspect`: why a window opened at some time, or didn't."""

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple

import click

from watchkeep.schemas.settings import Settings
from watchkeep.streams import config as configuration
from watchkeep.streams import running

if TYPE_CHECKING:
    from rich.console import Console

    from watchkeep.streams.inspect_lookup import InspectStore

# Commands import what they need when they run: help and errors come at once.
# ruff: noqa: PLC0415

_SPAN_MAX_S: Final = 7 * 86_400.0


class Asked(NamedTuple):
    """What somebody asks; the fields are the command's arguments."""

    name: str
    signal: str
    at: str
    span: str
    plot: Path | None
    as_json: bool


@click.command("inspect")
@click.argument("name")
@click.argument("signal", default="")
@click.option(
    "--at",
    default="",
    metavar="TIME",
    help="2026-03-02T14:05, 14:05 or -2h, in UTC; the last two are reckoned from the newest cell "
    "that is stored, which is the default.",
)
@click.option(
    "--span", default="6h", show_default=True, help="How much is shown around it: 90m, 6h, 1d12h."
)
@click.option(
    "--plot",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="FILE",
    help="Draw it, as .png or .svg.",
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object: see docs/inspect.md.")
@click.pass_context
def inspect_one(  # noqa: PLR0913, PLR0917 - Click's own way.
    ctx: click.Context,
    name: str,
    signal: str,
    at: str,
    span: str,
    plot: Path | None,
    *,
    as_json: bool,
) -> None:
    """Tell why something fired at some time, or didn't: how rare it was, and to whom.

    NAME is an entity, as in alerts, or its key; SIGNAL is one of its signals, as `watchkeep signals
    show` writes it. A signal that only one entity has needs no entity before it. Labels may be left
    out as long as one signal fits.

    \b
    Examples: watchkeep inspect shop/cart
              watchkeep inspect shop/cart --at 14:05 --plot cart.png
              watchkeep inspect shop/cart 'http_requests_total{code="5xx"}' --at -2h
              watchkeep inspect 'p99(checkout_duration_seconds)' --at 2026-03-02T14:05
              watchkeep inspect 'node n1' --json | jq .why
    """  # noqa: D301 - Click's own mark.
    from rich.console import Console

    from watchkeep.streams import inspect_plot, store

    if plot is not None:
        inspect_plot.check(plot)
    settings = running.resolved(configuration.load(ctx.obj))

    async def run() -> None:
        async with store.open_to_read(settings.database.url.get_secret_value()) as opened:
            asked = Asked(name, signal, at, span, plot, as_json)
            await answer(opened, Console(highlight=False), settings, asked)

    asyncio.run(run())


async def answer(
    store: "InspectStore", console: "Console", settings: Settings, asked: Asked
) -> None:
    """Look up what is asked, and print and draw it.

    Raises:
        ConfigError: nothing has the name, a time can't be read, or the file can't be written.
    """
    from watchkeep.streams import inspect_names, inspect_plot, show_inspection
    from watchkeep.streams.inspect_verdict import judge
    from watchkeep.streams.inspection import Question, inspect, newest

    span_s = min(inspect_names.seconds(asked.span, "--span"), _SPAN_MAX_S)
    target = await inspect_names.target(store, asked.name, asked.signal)
    newest_ms = await newest(store, target) or 0
    at_ms = inspect_names.moment(asked.at, newest_ms) if asked.at else newest_ms
    found = await inspect(store, Question(target, at_ms, span_s), settings.detect)
    told = judge(found, settings.detect.cool_down_s)
    if asked.as_json:
        show_inspection.print_json(console, found, told)
    else:
        show_inspection.show(console, found, told)
    if asked.plot is not None:
        inspect_plot.draw(asked.plot, found)
