"""Who may send: senders prove who they are before anything of their body is read.

Whoever can't is answered 401, for which a sender drops what it has: to try again wouldn't help,
and a queue that waits for a secret to be mended would hide the mistake.
"""

import base64
import binascii
import hashlib
import hmac
import logging
import math
import random
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Final

from aiohttp import web
from aiohttp.typedefs import Handler, Middleware
from pydantic import SecretStr

from watchkeep.schemas.errors import ConfigError
from watchkeep.schemas.settings import Gateway, Sender
from watchkeep.streams.vitals import TURNED_AWAY

log = logging.getLogger(__name__)

# Everything else needs a sender: a route that is added is closed until it stands here.
_OPEN: Final = frozenset({"/metrics", "/healthz", "/readyz"})
_SHARED_NAME: Final = "shared"
_REALM: Final = 'realm="watchkeep"'
# The load of a short while that a sender may send at once: Prometheus catches up after an outage.
_BURST_S: Final = 10.0
_WAIT_MAX_S: Final = 60.0
_TELL_AGAIN_S: Final = 60.0


class _NotAdmittedError(Exception):
    """A request doesn't prove who sends it; the message is one of a few, and holds no secret."""


class Keys:
    """What senders prove themselves with; of secrets only the hashes are kept."""

    def __init__(self, settings: Gateway) -> None:
        self._any_certificate = bool(settings.tls.client_ca)
        # By the SHA-256 of what is sent: all are of one length, so none is told by its length.
        self._tokens: list[tuple[bytes, str]] = []
        self._passwords: list[tuple[bytes, str]] = []
        self._certificates: dict[str, str] = {}
        for at, sender in enumerate(settings.senders):
            self._add(sender, f"gateway.senders[{at}]")
        auth = settings.auth
        if auth.bearer_token.get_secret_value():
            self._add(Sender(name=_SHARED_NAME, bearer_token=auth.bearer_token), "gateway.auth")
        if auth.user:
            both = Sender(name=_SHARED_NAME, user=auth.user, password=auth.password)
            self._add(both, "gateway.auth")
        if self._tokens or self._passwords or self._certificates:
            self._any_certificate = False
        self.challenge: Final = ", ".join(
            f"{scheme} {_REALM}"
            for scheme, wanted in (
                ("Bearer", self._tokens),
                ("Basic", self._passwords),
                ("Certificate", self._certificates or self._any_certificate),
            )
            if wanted
        )

    def _add(self, sender: Sender, key: str) -> None:
        if sender.certificate:
            self._certificates[sender.certificate] = sender.name
            return
        if sender.user:
            password = _secret(sender.password, sender.password_file, f"{key}.password_file")
            taken, digest = self._passwords, _digest(f"{sender.user}:{password}".encode())
        else:
            token = _secret(
                sender.bearer_token, sender.bearer_token_file, f"{key}.bearer_token_file"
            )
            taken, digest = self._tokens, _digest(token.encode())
        if any(digest == other for other, _ in taken):
            raise ConfigError(f"{key}: another sender has the same secret; give each its own")
        taken.append((digest, sender.name))

    def sender_of(self, http: web.Request) -> str:
        """Name the sender of a request; nothing where everyone may send.

        Raises:
            _NotAdmittedError: it proves to be nobody who may.
        """
        if not self.challenge:
            return ""
        names = list(_names(http)) if self._certificates or self._any_certificate else []
        for name in names:
            if sender := name if self._any_certificate else self._certificates.get(name):
                return sender
        if names and "Authorization" not in http.headers:
            raise _NotAdmittedError("unknown certificate")
        return self._by_header(http.headers)

    def _by_header(self, headers: Mapping[str, str]) -> str:
        scheme, _, rest = headers.get("Authorization", "").partition(" ")
        given = rest.strip()
        match scheme.lower():
            case "bearer":
                return _find(given.encode(errors="surrogateescape"), self._tokens)
            case "basic":
                try:
                    return _find(base64.b64decode(given, validate=True), self._passwords)
                except (binascii.Error, ValueError) as error:
                    raise _NotAdmittedError("malformed credentials") from error
            case "":
                raise _NotAdmittedError("no credentials")
            case _:
                raise _NotAdmittedError("unknown kind of credentials")


def _secret(given: SecretStr, file: str, key: str) -> str:
    if not file:
        return given.get_secret_value()
    try:
        text = Path(file).read_text().strip()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{key}: {file} can't be read: {error}") from error
    if not text:
        raise ConfigError(f"{key}: {file} is empty; write the secret into it")
    return text


