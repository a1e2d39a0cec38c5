"""The configuration read in a child: the same answers, and a daemon that stays small."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from ovl_linkd import config
from ovl_linkd.config import ConfigError, apart
from ovl_linkd.supervisors import birth
from tests.configurations import write
from tests.waiting import wait_until

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


def test_a_child_whose_parent_is_killed_ends(tmp_path: Path) -> None:
    """Its answer is more than a pipe holds: it waited for ever for somebody to read it."""
    lines = [f"  l{i}: {{path: /run/l/{i}, target: /srv/{i}}}" for i in range(2_000)]
    file = str(write(tmp_path / "c.yaml", "\n".join(["links:", *lines])))
    told, tell = os.pipe()
    parent = os.fork()
    if parent == 0:
        os.write(tell, str(apart.Reading(file)._child).encode())
        os.kill(os.getpid(), signal.SIGKILL)
    child = int(os.read(told, 20))
    os.waitpid(parent, 0)
    for descriptor in (told, tell):
        os.close(descriptor)
    wait_until(lambda: birth(child) is None, "the child ends")
