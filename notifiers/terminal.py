"""The terminal as a receiver."""

from typing import ClassVar, TextIO

from watchkeep.notifiers.message import Message
from watchkeep.schemas.errors import DeliveryError


class Terminal:
    """Prints messages where Watchkeep runs."""

    name: ClassVar[str] = "terminal"

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    async def send(self, message: Message) -> None:
        """Print a message; see `Receiver`."""
        body = "\n".join(f"  {line}".rstrip() for line in message.body.splitlines())
        # A name may hold letters that this terminal's encoding doesn't have.
        encoding = self._stream.encoding or "utf-8"
        text = f"\n{message.title}\n{body}\n".encode(encoding, "backslashreplace")
        try:
            self._stream.write(text.decode(encoding))
            self._stream.flush()
        except OSError as error:
            raise DeliveryError(f"the terminal can't be written to: {error}") from error
