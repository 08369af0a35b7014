"""Certificates of a test's own, made by openssl."""

import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Final

_KEY: Final = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes")


@dataclass(frozen=True)
class Issued:
    """A certificate and its key, as files."""

    certificate: str
    key: str


class Authority:
    """Who signs certificates.

    Args:
        folder: where its files are.
        name: its common name.
    """

    def __init__(self, folder: Path, name: str) -> None:
        self._folder = folder
        self._own = Issued(str(folder / f"{name}.pem"), str(folder / f"{name}.key"))
        _openssl("req", "-x509", *_KEY, "-subj", f"/CN={name}", *_into(self._own))

    @property
    def file(self) -> str:
        """Its own certificate."""
        return self._own.certificate

    def issue(self, name: str, *also: str, file: str = "") -> Issued:
        """Sign a certificate.

        Args:
            name: its common name.
            also: its other names, as ``DNS:localhost``.
            file: what its files are called; the name if it is missing.
        """
        begin = self._folder / (file or name)
        issued = Issued(f"{begin}.pem", f"{begin}.key")
        names = ("-addext", f"subjectAltName={','.join(also)}") if also else ()
        signer = ("-CA", self._own.certificate, "-CAkey", self._own.key)
        subject = ("-subj", f"/CN={name}")
        plain = ("-addext", "basicConstraints=critical,CA:FALSE")
        _openssl("req", "-x509", *_KEY, *subject, *names, *plain, *signer, *_into(issued))
        return issued


def _into(issued: Issued) -> tuple[str, ...]:
    return ("-out", issued.certificate, "-keyout", issued.key, "-days", "2")


def _openssl(*arguments: str) -> None:
    subprocess.run(["openssl", *arguments], check=True, capture_output=True)
