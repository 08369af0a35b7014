"""Rarities in words."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from watchkeep.schemas.text import how_often


@pytest.mark.parametrize(
    ("rarity", "told"),
    [
        (-4.0, "nothing unusual"),
        (-1.0, "seen about 10 times a week"),
        (-0.3, "seen about 2 times a week"),
        (0.0, "seen about once a week"),
        (0.5, "seen about once in 3 weeks"),
        (1.1, "seen about once in 3 months"),
        (1.9, "seen about once in 2 years"),
        (2.5, "seen about once in 6 years"),
        (3.0, "seen less than once in 10 years"),
    ],
)
def test_rarities_are_told_in_words(rarity: float, told: str) -> None:
    assert how_often(rarity) == told


@given(st.floats(-9, 9))
def test_every_rarity_has_words(rarity: float) -> None:
    told = how_often(rarity)
    assert told == "nothing unusual" or told.startswith("seen ")
    assert " 1 " not in told
    assert " 0 " not in told
