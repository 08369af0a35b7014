"""Configuration: one TOML file plus environment variables, checked at start.

`WATCHKEEP_GATEWAY__PORT=9300` sets `gateway.port` and beats the file. With `_FILE` appended, the
value is read from the file that is named, as secrets are handed to containers. Lists are parted by
spaces. Whatever is wrong is told in one line: where, which key, what to do.
"""

import difflib
import json
import os
import re
import tomllib
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, Final, get_args

from pydantic import BaseModel, SecretStr, ValidationError
from pydantic_core import ErrorDetails

from watchkeep.schemas.errors import ConfigError
from watchkeep.schemas.settings import Settings

DEFAULT_FILE: Final = Path("watchkeep.toml")
CONFIG_VARIABLE: Final = "WATCHKEEP_CONFIG"
_PREFIX: Final = "WATCHKEEP_"
RUNNING_VARIABLE: Final = "WATCHKEEP_RUNNING"
_NO_SETTINGS: Final = (
    CONFIG_VARIABLE,
    RUNNING_VARIABLE,
    "WATCHKEEP_PLAIN",
    "WATCHKEEP_TEST_",
    "WATCHKEEP_PARTS",
)
_LISTS: Final = frozenset(
    {"notify.urls", "gateway.replica_labels", "gateway.pair_labels", "detect.river.signals"}
)
# Wrong values of these keys are not repeated, nor those of keys within them.
_SECRETS: Final = ("database.url", "notify.urls", "gateway.auth", "gateway.senders")

Values = dict[str, Any]


def load(path: Path | None = None) -> Settings:
    """Read and check the settings.

    A stage that `up` starts reads the settings that `up` has checked and completed.

    Args:
        path: the file; None takes the one that WATCHKEEP_CONFIG names, else `watchkeep.toml` in
            the working directory if there is one, else the defaults.

    Raises:
        ConfigError: in one line, what is wrong, where, and what to do.
    """
    if RUNNING_VARIABLE in os.environ:
        return Settings.model_validate_json(Path(os.environ[RUNNING_VARIABLE]).read_text())
    file, text = _read(path)
    try:
        values = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{file}: this is no TOML: {error}") from error
    variables = _variables()
    for key, (_, value) in variables.items():
        _put(values, key.split("."), value)
    try:
        return Settings.model_validate(values)
    except ValidationError as error:
        first = error.errors()[0]
        where = _where(_key(first["loc"]), file, text, variables)
        raise ConfigError(f"{where}: {_what(first)}") from error


def _read(path: Path | None) -> tuple[Path, str]:
    if path is None and CONFIG_VARIABLE in os.environ:
        path = Path(os.environ[CONFIG_VARIABLE])
    if path is None and not DEFAULT_FILE.exists():
        return DEFAULT_FILE, ""
    file = path or DEFAULT_FILE
    try:
        return file, file.read_text()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{file}: the configuration can't be read: {error}") from error


def _variables() -> dict[str, tuple[str, str | list[str]]]:
    """Read the environment: by key, the variable's name and its value."""
    known = {_PREFIX + key.replace(".", "__").upper(): key for key in keys(Settings)}
    found: dict[str, tuple[str, str | list[str]]] = {}
    for name, text in sorted(os.environ.items()):
        if not name.startswith(_PREFIX) or name.startswith(_NO_SETTINGS):
            continue
        key = known.get(name)
        value = text
        if key is None and name.endswith("_FILE") and name.removesuffix("_FILE") in known:
            key, value = known[name.removesuffix("_FILE")], _secret(name, text)
        if key is None:
            raise ConfigError(f"{name}: no setting has this name{_near(name, known)}")
        found[key] = (name, value.split() if key in _LISTS else value)
    return found


def _secret(name: str, path: str) -> str:
    try:
        return Path(path).read_text().strip()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{name}: the file can't be read: {error}") from error


def keys(model: type[BaseModel], prefix: str = "") -> Iterator[str]:
    """List every key of the settings, with its section: ``gateway.port``."""
    for name, field in model.model_fields.items():
        inner = field.annotation
        if isinstance(inner, type) and issubclass(inner, BaseModel):
            yield from keys(inner, f"{prefix}{name}.")
        else:
            yield prefix + name


def _put(values: Values, path: list[str], value: object) -> None:
    *sections, name = path
    for section in sections:
        inner = values.setdefault(section, {})
        if not isinstance(inner, dict):
            return  # The check says that the file has a value where a table belongs.
        values = inner
    values[name] = value


def _key(loc: tuple[int | str, ...]) -> str:
    parts = [f"[{part}]" if isinstance(part, int) else f".{part}" for part in loc]
    return "".join(parts).removeprefix(".")


def _where(
    key: str, file: Path, text: str, variables: Mapping[str, tuple[str, str | list[str]]]
) -> str:
    """Name the place: the variable, or the line of the file, and the key."""
    bare = re.sub(r"\[\d+\].*", "", key)
    if bare in variables:
        return f"{variables[bare][0]} ({key})"
    line = _line_in_table(key, text) or _line_of(bare, text)
    return f"{file}:{line}: {key}" if line else f"{file}: {key}"


