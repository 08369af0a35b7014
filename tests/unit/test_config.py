"""A wrong setting is one line that names the place, the key and what to do."""

from pathlib import Path

import pytest

from watchkeep.notifiers.apprise_sender import receivers
from watchkeep.schemas.errors import ConfigError
from watchkeep.schemas.settings import Settings
from watchkeep.streams.config import keys, load, show

RULE = """[[detect.rules]]
why = "My queue's depth may page."
when = { __name__ = "jobs_waiting" }
# What follows is wrong.
"""
GOOD = RULE + "drop = true\n"
BROKEN = """[[detect.rules]]
why = "x"
when.job = "("
drop = true"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "watchkeep.toml"


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("[detect]\nstep = 5", ":2: detect.step: no setting has this name; did you mean detect.st"),
        ("\n\n[detekt]\n", ":3: detekt: no setting has this name; did you mean detect"),
        ('[gateway]\n# x\nport = "x"', ":3: gateway.port: should be a valid integer"),
        ("gateway.port = 70000", ":1: gateway.port: should be less than or equal to 65535"),
        ("[detect]\nstep_s = 0", ":2: detect.step_s: should be greater than or equal to 1, it is"),
        ('[broker]\nbootstrap = "kafka"', ":2: broker.bootstrap: should be host:port"),
        ('clock = "event time"', ":1: clock: should be 'wall' or 'event'"),
        ("[gateway\nport = 1", ": this is no TOML: "),
        ('[[entities.rules]]\nkind = "job"\nwhen = { a = "(" }\nname = ["a"]', "no regular expr"),
        (GOOD + RULE + 'role = "pager"', ":10: detect.rules[1].role: should be 'page' or 'evid"),
        (GOOD + RULE + 'rol = "page"', ":10: detect.rules[1].rol: no such key in a rule; did you "),
        (
            GOOD + RULE,
            ":6: detect.rules[1]: it decides nothing; set role, side, keep, drop, step_s or",
        ),
        (RULE + "step_s = 7", ":5: detect.rules[0].step_s: should be greater than or equal to 10"),
        (RULE + "step_s = 70", ":1: detect.rules[0]: step_s must divide an hour, and 70 doesn't"),
        (RULE + "[detect.rules.when]\nx = 1", ": this is no TOML"),
        (BROKEN, ":3: detect.rules[0].when.job: '(' is no regular expression: missing ), unterm"),
    ],
)
def test_a_mistake_in_the_file_is_told_with_its_line(file: Path, text: str, told: str) -> None:
    file.write_text(text)
    with pytest.raises(ConfigError) as refused:
        load(file)
    assert told in str(refused.value)
    assert str(refused.value).startswith(str(file))
    assert "\n" not in str(refused.value)


def test_a_variable_beats_the_file(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file.write_text("[gateway]\nport = 9000\nhost = '0.0.0.0'")
    monkeypatch.setenv("WATCHKEEP_GATEWAY__PORT", "9001")
    monkeypatch.setenv("WATCHKEEP_NOTIFY__URLS", "json://a/ json://b/")
    settings = load(file)
    assert (settings.gateway.host, settings.gateway.port) == ("0.0.0.0", 9001)
    assert [url.get_secret_value() for url in settings.notify.urls] == ["json://a/", "json://b/"]


@pytest.mark.parametrize(
    ("name", "value", "told"),
    [
        ("WATCHKEEP_GATEWAY__PROT", "1", "did you mean WATCHKEEP_GATEWAY__PORT?"),
        ("WATCHKEEP_GATEWAY__PORT", "x", "WATCHKEEP_GATEWAY__PORT (gateway.port): should be"),
        ("WATCHKEEP_DATABASE__URL_FILE", "/no/such/file", "the file can't be read"),
        ("WATCHKEEP_CONFIG", "/no/such/file", "the configuration can't be read"),
    ],
)
def test_a_mistake_in_the_environment_is_told_with_its_name(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str, told: str
) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(ConfigError) as refused:
        load()
    assert told in str(refused.value)


@pytest.mark.parametrize("name", ["WATCHKEEP_TEST_DATABASE_URL", "WATCHKEEP_PARTS"])
def test_what_the_tests_read_is_no_setting(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    before = load()
    monkeypatch.setenv(name, "x")
    assert load() == before


def test_a_secret_is_read_from_a_file_and_never_shown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "url").write_text("postgresql://u:hunter2@h/d\n")
    monkeypatch.setenv("WATCHKEEP_DATABASE__URL_FILE", str(tmp_path / "url"))
    settings = load()
    assert settings.database.url.get_secret_value() == "postgresql://u:hunter2@h/d"
    assert "hunter2" not in show(settings)
    assert "hunter2" not in repr(settings)


def test_every_key_is_shown_with_what_it_is_for_and_read_back(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("WATCHKEEP_MONITOR__PORT")
    text = show(Settings())
    file.write_text(text)
    assert load(file) == Settings()
    for key in keys(Settings):
        name = key.rpartition(".")[2]
        assert f"{name} = " in text or f"# {name}: " in text
    assert all(
        before.startswith("#")
        for before, line in zip(text.splitlines(), text.splitlines()[1:], strict=False)
        if " = " in line and not line.startswith("#")
    )


@pytest.mark.parametrize("url", ["nonsense", "jsn://user:hunter2@host/", "mailto://"])
def test_a_url_that_apprise_cannot_use_is_told_without_its_secrets(file: Path, url: str) -> None:
    file.write_text(f'[notify]\nurls = ["json://127.0.0.1/", "{url}"]')
    urls = load(file).notify.urls
    with pytest.raises(ConfigError, match=r"^notify\.urls\[1\]: ") as refused:
        receivers(urls, 1.0)
    assert "hunter2" not in str(refused.value)