def _digest(secret: bytes) -> bytes:
    return hashlib.sha256(secret).digest()


def _find(given: bytes, known: list[tuple[bytes, str]]) -> str:
    """Look through all of them, so that the time it takes tells nothing."""
    digest, found = _digest(given), ""
    for other, name in known:
        if hmac.compare_digest(digest, other):
            found = name
    if not found:
        raise _NotAdmittedError("wrong credentials")
    return found


def _names(http: web.Request) -> Iterator[str]:
    """List the names that the sender's certificate proves: common name, DNS names, URIs."""
    transport = http.transport
    shown = transport.get_extra_info("peercert") if transport else None
    if not shown:
        return
    for part in shown.get("subject", ()):
        for key, value in part:
            if key == "commonName":
                yield value
    for kind, value in shown.get("subjectAltName", ()):
        if kind in {"DNS", "URI"}:
            yield value


class Rate:
    """A token bucket that may be overdrawn: samples are counted when they have been read.

    A request is let in while there is anything in the bucket, and whoever took more waits longer.

    Args:
        samples_per_s: what flows in.
        now_s: the monotonic clock.
    """

    def __init__(self, samples_per_s: float, now_s: Callable[[], float] = time.monotonic) -> None:
        self._per_s = samples_per_s
        self._now_s = now_s
        self._left = samples_per_s * _BURST_S
        self._at_s = now_s()

    def _flow(self) -> None:
        now_s = self._now_s()
        added = (now_s - self._at_s) * self._per_s
        self._left = min(self._left + added, self._per_s * _BURST_S)
        self._at_s = now_s

    def take(self, samples: int) -> None:
        """Take samples out, more than there are if need be."""
        self._flow()
        self._left -= samples

    def wait_s(self) -> float:
        """Tell how long to wait until there is something again."""
        self._flow()
        return max(0.0, -self._left / self._per_s)


# The name of who sends a request.
SENDER: Final = web.RequestKey("sender", str)
_RATE: Final = web.RequestKey("rate", Rate)


def charge(http: web.Request, samples: int) -> None:
    """Count the samples of a request against its sender's rate."""
    rate = http.get(_RATE)
    if rate is not None:
        rate.take(samples)


def retry_after_s(wait_s: float) -> int:
    """Spread the senders' retries: wait so long, and up to half as long or three seconds more."""
    wait_s = min(max(wait_s, 1.0), _WAIT_MAX_S)
    return math.ceil(wait_s + random.uniform(0, max(3.0, wait_s / 2)))  # noqa: S311 - No secret.


def check_senders(settings: Gateway) -> Middleware:
    """Make the middleware that lets in who may send.

    It puts the sender's name, "" where everyone may send, into ``request[SENDER]``.

    Raises:
        ConfigError: a secret's file can't be read, or two senders have the same secret.
    """
    keys = Keys(settings)
    rates = {s.name: Rate(s.samples_per_s) for s in settings.senders if s.samples_per_s}
    told_s: dict[str, float] = {}

    @web.middleware
    async def check(request: web.Request, handler: Handler) -> web.StreamResponse:
        if request.path in _OPEN:
            return await handler(request)
        try:
            sender = keys.sender_of(request)
        except _NotAdmittedError as reason:
            _tell(told_s, f"turned {request.remote} away", str(reason))
            return web.Response(
                status=401,
                headers={"WWW-Authenticate": keys.challenge},
                text=f"{reason}: nobody who may send here; check this sender's authorization or "
                "tls_config\n",
            )
        request[SENDER] = sender
        rate = rates.get(sender)
        if rate is None:
            return await handler(request)
        if wait_s := rate.wait_s():
            _tell(told_s, f"{sender} has to wait", "too many samples")
            return web.Response(
                status=503,
                headers={"Retry-After": str(retry_after_s(wait_s))},
                text="more samples than samples_per_s allows; nothing was taken, send it again\n",
            )
        request[_RATE] = rate
        return await handler(request)

    return check


def _tell(told_s: dict[str, float], what: str, reason: str) -> None:
    """Count a refusal, and log it unless the same reason was logged a moment ago."""
    TURNED_AWAY.labels(reason).inc()
    now_s = time.monotonic()
    if now_s - told_s.get(reason, -math.inf) >= _TELL_AGAIN_S:
        told_s[reason] = now_s
        log.warning("%s: %s", what, reason)
