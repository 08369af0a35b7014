"""The shop's commands, as a person types them."""

import json
from pathlib import Path

import pytest
from aiohttp import web
from click.testing import CliRunner
from rich.console import Console

from small_shop import small_shop
from watchkeep.schemas.errors import StageError
from watchkeep.streams.cli import main
from watchkeep.streams.embedded import free_port
from watchkeep.streams.shop_sender import Sent, send


def run(*words: str) -> str:
    done = CliRunner().invoke(main, ["shop", *words])
    assert done.exit_code == 0, done.output
    return done.output


def test_the_shipped_kinds_are_listed() -> None:
    told = run("faults")
    assert "memory-leak" in told
    assert "no fault" in told


def test_the_truth_is_the_same_for_a_seed() -> None:
    told = run("truth", "--seed", "3")
    assert told == run("truth", "--seed", "3") != run("truth", "--seed", "4")
    assert {"strikes", "changes"} <= set(json.loads(told))


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ('target = "moon"\n', "mine.toml: target: "),
        ('target = "service"\namong = ["nobody"]\nchange = "restart"\n', "mine.toml: among: "),
    ],
)
def test_a_wrong_kind_is_told_in_one_line(tmp_path: Path, text: str, told: str) -> None:
    (tmp_path / "mine.toml").write_text('title = "x"\n' + text)
    done = CliRunner().invoke(main, ["shop", "faults", str(tmp_path)])
    assert done.exit_code == 2
    assert told in done.output
    assert done.output.count("\n") == 1


def test_a_report_that_can_not_be_written_is_told_before_anything_runs(tmp_path: Path) -> None:
    out = tmp_path / "nowhere" / "report.html"
    done = CliRunner().invoke(main, ["demo", "--out", str(out)])
    assert done.exit_code == 2
    assert f"--out: {out} can't be written" in done.output


async def test_the_shop_is_sent_until_it_is_taken() -> None:
    bodies: list[bytes] = []
    answers = iter([503, 204, 204, 400])

    async def take(request: web.Request) -> web.Response:
        status = next(answers)
        if status == 204:
            bodies.append(await request.read())
        text = "no" if status == 400 else ""
        return web.Response(status=status, headers={"Retry-After": "0"}, text=text)

    app = web.Application(client_max_size=2**26)
    app.router.add_post("/write", take)
    runner = web.AppRunner(app)
    await runner.setup()
    port, sent = free_port(), Sent()
    await web.TCPSite(runner, "127.0.0.1", port).start()
    url = f"http://127.0.0.1:{port}/write"
    with pytest.raises(StageError, match="answered 400: no"):
        await send(small_shop(1, 2.0), url, Console(quiet=True), sent)
    await runner.cleanup()
    assert len(bodies) == 2
    assert sent.samples > 0
    assert sent.last_ms > 0
