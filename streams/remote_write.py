"""Reading a Prometheus remote-write 1.0 request: negotiation, limits, decoding.

https://prometheus.io/docs/specs/prw/remote_write_spec/. A 4xx tells the sender to drop the data, so
it is given only where sending again can't help.
"""

from collections.abc import Mapping

import cramjam
from google.protobuf.message import DecodeError

from watchkeep.schemas.errors import RemoteWriteError
from watchkeep.schemas.remote_write_pb2 import WriteRequest

_MEDIA_TYPE = "application/x-protobuf"
_MESSAGE = "prometheus.WriteRequest"


def negotiate(headers: Mapping[str, str]) -> None:
    """Check the type and encoding of a request before its body is looked at.

    Missing headers are taken for version 1.0, as Prometheus does.

    Raises:
        RemoteWriteError: 415, with what would be accepted.
    """
    media, *parameters = (part.strip() for part in headers.get("Content-Type", "").split(";"))
    protos = [p.partition("=")[2].strip('" ') for p in parameters if p.startswith("proto=")]
    if (media and media.lower() != _MEDIA_TYPE) or any(proto != _MESSAGE for proto in protos):
        raise RemoteWriteError(
            415,
            f"content type {headers['Content-Type']!r} is not supported; send {_MEDIA_TYPE} "
            f"with {_MESSAGE} (remote write 1.0)",
        )
    encoding = headers.get("Content-Encoding", "snappy")
    if encoding.lower() != "snappy":
        raise RemoteWriteError(415, f"content encoding {encoding!r} is not supported; use snappy")


def decode(body: bytes, bytes_max: int) -> WriteRequest:
    """Decompress and read a body.

    Args:
        body: snappy block format.
        bytes_max: the largest decompressed size.

    Raises:
        RemoteWriteError: 413 when it is too large, 400 when it can't be read.
    """
    try:
        # The length is forged easily, so it is checked before any memory is taken.
        size = cramjam.snappy.decompress_raw_len(body)
        if size > bytes_max:
            raise RemoteWriteError(413, f"{size} bytes are more than the {bytes_max} allowed")
        plain = bytes(cramjam.snappy.decompress_raw(body))
    except cramjam.DecompressionError as error:
        raise RemoteWriteError(400, f"the body is no snappy block: {error}") from error
    try:
        request = WriteRequest.FromString(plain)
    except DecodeError as error:
        raise RemoteWriteError(400, f"the body is no {_MESSAGE}: {error}") from error
    if plain and not request.timeseries and not request.metadata:
        raise RemoteWriteError(400, f"the body holds nothing that a {_MESSAGE} has")
    return request
