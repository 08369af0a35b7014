"""A stage as `watchkeep` runs it, but for one thing: there are records that end it.

No record is known that ends a stage: it would be mended. So decoding is made to fail here for
records that begin with a mark. Nothing else is replaced.
"""

import asyncio
import os
import signal
import sys
from collections.abc import Callable
from typing import Final, TypeVar

from watchkeep.streams import cli, incidents, notify, runtime

RAISES: Final = b"DEADLY raises"
KILLS: Final = b"DEADLY kills"

Read = TypeVar("Read")


def _deadly(decode: Callable[[bytes], Read]) -> Callable[[bytes], Read]:
    def read(value: bytes) -> Read:
        if value.startswith(RAISES):
            raise ZeroDivisionError("a record that ends the stage")
        if value.startswith(KILLS):
            os.kill(os.getpid(), signal.SIGKILL)
        return decode(value)

    return read


class _Told(asyncio.DefaultEventLoopPolicy):
    """Makes loops that tell, at SIGUSR1, where each task is: for a look at one that is stuck."""

    def new_event_loop(self) -> asyncio.AbstractEventLoop:
        """Make a loop."""
        loop = super().new_event_loop()
        loop.add_signal_handler(signal.SIGUSR1, self._tell, loop)
        return loop

    def _tell(self, loop: asyncio.AbstractEventLoop) -> None:
        for task in asyncio.all_tasks(loop):
            task.print_stack()


if __name__ == "__main__":
    asyncio.set_event_loop_policy(_Told())
    for module in (runtime, incidents, notify):
        module.decode = _deadly(module.decode)  # type: ignore[attr-defined]
    sys.exit(cli.main())
