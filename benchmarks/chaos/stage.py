"""A stage as `watchkeep` runs it, but for one thing: there are records that end it.

No record is known that ends a stage: it would be mended. So decoding is made to fail here for
records that begin with a mark. Nothing else is replaced.
"""

import asyncio
import os
import signal
import sys
import threading
from collections.abc import Callable
from typing import Any, Final, TypeVar

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


class _Policy(asyncio.DefaultEventLoopPolicy):
    """Makes loops whose tasks are told at SIGUSR1, for a look at one that is stuck."""

    def new_event_loop(self) -> asyncio.AbstractEventLoop:
        """Make a loop; the first one is the stage's own."""
        loop = super().new_event_loop()
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGUSR1, lambda *_: _tell(loop))
        return loop


def _tell(loop: asyncio.AbstractEventLoop) -> None:
    for task in asyncio.all_tasks(loop):
        print("TASK", task.get_name(), file=sys.stderr)
        waits: Any = task.get_coro()
        while waits is not None:
            frame = getattr(waits, "cr_frame", None) or getattr(waits, "ag_frame", None)
            if frame is not None:
                print(f"  {frame.f_code.co_filename}:{frame.f_lineno}", file=sys.stderr)
            waits = getattr(waits, "cr_await", None) or getattr(waits, "ag_await", None)
    sys.stderr.flush()


if __name__ == "__main__":
    asyncio.set_event_loop_policy(_Policy())
    for module in (runtime, incidents, notify):
        module.decode = _deadly(module.decode)  # type: ignore[attr-defined]  # They import it.
    sys.exit(cli.main())