def _line_in_table(key: str, text: str) -> int | None:
    """Find the line of a key in one of several tables with one name: ``detect.rules[1].role``."""
    if not (found := re.match(r"([\w.]+)\[(\d+)\](?:\.(\w+))?", key)):
        return None
    table, at, name = found.group(1), int(found.group(2)), found.group(3)
    seen, begin = -1, None
    for number, line in enumerate(text.splitlines(), 1):
        if (header := _header(line)) is not None:
            seen += header == table
            if seen == at and header in {table, f"{table}.{name}"}:
                begin = number
        elif seen == at and begin and name and re.match(rf"\s*{name}\s*[.=]", line):
            return number
    return begin


def _header(line: str) -> str | None:
    found = re.match(r"\s*\[\[?\s*([\w.\-\s]+?)\s*\]", line)
    return found.group(1).replace(" ", "") if found else None


def _line_of(key: str, text: str) -> int | None:
    """Find the line where a key is set; tomllib doesn't tell."""
    section = ""
    for number, line in enumerate(text.splitlines(), 1):
        if (header := _header(line)) is not None:
            section = header + "."
            if header == key:
                return number
        elif (name := re.match(r"\s*([\w.\-]+)\s*=", line)) and section + name.group(1) == key:
            return number
    return None


def _what(error: ErrorDetails) -> str:
    """Say what is wrong with a value; never the value itself where it may be a secret."""
    key = _key(error["loc"])
    if error["type"] == "extra_forbidden":
        name = error["loc"][-1]
        if own := _fields(error["loc"]):
            return f"no such key in a rule{_near(str(name), own)}"
        return f"no setting has this name{_near(key, [*keys(Settings), *Settings.model_fields])}"
    if error["type"] == "string_pattern_mismatch":
        return f"should be {_description(key)}, it is {error['input']!r}"
    what = error["msg"].removeprefix("Value error, ").removeprefix("Input ")
    if error["type"] == "tuple_type":
        what = 'should be a list, as ["a", "b"]'
    given = error["input"]
    if isinstance(given, str | int | float) and not key.startswith(_SECRETS):
        return f"{what}, it is {given!r}"
    return what


def _fields(loc: tuple[int | str, ...]) -> list[str]:
    """List the keys of the rule that a place is in; none outside of rules."""
    model: type[BaseModel] = Settings
    for part in loc[:-1]:
        if isinstance(part, int):
            continue
        inner = model.model_fields[part].annotation if part in model.model_fields else None
        inner = next(iter(get_args(inner)), inner)
        if not (isinstance(inner, type) and issubclass(inner, BaseModel)):
            return []
        model = inner
    return list(model.model_fields) if any(isinstance(part, int) for part in loc) else []


def _description(key: str) -> str:
    section, _, name = key.partition(".")
    model = Settings.model_fields[section].annotation
    assert isinstance(model, type)
    assert issubclass(model, BaseModel)
    return model.model_fields[name].description or name


def _near(name: str, known: Iterable[str]) -> str:
    close = difflib.get_close_matches(name, list(known), n=1)
    return f"; did you mean {close[0]}?" if close else "; `watchkeep config show` lists them"


def show(settings: Settings) -> str:
    """Write the settings as TOML, secrets masked, each key with what it is for."""
    lines = ["# The settings in force. Secrets are masked."]
    sections: list[tuple[str, BaseModel]] = []
    for name, value in settings:
        if isinstance(value, BaseModel):
            sections.append((name, value))
        else:
            lines.extend(_shown(settings, name, value))
    for section, model in sections:
        lines.extend(_table(section, model))
    return "\n".join(lines) + "\n"


def _table(section: str, model: BaseModel) -> list[str]:
    lines = ["", f"[{section}]"]
    tables = [(name, value) for name, value in model if isinstance(value, BaseModel)]
    for name, value in model:
        if not isinstance(value, BaseModel):
            lines.extend(_shown(model, name, value))
    return lines + [line for name, inner in tables for line in _table(f"{section}.{name}", inner)]


def _shown(model: BaseModel, name: str, value: object) -> list[str]:
    field = type(model).model_fields[name]
    lines = [f"# {field.description}"] if field.description else []
    if isinstance(value, tuple) and value and isinstance(value[0], BaseModel):
        mark = "defaults" if value == field.default else "from the file"
        return [*lines, f"# {name}: {len(value)} rules ({mark})"]
    return [*lines, f"{name} = {_toml(value)}"]


def _toml(value: object) -> str:
    if isinstance(value, SecretStr):
        return json.dumps("********" if value.get_secret_value() else "")
    if isinstance(value, dict):
        return "{" + ", ".join(f"{_toml(key)} = {_toml(item)}" for key, item in value.items()) + "}"
    if isinstance(value, tuple | list):
        return "[" + ", ".join(_toml(item) for item in value) + "]"
    return json.dumps(str(value) if isinstance(value, Path) else value, ensure_ascii=False)
