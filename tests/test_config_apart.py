"""The configuration read in a child: the same answers, and a daemon that stays small."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from ovl_linkd import config
from ovl_linkd.config import ConfigError, apart
from tests.configurations import write

DAEMON = Path(__file__).parent.parent / "daemon"


class Unwritable:
    """What JSON can't hold: the child stops in the middle of its answer."""


def test_the_child_says_what_load_says(tmp_path: Path) -> None:
    lines = [f"  l{i}: {{path: /run/l/{i}, target: /srv/é/{i}}}" for i in range(2_000)]
    text = "\n".join(["farm: {path: /run/f, keep: 1500ms}", "links:", *lines])
    file = str(write(tmp_path / "c.yaml", text))
    assert apart.load(file) == config.load(file)


def test_errors_come_through_whole(tmp_path: Path) -> None:
    file = str(write(tmp_path / "c.yaml", "fram: 1\nlinks: {é: 5}\n"))
    with pytest.raises(ConfigError) as wanted:
        config.load(file)
    with pytest.raises(ConfigError) as seen:
        apart.load(file)
    assert seen.value.problems == wanted.value.problems


@pytest.mark.parametrize(
    ("fault", "said"),
    [
        (lambda: os.kill(os.getpid(), signal.SIGKILL), "the process that reads it ended with -9"),
        (Unwritable, "the process that reads it ended with 1"),
        (lambda: __import__("ovl_linkd.none"), "ModuleNotFoundError: No module named"),
    ],
    ids=["killed", "half an answer", "library gone"],
)
def test_a_child_that_fails_is_an_error_of_the_reload_alone(
    monkeypatch: pytest.MonkeyPatch, fault: object, said: str
) -> None:
    """After half an upgrade the daemon must go on with the configuration that it has."""
    monkeypatch.setattr(config, "load", lambda _: fault())  # type: ignore[operator]
    with pytest.raises(ConfigError, match=said):
        apart.load(None)


def test_the_libraries_stay_out_of_the_parent(tmp_path: Path) -> None:
    file = str(write(tmp_path / "c.yaml", ""))
    code = (
        "import sys; from ovl_linkd.config import apart;"
        f"apart.load({file!r});"
        "print(sorted({'yaml', 'jsonschema', 'attr', 'rpds', 'urllib'} & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code],
        env={"PYTHONPATH": str(DAEMON), "PYTHONDONTWRITEBYTECODE": "1"},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert (done.stdout, done.stderr) == ("[]\n", "")
