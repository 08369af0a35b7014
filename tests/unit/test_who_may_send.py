"""Only who may send gets in; whoever may not learns no more than that."""

import asyncio
import logging
import socket
import time
from base64 import b64encode
from pathlib import Path

import aiohttp
import pytest

from front import PATH, SAMPLE_BYTES, opened, turned_away
from watchkeep.schemas.errors import ConfigError
from watchkeep.schemas.settings import Auth, Gateway, Sender
from watchkeep.streams.config import load, show
from watchkeep.streams.senders import Rate, check_senders, retry_after_s

TOKEN = "t0ken-of-a"
PASSWORD = "pässword:of b"


def senders(*more: Sender) -> Gateway:
    return Gateway(
        senders=(
            Sender(name="a", bearer_token=TOKEN),
            Sender(name="b", user="bee", password=PASSWORD),
            *more,
        )
    )


def basic(both: str) -> str:
    return f"Basic {b64encode(both.encode()).decode()}"


async def ask(
    port: int, authorization: str = "", path: str = PATH, body: bytes = b"x"
) -> tuple[int, str]:
    headers = {"Authorization": authorization} if authorization else {}
    url = f"http://127.0.0.1:{port}{path}"
    method = "POST" if path == PATH else "GET"
    async with aiohttp.request(method, url, data=body, headers=headers) as answer:
        return answer.status, await answer.text()


@pytest.mark.parametrize(
    ("authorization", "sender"),
    [(f"Bearer {TOKEN}", "a"), (f"bearer {TOKEN}", "a"), (basic(f"bee:{PASSWORD}"), "b")],
)
async def test_who_proves_it_gets_in_by_name(authorization: str, sender: str) -> None:
    async with opened(senders()) as port:
        assert await ask(port, authorization) == (200, f"1 {sender}")


@pytest.mark.parametrize(
    ("authorization", "reason"),
    [
        ("", "no credentials"),
        ("Bearer", "wrong credentials"),
        ("Bearer wrong", "wrong credentials"),
        (f"Bearer {TOKEN[:-1]}", "wrong credentials"),
        (f"Bearer {TOKEN}x", "wrong credentials"),
        (f"Bearer bee:{PASSWORD.encode().decode('latin-1')}", "wrong credentials"),
        (basic("bee:wrong"), "wrong credentials"),
        (basic(f"a:{PASSWORD}"), "wrong credentials"),
        (basic(TOKEN), "wrong credentials"),
        ("Basic %%%", "malformed credentials"),
        ("Digest username=bee", "unknown kind of credentials"),
        (TOKEN, "unknown kind of credentials"),
    ],
)
async def test_anyone_else_is_told_what_would_be_accepted(
    authorization: str, reason: str, caplog: pytest.LogCaptureFixture
) -> None:
    before = turned_away(reason)
    caplog.set_level(logging.DEBUG)
    headers = {"Authorization": authorization} if authorization else {}
    async with opened(senders()) as port, aiohttp.ClientSession() as session:
        url = f"http://127.0.0.1:{port}{PATH}"
        async with session.post(url, data=b"x", headers=headers) as answer:
            text = await answer.text()
        assert answer.status == 401
        assert answer.headers["WWW-Authenticate"] == (
            'Bearer realm="watchkeep", Basic realm="watchkeep"'
        )
        assert text.startswith(reason)
    assert turned_away(reason) - before == 1
    for secret in (TOKEN, PASSWORD):
        assert secret not in text + caplog.text


async def test_probes_and_scrapes_stay_open_and_all_else_is_closed() -> None:
    async with opened(senders()) as port:
        for path in ("/metrics", "/healthz", "/readyz"):
            assert (await ask(port, path=path))[0] == 200
        for path in ("/", "/metrics/", "/api", "//metrics"):
            assert (await ask(port, path=path))[0] == 401


async def test_everyone_may_send_where_nobody_is_named() -> None:
    async with opened(Gateway()) as port:
        assert await ask(port) == (200, "1 ")
        assert await ask(port, "Bearer anything") == (200, "1 ")


async def test_one_secret_may_be_shared_by_all() -> None:
    auth = Auth(bearer_token=TOKEN, user="all", password=PASSWORD)
    async with opened(Gateway(auth=auth)) as port:
        assert await ask(port, f"Bearer {TOKEN}") == (200, "1 shared")
        assert await ask(port, basic(f"all:{PASSWORD}")) == (200, "1 shared")
        assert (await ask(port))[0] == 401


async def test_a_sender_may_have_two_secrets_while_they_change() -> None:
    async with opened(senders(Sender(name="a", bearer_token="new"))) as port:
        assert await ask(port, "Bearer new") == (200, "1 a")
        assert await ask(port, f"Bearer {TOKEN}") == (200, "1 a")


async def test_secrets_are_read_from_files(tmp_path: Path) -> None:
    (tmp_path / "token").write_text("of-c\n")
    (tmp_path / "password").write_text("of-d\n")
    c = Sender(name="c", bearer_token_file=str(tmp_path / "token"))
    d = Sender(name="d", user="dee", password_file=str(tmp_path / "password"))
    async with opened(senders(c, d)) as port:
        assert await ask(port, "Bearer of-c") == (200, "1 c")
        assert await ask(port, basic("dee:of-d")) == (200, "1 d")


