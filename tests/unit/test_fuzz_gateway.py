"""Whatever is sent, the gateway answers as remote write has it, and goes on."""

import asyncio
import io
from collections.abc import Iterator, Mapping

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from native import native
from receiver import ENCODE, HEADERS, Receiver, frames, packed, receiver
from second_version import DraftSeries, drafts, field, varint
from watchkeep.schemas.settings import Gateway
from watchkeep.streams.memory import MemoryLog
from watchkeep.streams.wire import V1, V2

STATUSES = {204, 400, 405, 413, 415, 503}
# Little is taken at once and few series are let in, so that these limits are met too.
SMALL = Gateway(max_body_mb=0.002, active_series_max=200)
GOOD = (("__name__", "good"),)
NATIVE = native({1: 3, 5: 1}, {-2: 7}, zero=1, time_ms=1).SerializeToString()


@pytest.fixture
def log() -> MemoryLog:
    return MemoryLog()


@pytest.fixture
def gateway(each_reader: None, log: MemoryLog) -> Iterator[tuple[asyncio.Runner, Receiver]]:  # noqa: ARG001
    """Run a gateway for all examples of a test, and the loop that it lives in."""
    with asyncio.Runner() as runner:
        opened = receiver(log, SMALL)
        yield runner, runner.run(opened.__aenter__())
        runner.run(opened.__aexit__(None, None, None))


def mostly(usual: Mapping[str, str]) -> st.SearchStrategy[dict[str, str]]:
    """Draw headers: those of a version, with some of them gone or odd."""
    odd = {
        "Content-Type": st.one_of(
            st.text(st.characters(max_codepoint=255, exclude_categories=["Cc"]), max_size=40),
            st.sampled_from([one["Content-Type"] for one in HEADERS.values()]),
        ),
        "Content-Encoding": st.sampled_from(["", "gzip", "deflate", "br", "SNAPPY", "identity"]),
        "Expect": st.just("100-continue"),
    }
    return st.fixed_dictionaries({}, optional=odd).map(lambda some: {**usual, **some})


@st.composite
def meddled(draw: st.DrawFn, whole: bytes) -> bytes:
    """Draw what may become of bytes on their way."""
    for _ in range(draw(st.sampled_from([0, 0, 1, 2, 3]))):
        at = draw(st.integers(0, len(whole)))
        put = draw(st.one_of(st.binary(max_size=12), st.just(whole[at:])))
        whole = whole[:at] + put + whole[at + draw(st.integers(0, 12)) :]
    return whole


@st.composite
def bodies(draw: st.DrawFn, version: int) -> bytes:
    """Draw bodies: valid ones, meddled with at any layer, or anything at all."""
    kind = draw(st.integers(0, 5))
    if kind == 0:
        return draw(st.binary(max_size=100))
    if kind == 1:
        return varint(draw(st.integers(0, 2**66))) + draw(st.binary(max_size=60))
    draft = draw(drafts())
    if kind > 3:
        own = draw(meddled(NATIVE))
        draft = [DraftSeries(GOOD, (), histograms=(own,)), *draft]
    plain = ENCODE[version](draft)
    if version == V1 and kind == 3:
        plain += field(3, draw(meddled(b"\x08\x01\x12\x04good")))
    plain = draw(meddled(plain)) if kind != 4 else plain
    body = packed(plain)
    return draw(meddled(body)) if kind == 2 else body


@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_any_request_gets_an_answer_that_a_receiver_may_give(
    gateway: tuple[asyncio.Runner, Receiver], log: MemoryLog, data: st.DataObject
) -> None:
    runner, receiver = gateway
    version = data.draw(st.sampled_from([V1, V2]), "version")
    headers = data.draw(mostly(HEADERS[version]), "headers")
    body = data.draw(bodies(version), "body")
    method = data.draw(st.sampled_from(["POST"] * 9 + ["PUT"]), "method")
    log.partitions.clear()
    answer = runner.run(receiver.post(io.BytesIO(body), headers, method))
    assert answer.status in STATUSES
    if answer.written:
        rows = sum(len(frame.value) + len(frame.histograms.count) for frame in frames(log))
        assert rows <= sum(answer.written[:2])  # Gauge histograms are told of and left out.
    if answer.status in {405, 413, 415, 503}:
        assert not frames(log)
    fine = runner.run(receiver.draft([DraftSeries(GOOD, ((1, 1.0),))], V2))
    assert (fine.status, fine.written) == (204, (1, 0, 0))
