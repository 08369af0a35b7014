"""`watchkeep signals`: what is watched, from which series, and what isn't and why."""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, Final, get_args

import click

from watchkeep.schemas.settings import Settings
from watchkeep.schemas.signal_rules import Kind
from watchkeep.streams import config as configuration
from watchkeep.streams import running

# Commands import what they need when they run: help and errors come at once.
# ruff: noqa: PLC0415

_KINDS: Final = get_args(Kind)


@click.group()
def signals() -> None:
    """See what is watched for a service, from which series, and what isn't and why.

    A signal is what is watched: a metric of an entity (a workload, a node or a job), folded over
    its pods. Some signals may page; the others are evidence, which only explains.
    """


@signals.command("list")
@click.argument("pattern", default="")
@click.option("--signals", "each", is_flag=True, help="A line for each signal, not each entity.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object a line.")
@click.pass_context
def list_them(ctx: click.Context, pattern: str, *, each: bool, as_json: bool) -> None:
    """List the entities, with how much of each is watched.

    PATTERN picks some, by their name or by their key.

    \b
    Examples: watchkeep signals list
              watchkeep signals list 'shop/*'
              watchkeep signals list 'node *' --signals
    """  # noqa: D301 - Click's own mark.
    from watchkeep.streams import show_signals

    show = show_signals.list_signals if each else show_signals.list_entities

    def look(store: Any, console: Any, url: str) -> Coroutine[Any, Any, None]:  # noqa: ANN401 - They are imported late.
        return show(store, console, pattern, url, as_json=as_json)

    _with_store(configuration.load(ctx.obj), look)


@signals.command("show")
@click.argument("entity")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
@click.pass_context
def show_one(ctx: click.Context, entity: str, *, as_json: bool) -> None:
    """Show an entity: what may page and what it waits for, what explains, what is dropped and why.

    ENTITY is its name, as in alerts and in `watchkeep signals list`, or its key.

    \b
    Examples: watchkeep signals show shop/cart
              watchkeep signals show 'node n1'
              watchkeep signals show workload/prod/shop/cart
    """  # noqa: D301 - Click's own mark.
    from watchkeep.streams import show_signals

    def look(store: Any, console: Any, url: str) -> Coroutine[Any, Any, None]:  # noqa: ANN401 - They are imported late.
        return show_signals.show(store, console, entity, url, as_json=as_json)

    _with_store(configuration.load(ctx.obj), look)


@signals.command("explain")
@click.argument("series")
@click.option(
    "--kind",
    default="unknown",
    type=click.Choice(_KINDS),
    help="What the sender's metadata says of it. Without, its name has to tell.",
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
@click.pass_context
def explain_one(ctx: click.Context, series: str, kind: str, *, as_json: bool) -> None:
    """Tell what becomes of a series: its entity, its signals and their role, or why it is dropped.

    It goes by the rules of the settings alone, and asks no server: try rules with it. SERIES is
    written as Prometheus shows it, in single quotes for the shell.

    \b
    Example: watchkeep signals explain --kind counter \\
      'http_requests_total{namespace="shop",pod="cart-7d9c5b8f6d-x2x4z",code="500"}'
    """  # noqa: D301 - Click's own mark.
    from rich.console import Console

    from watchkeep.schemas.exposition import parse_series
    from watchkeep.schemas.frame import MetricKind
    from watchkeep.streams.explain_series import explain, rules_of, show

    settings = configuration.load(ctx.obj)
    told = explain(
        parse_series(series),
        MetricKind[kind.upper()],
        settings.gateway,
        settings.entities.rules,
        rules_of(settings),
    )
    show(Console(highlight=False), told, as_json=as_json)


def _with_store(
    settings: Settings, look: Callable[[Any, Any, str], Coroutine[Any, Any, None]]
) -> None:
    """Look things up in the database, and say where senders are to write to if it is empty."""
    from rich.console import Console

    from watchkeep.streams import store

    settings = running.resolved(settings)
    url = f"http://{settings.gateway.host}:{settings.gateway.port}/api/v1/write"

    async def run() -> None:
        async with store.open_to_read(settings.database.url.get_secret_value()) as opened:
            await look(opened, Console(highlight=False), url)

    asyncio.run(run())
