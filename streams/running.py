"""The file `run.json`: what `up` tells its stages, and other commands, while it runs.

It holds the settings with the addresses of the embedded servers filled in, and so their secrets:
only its owner may read it, and it goes when `up` ends.
"""

import fcntl
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pydantic import SecretStr

from watchkeep.schemas.errors import ConfigError
from watchkeep.schemas.settings import Settings


def folder(settings: Settings) -> Path:
    """Tell the folder where Watchkeep keeps its files."""
    return settings.data_dir.expanduser().absolute()


@contextmanager
def sole_owner(settings: Settings) -> Iterator[None]:
    """Keep a second `up` off the same folder.

    Raises:
        ConfigError: another one runs there, or the folder can't be written.
    """
    home = folder(settings)
    try:
        home.mkdir(parents=True, exist_ok=True)
        lock = (home / "lock").open("w")
    except OSError as error:
        raise ConfigError(f"data_dir: {home} can't be written: {error.strerror}") from error
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise ConfigError(
                f"data_dir: another `watchkeep up` runs on {home}; stop it, or set another data_dir"
            ) from error
        yield


@contextmanager
def announced(settings: Settings) -> Iterator[Path]:
    """Write `run.json`, and remove it at the end."""
    path = folder(settings) / "run.json"
    path.unlink(missing_ok=True)
    with open(os.open(path, os.O_WRONLY | os.O_CREAT, 0o600), "w") as file:  # noqa: PTH123 - It needs the mode.
        json.dump(settings.model_dump(), file, default=_plain)
    try:
        yield path
    finally:
        path.unlink(missing_ok=True)


def _plain(value: object) -> str:
    if isinstance(value, SecretStr):
        return value.get_secret_value()
    return str(value)


def resolved(settings: Settings) -> Settings:
    """Fill in the addresses of the embedded servers from a running `up`.

    Raises:
        ConfigError: they are needed and no `up` runs here.
    """
    if settings.broker.bootstrap and settings.database.url.get_secret_value():
        return settings
    path = folder(settings) / "run.json"
    if not path.exists():
        key = "database.url" if settings.broker.bootstrap else "broker.bootstrap"
        raise ConfigError(
            f"{key} is empty and no `watchkeep up` runs on {path.parent}; start it, or set {key}"
        )
    there = Settings.model_validate_json(path.read_text())
    return settings.model_copy(
        update={
            "broker": settings.broker if settings.broker.bootstrap else there.broker,
            "database": (
                settings.database if settings.database.url.get_secret_value() else there.database
            ),
        }
    )


def settings_of_up(settings: Settings) -> Settings | None:
    """Read what a running `up` runs with; None where there is none."""
    path = folder(settings) / "run.json"
    return Settings.model_validate_json(path.read_text()) if path.exists() else None
