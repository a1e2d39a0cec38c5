"""The entry point: one table, usage errors, and what a person sees of an error."""

import os
import signal
import subprocess
from types import ModuleType

import pytest

from ovl_linkd import __version__, cli
from ovl_linkd.errors import UserError
from ovl_linkd.text import printable
from tests.daemon.world import ENVIRONMENT, PYTHON, command


def test_no_command_is_a_usage_error_that_helps() -> None:
    run = command()
    assert run.returncode == 2
    for name in cli.COMMANDS:
        assert f"  {name} " in run.stdout


@pytest.mark.parametrize("word", ["-h", "--help", "help"])
def test_help_lists_every_command(word: str) -> None:
    run = command(word)
    assert (run.returncode, run.stderr) == (0, "")
    for name, summary in cli.COMMANDS.items():
        assert f"{name:<9} {summary}" in run.stdout


@pytest.mark.parametrize("word", ["-V", "--version"])
def test_the_version_is_told(word: str) -> None:
    run = command(word)
    assert (run.returncode, run.stdout) == (0, f"ovl-linkd {__version__}\n")


@pytest.mark.parametrize("name", cli.COMMANDS)
def test_every_command_helps_and_takes_a_configuration(
    name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as caught:
        cli.main([name, "--help"])
    assert caught.value.code == 0
    said = capsys.readouterr().out
    assert said.startswith(f"usage: ovl-linkd {name}")
    assert "--config FILE" in said


@pytest.mark.parametrize(
    ("wrong", "hint"),
    [
        ("staus", "did you mean status?"),
        ("xyzzy", "--help lists them"),
        ("", "--help lists them"),
        ("--config", "the command comes first"),
        ("sta\x1b[31mus", "did you mean status?"),
    ],
)
def test_an_unknown_command_is_met_with_the_nearest(
    wrong: str, hint: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main([wrong]) == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert printable(wrong) in said.err
    assert hint in said.err


@pytest.mark.parametrize("name", cli.COMMANDS)
def test_an_unknown_option_is_a_usage_error(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        cli.main([name, "--nonsense"])
    assert caught.value.code == 2
    assert "--nonsense" in capsys.readouterr().err


@pytest.mark.parametrize("name", cli.COMMANDS)
def test_a_file_without_a_name_is_a_usage_error(
    name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """`--config "$FILE"`, and there is no FILE: some took that for the standard configuration."""
    with pytest.raises(SystemExit) as caught:
        cli.main([name, "--config", ""])
    assert caught.value.code == 2
    assert "--config: an empty name" in capsys.readouterr().err


@pytest.fixture
def failing(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """A command that fails as a test wants it to, in the place of `check`."""
    from ovl_linkd.commands import check

    monkeypatch.setattr(check, "run", lambda _: None)
    return check


def test_a_user_s_error_is_its_lines_and_a_hint(
    failing: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def run(_: object) -> int:
        raise UserError("one\x1b[31m\ntwo\udcff", "do that", 4)

    monkeypatch.setattr(failing, "run", run)
    assert cli.main(["check"]) == 4
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err == (
        "ovl-linkd check: one\\x1b[31m\novl-linkd check: two\\xff\n  hint: do that\n"
    )


def test_an_interrupt_is_no_traceback(
    failing: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def run(_: object) -> int:
        raise KeyboardInterrupt

    monkeypatch.setattr(failing, "run", run)
    assert cli.main(["check"]) == 128 + signal.SIGINT
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("words", [["rewrite", "lowerdir="], ["xyzzy"], ["check", "--nonsense"]])
def test_complaints_never_get_among_the_results(words: list[str]) -> None:
    """`ovl-linkd rewrite ... 2>&- | sh` would run them."""
    run = subprocess.run(
        ["/bin/sh", "-c", 'exec "$@" 2>&-', "sh", *PYTHON, "-m", "ovl_linkd", *words],
        env=ENVIRONMENT,
        stdout=subprocess.PIPE,
        check=False,
        text=True,
        cwd="/",
    )
    assert run.returncode in (1, 2)
    assert run.stdout == ""


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (OSError(28, "No space left on device"), "No space left on device\n  hint: make room"),
        (PermissionError(13, "Permission denied", "/x"), "Permission denied: /x\n  hint: use sudo"),
        (FileNotFoundError(2, "No such file or directory", b"/\xff"), "directory: /\\xff\n"),
        (OSError("odd"), "odd\n"),
    ],
)
def test_an_error_of_the_system_is_said_without_its_number(
    failing: ModuleType,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    error: OSError,
    said: str,
) -> None:
    def run(_: object) -> int:
        raise error

    monkeypatch.setattr(failing, "run", run)
    assert cli.main(["check"]) == 1
    seen = capsys.readouterr()
    assert said in seen.err
    assert "Errno" not in seen.err


@pytest.mark.parametrize("unbuffered", ["", "1"])
@pytest.mark.parametrize("word", ["--help", "--version", "check"])
def test_a_reader_that_has_seen_enough_is_no_error(word: str, unbuffered: str) -> None:
    """`ovl-linkd --help | head -0`; many a container has PYTHONUNBUFFERED set."""
    reading, writing = os.pipe()
    os.close(reading)
    run = subprocess.run(
        [*PYTHON, "-m", "ovl_linkd", word],
        env=ENVIRONMENT | {"PYTHONUNBUFFERED": unbuffered},
        stdout=writing,
        stderr=subprocess.PIPE,
        check=False,
        text=True,
    )
    os.close(writing)
    assert "Traceback" not in run.stderr
    assert "BrokenPipe" not in run.stderr
