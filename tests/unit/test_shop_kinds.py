"""Kinds of faults are read from a folder, and what is wrong in one is told."""

import re
from pathlib import Path

import numpy as np
import pytest

from watchkeep.schemas.errors import ConfigError
from watchkeep.shop.blueprint import FULL
from watchkeep.shop.kinds import Dial, Effect, Kind, Shape, Target, read
from watchkeep.shop.model import Shop
from watchkeep.shop.strikes import Strike, course, require, turned
from watchkeep.shop.times import MINUTE_MS

GOOD = """
title = "Requests fail"
target = "service"
effects = [{ what = "errors", size = 0.2 }]
"""


def written(folder: Path, text: str) -> Path:
    (folder / "mine.toml").write_text(text)
    return folder


def test_a_kind_of_ones_own_strikes_the_shop(tmp_path: Path) -> None:
    kinds = read(written(tmp_path, GOOD + 'among = ["cart"]\nminutes = [10, 12]\n'))
    require(kinds, FULL)
    shop = Shop(1, 0.25, kinds=kinds)
    assert {(strike.kind.name, strike.where) for strike in shop.strikes} == {("mine", "cart")}
    lengths = [strike.end_ms - strike.onset_ms for strike in shop.strikes]
    assert all(10 * MINUTE_MS <= length <= 12 * MINUTE_MS for length in lengths)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("title = ", "this is no TOML"),
        ('title = "x"\n', "target: Field required"),
        (GOOD + 'colour = "red"\n', "colour: Extra inputs are not permitted"),
        (GOOD + 'name = "other"\n', "a kind is called as its file"),
        (GOOD.replace("errors", "error"), "effects.0.what: Input should be 'traffic'"),
        (GOOD.replace("0.2", "1.2"), "the size of errors is a share from 0 to 1"),
        (GOOD.replace("0.2", "-1"), "effects.0.size: Input should be greater than"),
        (GOOD.replace("0.2", '"big"'), "effects.0.size: Input should be a valid number"),
        (GOOD.replace("0.2 ", '0.2, shape = "wave" '), "effects.0.shape: Input should be 'step'"),
        (GOOD.replace("0.2 ", "0.2, begins = 0.5, ends = 0.5 "), "begins must be before ends"),
        (GOOD.replace('"service"', '"node"'), "a target node has no dial errors; it has cpu_cores"),
        (GOOD.replace('"service"', '"planet"'), "target: Input should be 'users'"),
        (GOOD + "minutes = [40, 20]\n", "the shortest and the longest"),
        ('title = "x"\ntarget = "service"\n', "it does nothing"),
        ('title = "x"\ntarget = "node"\nchange = "deploy"\n', "a target node has no change"),
        (
            'title = "x"\ntarget = "service"\n[[effects]]\nwhat = "restarts"\nsize = 90\n',
            "60 times",
        ),
    ],
)
def test_what_is_wrong_in_a_file_is_told_with_its_place(
    tmp_path: Path, text: str, told: str
) -> None:
    with pytest.raises(ConfigError) as caught:
        read(written(tmp_path, text))
    assert "mine.toml" in str(caught.value)
    assert told in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_folder_without_kinds_is_told(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"has no \.toml file"):
        read(tmp_path)
    with pytest.raises(ConfigError, match="is no folder"):
        read(tmp_path / "nothing")


def test_a_kind_that_has_nothing_to_strike_is_told(tmp_path: Path) -> None:
    kinds = read(written(tmp_path, GOOD + 'among = ["carts"]\n'))
    with pytest.raises(ConfigError, match="nothing to strike; the workloads are frontend, "):
        require(kinds, FULL)


@pytest.mark.parametrize(
    ("shape", "expected"),
    [
        ("step", [0, 1, 1, 1, 1, 0]),
        ("ramp", [0, 0, 0.25, 0.5, 0.75, 0]),
        ("hump", [0, 0, 0.5, 1, 0.5, 0]),
        ("saw", [0, 0, 0.5, 0, 0.5, 0]),
        ("spikes", [0, 1, 0, 1, 0, 0]),
    ],
)
def test_shapes_go_as_they_are_said_to(shape: str, expected: list[float]) -> None:
    effect = Effect.model_validate(
        {"what": "latency", "size": 3, "shape": shape, "every_minutes": 20}
    )
    kind = Kind(name="x", title="x", target="service", effects=(effect,))
    strike = Strike(kind, "cart", 0, 40 * MINUTE_MS)
    times = np.arange(-10, 50, 10) * MINUTE_MS
    strength = course(strike, effect, times)
    assert strength == pytest.approx(expected)
    assert turned(effect, strength) == pytest.approx([1 + 2 * s for s in expected])


def test_the_examples_of_the_docs_work_and_every_word_is_taught(tmp_path: Path) -> None:
    docs = (Path(__file__).parents[2] / "docs" / "faults.md").read_text()
    examples = re.findall(r"```toml\n(.+?)```", docs, re.DOTALL)
    assert len(examples) == 3
    for i, text in enumerate(examples):
        (tmp_path / f"example-{i}.toml").write_text(text)
    kinds = read(tmp_path)
    require(kinds, FULL)
    words = [*Dial, *Target, *Shape, *Kind.model_fields, *Effect.model_fields]
    assert not [
        word
        for word in words
        if word != "name" and f"`{word}`" not in docs and f'`"{word}"`' not in docs
    ]
