"""The file of a recording: what is written comes back, also from a file that was cut off."""

from pathlib import Path

import pytest

import rest_record
from rest_record import Stretch


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "recording"


def test_each_shards_records_come_back_in_order(path: Path) -> None:
    """Blocks join what belongs to a shard; bytes are kept as they are."""
    rest_record.append(path, [(3, b"one"), (63, b""), (3, bytes(range(256)))])
    rest_record.append(path, [(0, b"four"), (3, b"five")])
    frames = rest_record.load(path).frames
    assert dict(frames) == {3: [b"one", bytes(range(256)), b"five"], 63: [b""], 0: [b"four"]}


def test_nothing_to_write_makes_no_block(path: Path) -> None:
    rest_record.append(path, [(1, b"x")])
    size = path.stat().st_size
    rest_record.append(path, [])
    assert path.stat().st_size == size


def test_a_stretch_is_noted_when_it_begins_and_again_when_it_ends(path: Path) -> None:
    """One that hasn't ended is there without an end; they come by begin."""
    load = Stretch("load", 2_000, 3_000, "8 busy loops")
    rest_record.append(path, [rest_record.note(load._replace(end_ms=0, facts=""))])
    rest_record.append(path, [rest_record.note(Stretch("rest", 1_000, 2_000))])
    rest_record.append(path, [rest_record.note(load), (5, b"x")])
    rest_record.append(path, [rest_record.note(Stretch("load", 4_000, 0))])
    assert rest_record.load(path).stretches == [
        Stretch("rest", 1_000, 2_000),
        load,
        Stretch("load", 4_000, 0),
    ]


def test_a_file_may_be_cut_anywhere(path: Path) -> None:
    """What was written before the last block is there all the same."""
    rest_record.append(path, [(1, b"first"), rest_record.note(Stretch("rest", 1, 0))])
    whole = path.stat().st_size
    rest_record.append(path, [(1, b"second")])
    data = path.read_bytes()
    for end in range(whole, len(data)):
        path.write_bytes(data[:end])
        recording = rest_record.load(path)
        assert recording.frames[1] == [b"first"]
        assert recording.stretches == [Stretch("rest", 1, 0)]
