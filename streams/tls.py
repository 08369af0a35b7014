"""The gateway's certificate, which is renewed on disk while it runs."""

import logging
import ssl
import time
from pathlib import Path
from typing import Final

from watchkeep.schemas.errors import ConfigError
from watchkeep.schemas.settings import Tls

log = logging.getLogger(__name__)

_LOOK_S: Final = 1.0

_Marks = tuple[tuple[int, int, int], ...]


class Certificates:
    """What a TLS connection begins with: as new as the files.

    A change that can't be used, as a certificate whose key is still to come, is told once and
    tried again when the files change again; until then the one before stays in force.

    Args:
        settings: the files; a certificate is set.

    Raises:
        ConfigError: one can't be used.
    """

    def __init__(self, settings: Tls) -> None:
        self._settings = settings
        self._marks = self._look()
        self._context = _load(settings)
        self._looked_s = time.monotonic()

    def context(self) -> ssl.SSLContext:
        """Give what the next connection begins with."""
        now_s = time.monotonic()
        if now_s - self._looked_s >= _LOOK_S:
            self._looked_s = now_s
            self._renew()
        return self._context

    def _renew(self) -> None:
        marks = self._look()
        if marks == self._marks:
            return
        self._marks = marks
        try:
            self._context = _load(self._settings)
        except ConfigError as error:
            log.warning("a renewed certificate can't be used, the old one stays: %s", error)
        else:
            log.info("took up a renewed certificate")

    def _look(self) -> _Marks:
        return tuple(
            _mark(file)
            for file in (self._settings.certificate, self._settings.key, self._settings.client_ca)
            if file
        )


def _mark(file: str) -> tuple[int, int, int]:
    """Tell a file from its next version; Kubernetes renews by pointing a link elsewhere."""
    try:
        found = Path(file).stat()
    except OSError:
        return 0, 0, 0
    return found.st_mtime_ns, found.st_ino, found.st_size


def _load(settings: Tls) -> ssl.SSLContext:
    for name in ("certificate", "key", "client_ca"):
        if file := getattr(settings, name):
            _check_readable(f"gateway.tls.{name}", file)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols(["http/1.1"])
    try:
        # Without a password of ours, OpenSSL would ask for one on the terminal.
        context.load_cert_chain(settings.certificate, settings.key, password=lambda: "")
    except ssl.SSLError as error:
        raise ConfigError(_what(settings, error)) from error
    if settings.client_ca:
        # Probes and scrapes need none; who sends without one is refused with words.
        context.verify_mode = ssl.CERT_OPTIONAL
        try:
            context.load_verify_locations(settings.client_ca)
        except ssl.SSLError as error:
            raise ConfigError(
                f"gateway.tls.client_ca: {settings.client_ca} holds no certificate in PEM"
            ) from error
    return context


def _check_readable(key: str, file: str) -> None:
    try:
        with Path(file).open("rb"):
            pass
    except OSError as error:
        raise ConfigError(f"{key}: {file} can't be read: {error.strerror}") from error


def _what(settings: Tls, error: ssl.SSLError) -> str:
    if error.reason == "KEY_VALUES_MISMATCH":
        return f"gateway.tls.key: {settings.key} is not the key of {settings.certificate}"
    text = Path(settings.certificate).read_bytes()
    if b"-----BEGIN CERTIFICATE-----" not in text:
        return f"gateway.tls.certificate: {settings.certificate} holds no certificate in PEM"
    if b"ENCRYPTED" in Path(settings.key).read_bytes():
        return f"gateway.tls.key: {settings.key} is encrypted; give it without a password"
    reason = error.reason or "no reason is told"
    return f"gateway.tls.key: {settings.key} can't be used with the certificate: {reason}"
