"""Messages reach a real webhook and a real mail server."""

import asyncio
import email
from collections.abc import AsyncIterator, Iterator
from email.policy import default
from typing import Any

import pytest
from aiohttp import web
from aiosmtpd.controller import Controller
from pydantic import SecretStr

from watchkeep.notifiers.apprise_sender import receivers
from watchkeep.notifiers.message import Message
from watchkeep.schemas.errors import DeliveryError
from watchkeep.streams.embedded import free_port

MESSAGE = Message("FIRING shop/cart", "latency reached 0.8 s\n\n- a line", resolved=False)


class Mailbox:
    """What a mail server has received."""

    def __init__(self) -> None:
        self.mails: list[bytes] = []

    async def handle_DATA(self, _server: Any, _session: Any, envelope: Any) -> str:  # noqa: ANN401, N802 - aiosmtpd's hook.
        """Take a mail."""
        self.mails.append(envelope.content)
        return "250 taken"


@pytest.fixture
def mail_server() -> Iterator[tuple[int, Mailbox]]:
    mailbox = Mailbox()
    controller = Controller(mailbox, hostname="127.0.0.1", port=free_port())
    controller.start()
    yield controller.port, mailbox
    controller.stop()


@pytest.fixture
async def webhook() -> AsyncIterator[tuple[int, list[dict[str, Any]]]]:
    received: list[dict[str, Any]] = []

    async def receive(request: web.Request) -> web.Response:
        received.append(await request.json())
        return web.Response(status=500 if request.path == "/broken" else 200)

    app = web.Application()
    app.router.add_post("/{any:.*}", receive)
    runner = web.AppRunner(app)
    await runner.setup()
    port = free_port()
    await web.TCPSite(runner, "127.0.0.1", port).start()
    yield port, received
    await runner.cleanup()


async def test_a_webhook_gets_title_message_and_type(
    webhook: tuple[int, list[dict[str, Any]]],
) -> None:
    port, received = webhook
    (receiver,) = receivers([SecretStr(f"json://127.0.0.1:{port}/x")], 5)
    await receiver.send(MESSAGE)
    await receiver.send(MESSAGE._replace(resolved=True))
    assert [message["type"] for message in received] == ["failure", "success"]
    assert received[0]["title"] == MESSAGE.title
    assert received[0]["message"] == MESSAGE.body


async def test_a_mail_arrives(mail_server: tuple[int, Mailbox]) -> None:
    port, mailbox = mail_server
    url = f"mailto://127.0.0.1:{port}?from=watchkeep@example.org&to=oncall@example.org"
    (receiver,) = receivers([SecretStr(url)], 5)
    await receiver.send(MESSAGE)
    mail = email.message_from_bytes(mailbox.mails[0], policy=default)
    assert mail["Subject"] == MESSAGE.title
    assert mail["To"] == "oncall@example.org"
    body = mail.get_body()
    assert body is not None
    assert "latency reached 0.8 s" in body.get_content()


async def test_a_refusal_is_told(webhook: tuple[int, list[dict[str, Any]]]) -> None:
    port, _ = webhook
    (receiver,) = receivers([SecretStr(f"json://127.0.0.1:{port}/broken")], 5)
    with pytest.raises(DeliveryError, match="answered failure"):
        await receiver.send(MESSAGE)


def test_a_receiver_keeps_its_name_when_the_list_is_reordered() -> None:
    urls = [SecretStr("json://a/"), SecretStr("json://b/")]
    names = [receiver.name for receiver in receivers(urls, 5)]
    assert [receiver.name for receiver in receivers(urls[::-1], 5)] == names[::-1]
    assert len(set(names)) == 2


async def test_sends_run_beside_each_other(webhook: tuple[int, list[dict[str, Any]]]) -> None:
    port, received = webhook
    told = receivers([SecretStr(f"json://127.0.0.1:{port}/{i}") for i in range(3)], 5)
    await asyncio.gather(*(receiver.send(MESSAGE) for receiver in told))
    assert len(received) == 3
