"""Requests of version 1.0 as the gateway takes them in."""

from collections import Counter

from watchkeep.schemas.remote_write_pb2 import WriteRequest
from watchkeep.streams.intake import Intake
from watchkeep.streams.remote_write import decompress
from watchkeep.streams.wire import V1


def take(intake: Intake, message: WriteRequest) -> Counter[str]:
    """Have a message taken in: how many series were refused, by reason."""
    return intake.take(message.SerializeToString(), V1).refused


def take_body(intake: Intake, body: bytes) -> Counter[str]:
    """Have a body taken in as it is sent."""
    return intake.take(decompress(body), V1).refused


def read(body: bytes) -> WriteRequest:
    """Read a body as it is sent."""
    return WriteRequest.FromString(decompress(body))
