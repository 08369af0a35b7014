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


@pytest.mark.parametrize(
    ("rarity", "known_h", "told"),
    [
        (0.0, 24, "seen about once a week"),
        (1.1, 24, "not seen in the 24 h known"),
        (1.1, 96, "not seen in the 4 days known"),
        (1.1, 240, "seen about once in 3 months"),
        (-0.6, 6, "seen about 4 times a week"),
        (0.0, 6, "not seen in the 6 h known"),
    ],
)
def test_a_short_past_tells_of_itself_and_not_of_years(
    rarity: float, known_h: int, told: str
) -> None:
    assert how_often(rarity, known_h * 3_600_000) == told
