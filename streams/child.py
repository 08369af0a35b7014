"""How child processes are started: they die with their parent, and need not be root as it is."""

import ctypes
import os
import pwd
import shutil
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from typing import Final, NamedTuple

# From linux/prctl.h, linux/securebits.h and linux/capability.h.
_PR_SET_PDEATHSIG: Final = 1
_PR_SET_SECUREBITS: Final = 28
_SECBIT_NO_SETUID_FIXUP: Final = 1 << 2
_PR_CAP_AMBIENT: Final = 47
_PR_CAP_AMBIENT_RAISE: Final = 2
_CAPABILITY_VERSION_3: Final = 0x20080522
_CAP_DAC_OVERRIDE: Final = 1
_CAP_DAC_READ_SEARCH: Final = 2


class Account(NamedTuple):
    """A user to run as.

    Attributes:
        enter_all: whether to keep root's right to enter folders that are closed to others.
    """

    uid: int
    gid: int
    enter_all: bool = False

    def reaching(self, *paths: Path) -> "Account":
        """Keep the right to enter folders if that is needed to get at these paths."""
        ways = {way for path in paths for way in path.parents}
        return self._replace(enter_all=any(not way.stat().st_mode & 0o001 for way in ways))


def account_named(name: str) -> Account:
    """Find a user, or make one that nobody can log in as.

    Raises:
        OSError: it can't be made.
    """
    with suppress(KeyError):
        return _account(name)
    options = ["--system", "--user-group", "--no-create-home", "--shell", "/usr/sbin/nologin"]
    done = subprocess.run(  # noqa: S603 - The program is the system's, the arguments are ours.
        [shutil.which("useradd") or "/usr/sbin/useradd", *options, name],
        capture_output=True,
        check=False,
    )
    try:
        return _account(name)
    except KeyError:
        raise OSError(" ".join(done.stderr.decode(errors="replace").split())) from None


def _account(name: str) -> Account:
    entry = pwd.getpwnam(name)
    return Account(entry.pw_uid, entry.pw_gid)


def die_with_parent(number: int = signal.SIGKILL) -> None:
    """Have the kernel end this process when its parent dies, even by SIGKILL (Linux only).

    Called in a child between fork and exec. With SIGKILL it is no polite end: the parent takes the
    broker with it, and a stage that wants to say goodbye to a broker that is gone waits for ever.
    For the kernel the parent is a thread: the one that starts the child must be the main one.
    """
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, number)


def become(account: Account | None, number: int) -> None:
    """Change the user if one is given, and end by a signal when the parent dies.

    Called in a child between fork and exec.
    """
    if account is not None:
        libc = ctypes.CDLL(None)
        if account.enter_all:
            # Else the change of user takes all rights away, and access(2) goes by the user alone.
            libc.prctl(_PR_SET_SECUREBITS, _SECBIT_NO_SETUID_FIXUP, 0, 0, 0)
        os.setgroups([])
        os.setgid(account.gid)
        os.setuid(account.uid)
        if account.enter_all:
            _keep_only_entering(libc)
    die_with_parent(number)  # Only now: a change of user clears it.


def _keep_only_entering(libc: ctypes.CDLL) -> None:
    """Keep, of root's rights, that to enter folders: those above may be root's alone, as /root is.

    To open them instead would open them to everybody, and for good. Containers often have only the
    wider of the two rights. Where neither can be kept, what comes next tells what it can't enter.
    """
    for right in (_CAP_DAC_READ_SEARCH, _CAP_DAC_OVERRIDE):
        if _keep_only(libc, 1 << right) == 0:
            libc.prctl(_PR_CAP_AMBIENT, _PR_CAP_AMBIENT_RAISE, right, 0, 0)
            return
    _keep_only(libc, 0)


def _keep_only(libc: ctypes.CDLL, rights: int) -> int:
    head = (ctypes.c_uint32 * 2)(_CAPABILITY_VERSION_3, 0)
    effective_permitted_inheritable = (ctypes.c_uint32 * 6)(rights, rights, rights, 0, 0, 0)
    return int(libc.capset(head, effective_permitted_inheritable))
