"""Receiving Prometheus remote write, 1.0 and 2.0: negotiation, decompression, answers.

https://prometheus.io/docs/specs/prw/remote_write_spec/ and .../remote_write_spec_2_0/. A 4xx tells
the sender to drop the data, so it is given only where sending again can't help.
"""

from collections.abc import Mapping
from typing import Final

import cramjam

from watchkeep.schemas.errors import RemoteWriteError
from watchkeep.streams.wire import V1, V2

_MEDIA_TYPE: Final = "application/x-protobuf"
_VERSIONS: Final = {"prometheus.WriteRequest": V1, "io.prometheus.write.v2.Request": V2}
# Of what is sent this tells senders of version 2.0; to others it must not be said.
_WRITTEN: Final = "X-Prometheus-Remote-Write-{}-Written"


def negotiate(headers: Mapping[str, str]) -> int:
    """Tell the version of a request from its type and encoding, before its body is looked at.

    Missing and empty headers are taken for version 1.0, as Prometheus does.

    Raises:
        RemoteWriteError: 415, with what would be accepted.
    """
    told = headers.get("Content-Type", "")
    media, *parameters = (part.strip() for part in told.split(";"))
    protos = [
        value.strip().strip('"')
        for name, _, value in (parameter.partition("=") for parameter in parameters)
        if name.strip().lower() == "proto"
    ]
    version = _VERSIONS.get(protos[0]) if protos else V1
    if (media and media.lower() != _MEDIA_TYPE) or version is None or len(protos) > 1:
        accepted = " or ".join(f"{_MEDIA_TYPE};proto={name}" for name in _VERSIONS)
        raise RemoteWriteError(415, f"content type {told!r} is not supported; send {accepted}")
    encoding = headers.get("Content-Encoding") or "snappy"
    if encoding.strip().lower() != "snappy":
        raise RemoteWriteError(415, f"content encoding {encoding!r} is not supported; use snappy")
    return version


def decompressed_size(body: bytes, bytes_max: int) -> int:
    """Tell how large a body is when it is decompressed, before any memory is taken for it.

    Args:
        body: snappy block format; the size that it tells is forged easily.
        bytes_max: the largest that is allowed.

    Raises:
        RemoteWriteError: 413 when it is too large, 400 when it can't be read.
    """
    try:
        size = int(cramjam.snappy.decompress_raw_len(body))
    except cramjam.DecompressionError as error:
        raise RemoteWriteError(400, f"the body is no snappy block: {error}") from error
    if size > bytes_max:
        raise RemoteWriteError(413, f"{size} bytes are more than the {bytes_max} allowed")
    return size


def decompress(body: bytes) -> bytes:
    """Decompress a body, whose size was found to be allowed.

    Raises:
        RemoteWriteError: it can't be read.
    """
    try:
        return bytes(cramjam.snappy.decompress_raw(body))
    except cramjam.DecompressionError as error:
        raise RemoteWriteError(400, f"the body is no snappy block: {error}") from error


def written(
    version: int, samples: int = 0, histograms: int = 0, exemplars: int = 0
) -> dict[str, str]:
    """Make the headers that tell a sender what was written.

    Exemplars count as written, though nothing here needs them and nobody looks into them: a sender
    that is told of none thinks that it lost some.
    """
    if version == V1:
        return {}
    told = {"Samples": samples, "Histograms": histograms, "Exemplars": exemplars}
    return {_WRITTEN.format(name): str(count) for name, count in told.items()}
