"""The command `watchkeep`."""

import asyncio
import sys
from pathlib import Path
from typing import Any, Final

import click

from watchkeep.schemas.errors import ConfigError, WatchkeepError
from watchkeep.schemas.settings import Settings
from watchkeep.streams import config as configuration
from watchkeep.streams import running
from watchkeep.streams.cli_inspect import inspect_one
from watchkeep.streams.cli_shop import shop, wishes
from watchkeep.streams.cli_signals import signals

# Stages and commands import what they need when they run: help and errors come at once.
# ruff: noqa: PLC0415

_STAGES: Final = {
    "gateway": "Receive Prometheus remote write at /api/v1/write and write frames to the log.",
    "detect": "Read frames, find what is abnormal, write windows and rollups. [detect.river] in "
    "the settings adds a River model for chosen signals: the slow path.",
    "incidents": "Read windows, keep incidents, publish alerts. One is active, a second waits.",
    "notify": "Read alerts and tell people. One is active, a second waits.",
}


class _Cli(click.Group):
    """Tells what went wrong in one line: exit code 2 for settings, 1 for anything else."""

    def main(self, *args: Any, **kwargs: Any) -> Any:  # noqa: ANN401 - Click's own signature.
        try:
            return super().main(*args, **kwargs)
        except WatchkeepError as error:
            click.echo(f"watchkeep: {error}", err=True)
            sys.exit(2 if isinstance(error, ConfigError) else 1)
        except KeyboardInterrupt:
            sys.exit(130)

    def list_commands(self, ctx: click.Context) -> list[str]:
        """List the commands in the order in which people meet them."""
        del ctx
        return list(self.commands)


@click.group(cls=_Cli, context_settings={"help_option_names": ["-h", "--help"]})
@click.option(
    "--config",
    "file",
    type=click.Path(path_type=Path, dir_okay=False),
    help="The settings, in TOML. Default: watchkeep.toml here, if there is one.",
)
@click.version_option(package_name="watchkeep")
@click.pass_context
def main(ctx: click.Context, file: Path | None) -> None:
    """Find what is abnormal on a Kubernetes platform while it happens, and tell who is on call.

    \b
    See it work:            watchkeep demo
    Run it:                 watchkeep up
    Point a Prometheus at it, in prometheus.yml:
      remote_write:
        - url: http://127.0.0.1:9201/api/v1/write
    """  # noqa: D301 - Click's own mark.
    ctx.obj = file


def _settings(ctx: click.Context) -> Settings:
    return configuration.load(ctx.obj)


@main.command()
@wishes
@click.option(
    "--out",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Write a report with plots, one HTML file.",
)
@click.option("--json", "as_json", is_flag=True, help="Print the result as one JSON object.")
def demo(seed: int, days: float, faults: Path | None, out: Path | None, *, as_json: bool) -> None:
    """Send a simulated shop with faults through the whole running system.

    Everything runs on embedded servers in a temporary folder, and is gone afterwards. Faults come
    one after the other, and between them what only looks like one: a sale, a load test, a deploy.

    \b
    Example: watchkeep demo --seed 7 --out report.html
    """  # noqa: D301 - Click's own mark.
    from watchkeep.streams.demo import Wish, run

    sys.exit(asyncio.run(run(Wish(seed, days, faults, out, as_json))))


@main.command()
@click.pass_context
def up(ctx: click.Context) -> None:
    """Start every stage, on embedded servers where no broker or database is set.

    The embedded database keeps its files in data_dir between starts. A stage that dies is started
    again; five deaths in a minute end everything with exit code 1.

    \b
    Example: WATCHKEEP_NOTIFY__URLS=json://127.0.0.1:8080/alerts watchkeep up
    """  # noqa: D301 - Click's own mark.
    from watchkeep.streams.up import up as run

    sys.exit(asyncio.run(run(_settings(ctx), click.echo)))


@main.command()
@click.option("--follow", is_flag=True, help="Go on, and show each revision as it comes.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object a line.")
@click.pass_context
def alerts(ctx: click.Context, *, follow: bool, as_json: bool) -> None:
    """Show the alerts: the newest revision of each, or with --follow every one.

    \b
    Example: watchkeep alerts --follow --json | jq .explanation.summary
    """  # noqa: D301 - Click's own mark.
    from watchkeep.streams.show_alerts import show

    settings = running.resolved(_settings(ctx))
    asyncio.run(show(settings.broker.bootstrap, follow=follow, as_json=as_json))


main.add_command(signals)
main.add_command(inspect_one)


