"""What scenarios share."""

from collections.abc import Iterator

import pytest

from detect_runs import quick_bank
from watchkeep.streams import pipeline


@pytest.fixture
def quickly_warm_here(monkeypatch: pytest.MonkeyPatch) -> None:
    """Do as `quickly_warm`, for one test."""
    monkeypatch.setattr(pipeline, "Bank", quick_bank)


@pytest.fixture(scope="module")
def quickly_warm() -> Iterator[None]:
    """Let detect be warm after a few cells, where its past isn't what is tested."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pipeline, "Bank", quick_bank)
        yield
