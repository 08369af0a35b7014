"""What the doctor finds at the gateway: who tries to send, and why nothing comes of it."""

import subprocess
import sys
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

import aiohttp
import pytest
from aiohttp import web

from certificates import Authority
from front import HEADERS, PATH, small_body
from watchkeep.schemas.relabel import RelabelRule
from watchkeep.schemas.settings import Auth, Gateway, Sender, Settings, Tls
from watchkeep.streams.doctor_ask import Answer, ask, gateway_url, stage_url
from watchkeep.streams.doctor_gateway import elsewhere, of_gateway, snippet, write_url
from watchkeep.streams.embedded import free_port
from watchkeep.streams.findings import Finding, Level
from watchkeep.streams.native_histograms import GAUGE

NOW_MS = 1_772_409_600_000
TOKEN = "hunter2"
PROGRAM = Path(__file__).parent.parent / "front.py"
ACCEPTED = "watchkeep_accepted_samples_total"
REQUESTS = "watchkeep_remote_write_requests_total"
TURNED_AWAY = "watchkeep_turned_away_total"
REFUSED = "watchkeep_refused_series_total"


@contextmanager
def gateway(settings: Gateway) -> Iterator[str]:
    """Run a gateway in a process of its own, whose counters are its own; give its address."""
    text = settings.model_dump_json().replace('"**********"', f'"{TOKEN}"')
    # What its log says isn't looked at here.
    process = subprocess.Popen(
        [sys.executable, str(PROGRAM), text], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    )
    assert process.stdout is not None
    try:
        scheme = settings.url.partition(":")[0]
        yield f"{scheme}://127.0.0.1:{int(process.stdout.readline())}"
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


async def post(url: str, body: bytes, **headers: str) -> int:
    to, given = f"{url}{PATH}", HEADERS | headers
    async with aiohttp.request("POST", to, data=body, headers=given) as answer:
        return answer.status


def told(samples: Mapping[str, Mapping[str, float]], **values: float) -> Answer:
    """Make what a gateway tells: by metric, by its label's value; and those without a label."""
    label = {REQUESTS: "status", TURNED_AWAY: "reason", REFUSED: "reason"}
    made: dict[str, list[tuple[dict[str, str], float]]] = {
        name: [({label[name]: key}, count) for key, count in counts.items()]
        for name, counts in samples.items()
    }
    for name, value in values.items():
        made[f"watchkeep_{name}"] = [({}, value)]
    return Answer("http://g:9201", samples=made)


def judged(
    answer: Answer, settings: Gateway | None = None, *, heard: bool = False
) -> list[Finding]:
    return of_gateway(answer, settings or Gateway(), NOW_MS, heard=heard)


def wrong(found: list[Finding], level: Level = Level.BAD) -> list[str]:
    return [one.told for one in found if one.level is level]


async def test_nobody_has_tried_and_then_everybody_is_turned_away() -> None:
    settings = Gateway(auth=Auth(bearer_token=TOKEN))
    with gateway(settings) as url:
        nobody = judged(await ask(url), settings)
        assert [one.level for one in nobody] == ["ok", "bad"]
        assert nobody[1].told == "nobody has tried to send since it started"
        assert "credentials_file" in nobody[1].advice
        assert await post(url, small_body()) == 401
        assert await post(url, small_body(), Authorization="Bearer wrong") == 401
        assert wrong(judged(await ask(url), settings)) == [
            "1 request answered 401: no credentials",
            "1 request answered 401: wrong credentials",
        ]
        bearer = f"Bearer {TOKEN}"
        assert (
            await post(url, b"", **{"Authorization": bearer, "Content-Type": "text/plain"}) == 415
        )
        assert await post(url, b"xxxx", Authorization=bearer) == 400
        assert await post(url, small_body(), Authorization=bearer) == 204
        found = judged(await ask(url), settings)
    assert found[0].told.startswith(f"{url} answers, up for ")
    assert found[1].told == "1 sample accepted, of 3 requests"
    assert wrong(found) == []
    assert [text[:20] for text in wrong(found, Level.WARN)] == ["1 request answered 4"] * 4
    assert TOKEN not in str(found)


async def test_rules_that_drop_all_are_found() -> None:
    rule = RelabelRule(action="keep", source_labels=("__name__",), regex="http_.+")
    settings = Gateway(relabel=(rule,))
    with gateway(settings) as url:
        assert await post(url, small_body()) == 204
        (text,) = wrong(judged(await ask(url), settings))
    assert text.startswith("1 request came, and rules of gateway.relabel have dropped all")


async def test_tls_is_spoken_and_the_want_of_it_is_told(tmp_path: Path) -> None:
    own = Authority(tmp_path, "ca").issue("localhost", "DNS:localhost")
    settings = Gateway(tls=Tls(certificate=own.certificate, key=own.key))
    with gateway(settings) as url:
        assert (await ask(url)).trouble == ""
        plain = await ask(url.replace("https:", "http:"))
    assert plain.trouble == "it speaks TLS, and gateway.tls is not set: it runs with other settings"


