"""What anybody would write first to read remote write: Google's protobuf, and loops."""

from typing import Any, Final

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory, text_format

from watchkeep.schemas.remote_write_pb2 import WriteRequest

# Version 2.0 (https://prometheus.io/docs/specs/prw/remote_write_spec_2_0/), as far as it is read.
_VERSION_2: Final = """
name: "baseline.proto" package: "baseline" syntax: "proto3"
message_type { name: "Sample"
  field { name: "value" number: 1 type: TYPE_DOUBLE label: LABEL_OPTIONAL }
  field { name: "timestamp" number: 2 type: TYPE_INT64 label: LABEL_OPTIONAL } }
message_type { name: "TimeSeries"
  field { name: "labels_refs" number: 1 type: TYPE_UINT32 label: LABEL_REPEATED }
  field { name: "samples" number: 2 type: TYPE_MESSAGE type_name: ".baseline.Sample"
          label: LABEL_REPEATED } }
message_type { name: "Request"
  field { name: "symbols" number: 4 type: TYPE_STRING label: LABEL_REPEATED }
  field { name: "timeseries" number: 5 type: TYPE_MESSAGE type_name: ".baseline.TimeSeries"
          label: LABEL_REPEATED } }
"""


def _request_class() -> Any:  # noqa: ANN401 - It is made at run time.
    pool = descriptor_pool.DescriptorPool()
    pool.Add(text_format.Parse(_VERSION_2, descriptor_pb2.FileDescriptorProto()))
    return message_factory.GetMessageClass(pool.FindMessageTypeByName("baseline.Request"))


_Request: Final = _request_class()

Read = tuple[list[int], list[int], list[float]]


def read_v1(plain: bytes) -> Read:
    """Read a request of version 1.0 into ids, times and values."""
    ids, times, values = [], [], []
    for series in WriteRequest.FromString(plain).timeseries:
        key = hash(tuple((label.name, label.value) for label in series.labels))
        for sample in series.samples:
            ids.append(key)
            times.append(sample.timestamp)
            values.append(sample.value)
    return ids, times, values


def read_v2(plain: bytes) -> Read:
    """Read a request of version 2.0, whose label sets are references to symbols, likewise."""
    ids, times, values = [], [], []
    request = _Request.FromString(plain)
    symbols = list(request.symbols)
    for series in request.timeseries:
        key = hash(tuple(symbols[reference] for reference in series.labels_refs))
        for sample in series.samples:
            ids.append(key)
            times.append(sample.timestamp)
            values.append(sample.value)
    return ids, times, values