@pytest.mark.parametrize(
    ("content", "told"), [(None, "can't be read"), ("", "is empty"), ("\n", "is empty")]
)
def test_a_secret_that_cannot_be_read_ends_the_start(
    tmp_path: Path, content: str | None, told: str
) -> None:
    if content is not None:
        (tmp_path / "token").write_text(content)
    sender = Sender(name="c", bearer_token_file=str(tmp_path / "token"))
    with pytest.raises(ConfigError, match=r"^gateway\.senders\[2\]\.bearer_token_file: ") as error:
        check_senders(senders(sender))
    assert told in str(error.value)


def test_two_senders_cannot_have_one_secret() -> None:
    with pytest.raises(ConfigError, match=r"^gateway\.senders\[2\]: another sender") as error:
        check_senders(senders(Sender(name="c", bearer_token=TOKEN)))
    assert TOKEN not in str(error.value)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ('bearer_token = "hunter2"\nuser = "u"', "set one of bearer_token, user with password"),
        ("", "set one of bearer_token, user with password, or certificate"),
        ('user = "u"', "user and password go together"),
        ('password = "hunter2"', "user and password go together"),
        ('bearer_token = "hunter2"\nbearer_token_file = "f"', "keep one of them"),
        ('user = "hunter2:"\npassword = "x"', "user has a colon"),
        ("bearer_token = 31337", "should be a valid string"),
        ('bearer_tokn = "hunter2"', "no such key"),
        ('bearer_token = "hunter2"\nsamples_per_s = 0', "greater than 0"),
        ('certificate = "x"', "needs tls.client_ca"),
    ],
)
def test_a_sender_that_is_set_up_wrong_is_told_without_its_secret(
    tmp_path: Path, text: str, told: str
) -> None:
    file = tmp_path / "watchkeep.toml"
    file.write_text(f'[[gateway.senders]]\nname = "a"\n{text}\n')
    with pytest.raises(ConfigError) as refused:
        load(file)
    assert told in str(refused.value)
    assert "hunter2" not in str(refused.value)
    assert "31337" not in str(refused.value)
    assert "\n" not in str(refused.value)


def test_secrets_are_never_shown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "token").write_text("hunter2\n")
    monkeypatch.setenv("WATCHKEEP_GATEWAY__AUTH__BEARER_TOKEN_FILE", str(tmp_path / "token"))
    file = tmp_path / "watchkeep.toml"
    file.write_text('[[gateway.senders]]\nname = "a"\nuser = "u"\npassword = "hunter3"\n')
    settings = load(file)
    assert settings.gateway.auth.bearer_token.get_secret_value() == "hunter2"
    for text in (show(settings), repr(settings)):
        assert "hunter2" not in text
        assert "hunter3" not in text


async def test_who_sends_too_much_is_told_to_wait_and_nobody_else() -> None:
    limited = Sender(name="c", bearer_token="c", samples_per_s=100)
    before = turned_away("too many samples")
    async with opened(senders(limited)) as port, aiohttp.ClientSession() as session:
        # A burst may be overdrawn once: 2,000 samples on a bucket of 1,000.
        assert (await ask(port, "Bearer c", body=bytes(2_000 * SAMPLE_BYTES)))[0] == 200
        url = f"http://127.0.0.1:{port}{PATH}"
        waits = set()
        for _ in range(20):
            async with session.post(url, headers={"Authorization": "Bearer c"}) as answer:
                assert answer.status == 503
                waits.add(int(answer.headers["Retry-After"]))
        assert min(waits) >= 10
        assert max(waits) <= 16
        assert len(waits) > 1
        assert (await ask(port, f"Bearer {TOKEN}"))[0] == 200
    assert turned_away("too many samples") - before == 20


def test_a_rate_holds_over_time() -> None:
    now_s = 0.0
    rate = Rate(100, lambda: now_s)
    rate.take(1_000)
    assert rate.wait_s() == 0
    rate.take(200)
    assert rate.wait_s() == 2
    now_s = 3.0
    assert rate.wait_s() == 0
    now_s = 1_000.0  # No more than a burst has gathered.
    rate.take(1_100)
    assert rate.wait_s() == 1


def test_nobody_is_told_to_wait_for_long() -> None:
    assert all(1 <= retry_after_s(wait_s) <= 90 for wait_s in (0, 1, 60, 1e9))


async def test_a_refused_sender_reads_why_even_after_a_large_body() -> None:
    """A connection that is reset instead would be tried again for ever."""

    def send_all_then_read(port: int) -> bytes:
        with socket.create_connection(("127.0.0.1", port), timeout=10) as client:
            head = f"POST {PATH} HTTP/1.1\r\nHost: x\r\nContent-Length: 8000000\r\n\r\n"
            client.sendall(head.encode())
            for _ in range(8):
                time.sleep(0.05)
                client.sendall(bytes(1_000_000))
            return client.recv(1_000)

    async with opened(senders()) as port:
        answer = await asyncio.to_thread(send_all_then_read, port)
    assert answer.startswith(b"HTTP/1.1 401 ")
