"""A receiver for the tests."""

from watchkeep.notifiers.message import Message
from watchkeep.schemas.errors import DeliveryError


class Inbox:
    """A receiver that keeps what it gets, after some failures."""

    name = "inbox"

    def __init__(self, failures: int = 0) -> None:
        self.messages: list[Message] = []
        self.refused: list[str] = []
        self._failures = failures

    async def send(self, message: Message) -> None:
        """Take a message, or fail."""
        if self._failures:
            self._failures -= 1
            self.refused.append(message.title)
            raise DeliveryError("the inbox is out of order")
        self.messages.append(message)

    def fail(self, times: int) -> None:
        """Fail so often from now on."""
        self._failures = times
        self.refused.clear()

    @property
    def titles(self) -> list[str]:
        """The titles of what was taken."""
        return [message.title for message in self.messages]