@asynccontextmanager
async def answering(text: str) -> AsyncIterator[str]:
    """Answer everything with a text."""

    async def answer(_: web.Request) -> web.Response:
        return web.Response(text=text)

    app = web.Application()
    app.router.add_get("/{path:.*}", answer)
    runner = web.AppRunner(app)
    await runner.setup()
    port = free_port()
    await web.TCPSite(runner, "127.0.0.1", port).start()
    yield f"http://127.0.0.1:{port}"
    await runner.cleanup()


async def test_who_does_not_answer_is_told_apart() -> None:
    silent = await ask(f"http://127.0.0.1:{free_port()}")
    assert silent.trouble == "nothing listens there"
    async with answering("# no metrics of ours") as url:
        assert "isn't Watchkeep" in (await ask(url)).trouble
        other = await ask(url.replace("http:", "https:"))
        assert other.trouble.startswith("no answer that could be read")
    (found,) = judged(silent)
    assert (found.level, found.blocks) == (Level.BAD, True)
    assert "start `watchkeep up`" in found.advice
    assert "is at http://127.0.0.1:9999" in elsewhere(silent, "http://127.0.0.1:9999").told
    (found,) = judged(silent, heard=True)
    assert found.level is Level.WARN


def test_a_gateway_without_its_log_is_bad() -> None:
    answer = Answer("http://g", not_ready="the log can't be reached")
    assert wrong(judged(answer))[0] == "it can't do its work: the log can't be reached"


def test_each_reason_has_its_setting_and_what_to_do() -> None:
    answer = told(
        {
            REQUESTS: {"413": 2, "503": 3, "400": 4},
            TURNED_AWAY: {"TLS handshake failed": 5, "body too large": 2, "brand new": 1},
            REFUSED: {
                "more than 10 active series": 6,
                "more than 20 new series a minute": 7,
                "more than 1000 clusters and replicas": 8,
                "dropped by a rule": 9,
                GAUGE: 1,
                "\x1b[2Jodd": 1,
            },
        }
    )
    settings = Gateway(active_series_max=10, new_series_per_minute=20)
    found = judged(answer, settings)
    texts = wrong(found)
    assert texts[:4] == [
        "5 turned away: TLS handshake failed",
        "1 turned away: brand new",
        "2 requests answered 413: larger than gateway.max_body_mb = 32",
        "3 requests answered 503: the log was out of reach, or too much waited for it",
    ]
    assert texts[4].endswith("more than 10 active series, gateway.active_series_max = 10")
    assert texts[5].endswith("new series a minute, gateway.new_series_per_minute = 20")
    assert not any("answered 400" in text or "\x1b" in text for text in texts)
    assert all(one.advice for one in found if one.level is Level.BAD)
    assert "cluster_label" in found[7].advice


def test_what_is_nearly_full_is_told() -> None:
    counts = {"accepted_samples_total": 1.0, "connections": 9.0, "active_series": 850.0}
    answer = told({REQUESTS: {"204": 1}}, **counts, waiting_bytes=250.0 * 2**20)
    settings = Gateway(active_series_max=1_000, connections_max=10)
    assert wrong(judged(answer, settings), Level.WARN) == [
        "250 MB wait for the log, of 256 at most",
        "850 series are known, of gateway.active_series_max = 1,000",
        "9 connections are open, of gateway.connections_max = 10",
    ]
    assert wrong(judged(answer), Level.WARN)[1:] == []


def test_metadata_alone_is_no_data_and_another_replica_may_have_it() -> None:
    (text,) = wrong(judged(told({REQUESTS: {"204": 3}})))
    assert text == "3 requests came, and none brought a sample"
    nobody = judged(told({}), heard=True)
    assert [one.level for one in nobody] == ["ok", "ok"]


@pytest.mark.parametrize(
    ("settings", "lines"),
    [
        (Gateway(host="gw"), ["- url: http://gw:9201/api/v1/write"]),
        (
            Gateway(senders=(Sender(name="a", user="u", password_file="f"),)),
            ["basic_auth: { username: ITS_USER, password_file: FILE_WITH_ITS_PASSWORD }"],
        ),
        (
            Gateway(host="gw", tls=Tls(certificate="c", key="k", client_ca="a")),
            ["- url: https://gw:9201/api/v1/write", "cert_file: ITS_CERTIFICATE"],
        ),
        (
            Gateway(auth=Auth(bearer_token=TOKEN, user="all", password=TOKEN)),
            ["authorization: {", "# or, as the sender is set up:", "basic_auth: {"],
        ),
    ],
)
def test_the_snippet_says_how_to_send_and_no_secret(settings: Gateway, lines: list[str]) -> None:
    text = snippet(settings)
    assert [line for line in lines if line not in text] == []
    assert TOKEN not in text


def test_addresses_of_all_are_asked_on_this_machine() -> None:
    settings = Settings.model_validate(
        {"gateway": {"host": "0.0.0.0"}, "monitor": {"host": "::", "port": 9202}}
    )
    assert gateway_url(settings) == "http://127.0.0.1:9201"
    assert stage_url(settings, "incidents") == "http://[::1]:9203"
    assert "0.0.0.0" not in write_url(settings.gateway)
