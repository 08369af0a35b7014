"""The terminal as a receiver."""

from typing import ClassVar, TextIO

from watchkeep.notifiers.message import Message


class Terminal:
    """Prints messages where Watchkeep runs."""

    name: ClassVar[str] = "terminal"

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    async def send(self, message: Message) -> None:
        """Print a message; see `Receiver`."""
        body = "\n".join(f"  {line}".rstrip() for line in message.body.splitlines())
        self._stream.write(f"\n{message.title}\n{body}\n")
        self._stream.flush()
