"""Receivers fail on their own, and neither secrets nor other people's text get through them."""

import io
import logging
from collections.abc import Callable

import pytest
from pydantic import SecretStr

from inbox import Inbox
from watchkeep.notifiers.apprise_sender import receivers
from watchkeep.notifiers.decide import Reason
from watchkeep.notifiers.message import Message, Receiver, message_of
from watchkeep.notifiers.terminal import Terminal
from watchkeep.schemas.alert import Alert, AlertState, Explanation
from watchkeep.schemas.errors import ConfigError, DeliveryError
from watchkeep.streams import notify
from watchkeep.streams.memory import MemoryLog
from watchkeep.streams.memory_store import MemoryStore
from watchkeep.streams.topics import ALERTS

AT_MS = 1_772_409_600_000


def an_alert(cluster: str = "c", summary: str = "it is odd") -> Alert:
    return Alert(
        alert_id="i1",
        revision=1,
        state=AlertState.FIRING,
        pages=True,
        entity="workload/c/shop/cart",
        cluster=cluster,
        namespace="shop",
        title="shop/cart",
        onset_ms=AT_MS,
        detected_ms=AT_MS,
        at_ms=AT_MS,
        ended_ms=None,
        duration_s=None,
        strength=9,
        explanation=Explanation(state="template", summary=summary, lines=()),
        evidence=(),
    )


class Broken:
    """A receiver that never works."""

    name = "broken"

    async def send(self, _message: Message) -> None:
        """Fail."""
        raise DeliveryError("out of order")


class Gone(io.StringIO):
    """A terminal that was closed."""

    def write(self, _text: str) -> int:
        """Fail as a closed pipe does."""
        raise BrokenPipeError


async def told(log: MemoryLog, store: MemoryStore, receivers: list[Receiver]) -> None:
    lease = await store.acquire_lease("notify", "test", 1e9)
    assert lease is not None
    teller = notify.Teller(receivers, attempts=2, blind_after_s=60)
    source = log.source(ALERTS, "notify")
    await notify.follow(source, sink=log, store=store, lease=lease, teller=teller)


@pytest.mark.parametrize("broken", [Broken, lambda: Terminal(Gone())])
async def test_a_receiver_that_fails_does_not_keep_the_others_from_being_told(
    broken: Callable[[], Broken | Terminal], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(notify, "_BACKOFF_S", 0.0)
    log, store, bad, inbox = MemoryLog(), MemoryStore(), broken(), Inbox()
    await log.send(ALERTS, an_alert().model_dump_json().encode())
    await told(log, store, [bad, inbox])
    assert inbox.titles == ["FIRING shop/cart"]
    lines = {line.channel: (line.outcome, line.attempts) for line in store.delivered}
    assert lines == {bad.name: ("failed", 2), "inbox": ("sent", 1)}


async def test_a_tombstone_tells_nobody() -> None:
    log, inbox = MemoryLog(), Inbox()
    await log.send(ALERTS, None, key=b"i1")
    await told(log, MemoryStore(), [inbox])
    assert inbox.titles == []
    assert log.committed["notify", ALERTS, 0] == 1


async def test_a_terminal_without_a_letter_shows_its_number() -> None:
    screen = io.BytesIO()
    stream = io.TextIOWrapper(screen, encoding="ascii")
    await Terminal(stream).send(Message("FIRING caf\u00e9", "a line", resolved=False))
    assert screen.getvalue() == b"\nFIRING caf\\xe9\n  a line\n"


def test_a_cluster_s_name_can_not_steer_the_terminal() -> None:
    message = message_of(an_alert(cluster="c\x1b[2J\nFIRING all"), Reason.NEW)
    assert "cluster c [2J FIRING all, found" in message.body


@pytest.mark.parametrize(
    "live", ["@here", "<!channel>", "https://evil.example", "<https://e|pay>", "[pay](//e)"]
)
def test_names_become_neither_mentions_nor_links(live: str) -> None:
    body = message_of(an_alert(summary=f"{live} is odd"), Reason.NEW).body
    assert live not in body
    assert live in body.replace("\u200b", "")


@pytest.mark.parametrize(
    "url",
    [
        "hunter2",
        "user:hunter2@host://x",
        "nonsense://hunter2",
        "nonsense://user:hunter2@host",
        "slack://hunter2",
        "mailto://user:hunter2@",
        "json://a/hunter2, json://b/hunter2",
    ],
)
def test_a_url_that_is_refused_shows_its_secrets_nowhere(
    url: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    with pytest.raises(ConfigError, match=r"^notify\.urls\[1\]: ") as refused:
        receivers([SecretStr("json://fine/"), SecretStr(url)], 5)
    assert "hunter2" not in str(refused.value)
    assert "hunter2" not in caplog.text


def test_a_url_that_is_taken_shows_its_secrets_nowhere(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    (receiver,) = receivers([SecretStr("json://host/hunter2")], 5)
    assert receiver.name.startswith("json-")
    assert "hunter2" not in caplog.text
