"""Receivers by Apprise URL: e-mail, webhooks and whatever else Apprise knows."""

import logging
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import xxhash
from apprise import Apprise, AppriseResultStatus, NotifyFormat, NotifyType
from pydantic import SecretStr

from watchkeep.notifiers.message import Message, Receiver
from watchkeep.schemas.errors import ConfigError, DeliveryError

_SCHEME: Final = re.compile(r"[a-z][a-z0-9+.-]*(?=://)", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class AppriseReceiver:
    """One Apprise URL.

    Attributes:
        name: its scheme and a hash of the URL: it stays when the list is reordered.
        timeout_s: longest wait for one send.
    """

    name: str
    apprise: Apprise
    timeout_s: float

    async def send(self, message: Message) -> None:
        """Send a message; see `Receiver`."""
        result = await self.apprise.async_notify(
            title=message.title,
            body=message.body,
            notify_type=NotifyType.SUCCESS if message.resolved else NotifyType.FAILURE,
            body_format=NotifyFormat.TEXT,
            timeout=self.timeout_s,
        )
        if result.status is not AppriseResultStatus.SUCCESS:
            raise DeliveryError(f"{self.name} answered {result.status.name.lower()}")


def receivers(urls: Sequence[SecretStr], timeout_s: float) -> list[Receiver]:
    """Make a receiver of each URL of `notify.urls`.

    Raises:
        ConfigError: Apprise can't use a URL; the message names its place and scheme only.
    """
    return [_receiver(i, url.get_secret_value(), timeout_s) for i, url in enumerate(urls)]


def _receiver(i: int, url: str, timeout_s: float) -> AppriseReceiver:
    found = _SCHEME.match(url)
    scheme = found.group() if found else ""
    apprise = Apprise()
    # Apprise reads several URLs from one text; a retry would tell the working ones again.
    if not _added(apprise, url) or len(apprise) != 1:
        what = f"{scheme}://..." if scheme else "a URL without a scheme"
        raise ConfigError(
            f"notify.urls[{i}]: Apprise can't use {what} as one URL; check its parts against "
            "https://appriseit.com/services/, for example mailtos://user:password@host?to=you@host"
        )
    return AppriseReceiver(
        f"{scheme}-{xxhash.xxh3_64_hexdigest(url.encode())[:6]}", apprise, timeout_s
    )


def _added(apprise: Apprise, url: str) -> bool:
    """Add a URL in silence: Apprise's log would show its secrets."""
    log = logging.getLogger("apprise")
    was_disabled, log.disabled = log.disabled, True
    try:
        return bool(apprise.add(url))
    finally:
        log.disabled = was_disabled