@main.command()
@click.option("--json", "as_json", is_flag=True, help="One JSON object a line.")
@click.pass_context
def doctor(ctx: click.Context, *, as_json: bool) -> None:
    """Look through the whole way of the data, and say what is wrong and what to do.

    Settings, broker, database, gateway, who sends, what is folded, refused and dropped, whether
    signals are warm, incidents, and whom alerts reach. It ends with what is first in the way. The
    exit code is 1 when something is bad, and 0 otherwise.

    \b
    Example: watchkeep doctor --json | jq 'select(.level != "ok")'
    """  # noqa: D301 - Click's own mark.
    from rich.console import Console

    from watchkeep.streams.clocks import WallClock
    from watchkeep.streams.doctor import examine
    from watchkeep.streams.findings import Level, show

    found = asyncio.run(examine(ctx.obj, WallClock()))
    show(Console(highlight=False), found, as_json=as_json)
    sys.exit(any(finding.level is Level.BAD for finding in found))


@main.group()
def config() -> None:
    """Check the settings, or show those in force."""


@config.command()
@click.pass_context
def check(ctx: click.Context) -> None:
    """Check the settings; say what is wrong, with the line and what to do."""
    from watchkeep.notifiers.apprise_sender import receivers
    from watchkeep.streams.river_adapter import chosen_by

    settings = _settings(ctx)
    receivers(settings.notify.urls, settings.notify.timeout_s)
    chosen_by(settings.detect.river)
    click.echo("the settings are fine")


@config.command("show")
@click.pass_context
def show_config(ctx: click.Context) -> None:
    """Show every setting in force, with what it is for; secrets are masked."""
    click.echo(configuration.show(_settings(ctx)), nl=False)


@main.group()
def topics() -> None:
    """Create the topics on a broker of your own."""


@topics.command("apply")
@click.pass_context
def apply_topics(ctx: click.Context) -> None:
    """Create the topics that are missing; refuse those with other partitions."""
    from watchkeep.streams import kafka
    from watchkeep.streams.topics import specs

    settings = running.resolved(_settings(ctx))
    created = asyncio.run(kafka.create_topics(settings.broker.bootstrap, specs()))
    click.echo("\n".join(f"created {name}" for name in created) or "all topics are there")


@main.command()
@click.pass_context
def migrate(ctx: click.Context) -> None:
    """Bring the database's tables up to date."""
    from watchkeep.streams import store

    settings = running.resolved(_settings(ctx))
    taken = asyncio.run(store.migrate(settings.database.url.get_secret_value()))
    click.echo("\n".join(f"applied {name}" for name in taken) or "the tables are up to date")


@main.group()
def dlq() -> None:
    """Look at dead letters: records that no stage could take.

    Nothing of them is lost: each is kept with its bytes, where it was and what stopped it.
    """


@dlq.command("list")
@click.option("--json", "as_json", is_flag=True, help="One JSON object a line.")
@click.pass_context
def list_letters(ctx: click.Context, *, as_json: bool) -> None:
    """List the dead letters, oldest first."""
    from watchkeep.streams import dlq as letters

    asyncio.run(letters.list_letters(running.resolved(_settings(ctx)).broker, as_json=as_json))


@dlq.command("show")
@click.argument("number", type=int)
@click.pass_context
def show_letter(ctx: click.Context, number: int) -> None:
    """Show a dead letter: where it was, what stopped it, and its bytes."""
    from watchkeep.streams import dlq as letters

    asyncio.run(letters.show_letter(running.resolved(_settings(ctx)).broker, number))


@dlq.command("replay")
@click.argument("numbers", type=int, nargs=-1, required=True)
@click.option("--yes", is_flag=True, help="Don't ask.")
@click.pass_context
def replay_letters(ctx: click.Context, numbers: tuple[int, ...], *, yes: bool) -> None:
    """Write dead letters to the end of their topics once more.

    Do so after what stopped them was mended. Samples come late then, and are counted as such.

    \b
    Example: watchkeep dlq replay 0 3
    """  # noqa: D301 - Click's own mark.
    from watchkeep.streams import dlq as letters

    broker = running.resolved(_settings(ctx)).broker
    if not yes:
        click.confirm(f"send {len(numbers)} dead letters once more?", abort=True)
    click.echo("\n".join(asyncio.run(letters.replay(broker, numbers))))


def _add_stage(name: str, what: str) -> None:
    @main.command(name, help=f"{what}\n\nA stage of its own; `watchkeep up` runs them all.")
    @click.pass_context
    def stage(ctx: click.Context) -> None:
        from watchkeep.streams import stages

        stages.main(name, running.resolved(_settings(ctx)))


main.add_command(shop)
for _name, _what in _STAGES.items():
    _add_stage(_name, _what)

if __name__ == "__main__":
    main()
