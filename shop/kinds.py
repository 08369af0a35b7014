"""Fault kinds: TOML files, shipped in `faults/` or from a folder of one's own.

`docs/faults.md` teaches how to write one. A file is checked when it is read: a wrong key, type or
value is told with the file, and where in it.
"""

import tomllib
from collections.abc import Mapping
from enum import StrEnum
from importlib.resources import files
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Annotated, Final, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from watchkeep.schemas.errors import ConfigError


class Dial(StrEnum):
    """What an effect turns. Factors are 1 when nothing happens, all others 0."""

    TRAFFIC = "traffic"
    LATENCY = "latency"
    LATENCY_S = "latency_s"
    ERRORS = "errors"
    CPU = "cpu"
    CPU_CORES = "cpu_cores"
    MEMORY = "memory"
    DISK = "disk"
    PACKET_LOSS = "packet_loss"
    CONSUMERS = "consumers"
    UNREADY = "unready"
    RESTARTS = "restarts"
    CERTIFICATE = "certificate"


FACTORS: Final = frozenset({Dial.TRAFFIC, Dial.LATENCY, Dial.CPU, Dial.DISK, Dial.CONSUMERS})


class Target(StrEnum):
    """What a fault strikes."""

    USERS = "users"
    SERVICE = "service"
    POD = "pod"
    NODE = "node"
    EDGE = "edge"


class Shape(StrEnum):
    """How an effect goes over its time."""

    STEP = "step"
    RAMP = "ramp"
    HUMP = "hump"
    SAW = "saw"
    SPIKES = "spikes"


_SHARES: Final = frozenset({Dial.ERRORS, Dial.UNREADY, Dial.PACKET_LOSS, Dial.CERTIFICATE})
_WHOLE: Final = frozenset({Dial.TRAFFIC, Dial.CONSUMERS, Dial.CERTIFICATE})
_OF: Final[Mapping[Target, frozenset[Dial]]] = {
    Target.USERS: frozenset({Dial.TRAFFIC}),
    Target.SERVICE: frozenset(Dial) - {Dial.DISK},
    Target.POD: frozenset(Dial) - {Dial.DISK} - _WHOLE,
    Target.NODE: frozenset({Dial.CPU_CORES, Dial.DISK, Dial.PACKET_LOSS, Dial.LATENCY}),
    Target.EDGE: frozenset({Dial.LATENCY_S, Dial.ERRORS}),
}

Minutes = tuple[Annotated[float, Field(ge=1)], Annotated[float, Field(le=14 * 24 * 60)]]


class _Strict(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class Effect(_Strict):
    """One thing that a fault does."""

    what: Dial
    size: float = Field(ge=0)
    shape: Shape = Shape.STEP
    begins: float = Field(default=0.0, ge=0, lt=1)
    ends: float = Field(default=1.0, gt=0, le=1)
    every_minutes: float = Field(default=5.0, ge=1)
    knock_on: float = Field(default=1.0, ge=0, le=1)

    @model_validator(mode="after")
    def _in_order(self) -> Self:
        if self.begins >= self.ends:
            raise ValueError("begins must be before ends (both are shares of the length)")
        if self.what in _SHARES and self.size > 1:
            raise ValueError(f"the size of {self.what} is a share from 0 to 1")
        if self.what is Dial.RESTARTS and self.size > 60:
            raise ValueError("a container restarts at most 60 times an hour")
        return self


class Kind(_Strict):
    """One kind of fault, or of what only looks like one.

    Attributes:
        name: the file's name without .toml.
        fault: False for what nobody should be paged about.
        among: the workloads (of an edge: the callees) that it may strike; empty for all that fit.
        change: what is rolled out when it begins.
    """

    name: str
    title: str = Field(min_length=1, max_length=120)
    fault: bool = True
    target: Target
    among: tuple[str, ...] = ()
    minutes: Minutes = (20, 40)
    change: Literal["none", "deploy", "config", "restart"] = "none"
    effects: tuple[Effect, ...] = ()

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if self.minutes[0] > self.minutes[1]:
            raise ValueError("minutes are the shortest and the longest length, in this order")
        for effect in self.effects:
            if effect.what not in _OF[self.target]:
                able = ", ".join(sorted(_OF[self.target]))
                raise ValueError(f"a target {self.target} has no dial {effect.what}; it has {able}")
        if not self.effects and self.change == "none":
            raise ValueError("it does nothing: give it effects, or a change")
        if self.change != "none" and self.target in {Target.USERS, Target.NODE}:
            raise ValueError(f"a target {self.target} has no change: that is for workloads")
        if self.among and self.target in {Target.USERS, Target.NODE}:
            raise ValueError(f"a target {self.target} has no among: that is for workloads")
        return self


def shipped() -> dict[str, Kind]:
    """Read the kinds that Watchkeep ships."""
    return _read(files("watchkeep.shop") / "faults")


def read(folder: Path) -> dict[str, Kind]:
    """Read the kinds of a folder.

    Raises:
        ConfigError: there is no such folder, no file in it, or one is wrong.
    """
    if not folder.is_dir():
        raise ConfigError(f"--faults: {folder} is no folder")
    kinds = _read(folder)
    if not kinds:
        raise ConfigError(f"--faults: {folder} has no .toml file")
    return kinds


def _read(folder: Traversable) -> dict[str, Kind]:
    paths = sorted((p for p in folder.iterdir() if p.name.endswith(".toml")), key=lambda p: p.name)
    return {path.name.removesuffix(".toml"): _kind(path) for path in paths}


def _kind(path: Traversable) -> Kind:
    name = path.name.removesuffix(".toml")
    try:
        given = tomllib.loads(path.read_text(encoding="utf-8"))
        if "name" in given:
            raise ConfigError(f"{path}: name: a kind is called as its file; leave the name out")
        return Kind.model_validate({**given, "name": name})
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: this is no TOML: {error}") from error
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"]) or "the whole"
        raise ConfigError(
            f"{path}: {where}: {first['msg'].removeprefix('Value error, ')}"
        ) from None
