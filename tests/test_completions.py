"""What TAB offers is what the parsers take, and the links that there are.

The files are made by the same script as on installation. bash is always there; zsh and fish read
theirs where they are installed, and the files are looked into in any case.
"""

import os
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from ovl_linkd import cli

TOP = Path(__file__).parents[1]
SHELLS = ("bash", "zsh", "fish")


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    directory = tmp_path_factory.mktemp("share")
    subprocess.run(
        [sys.executable, TOP / "docs" / "completions.py", directory],
        env=os.environ | {"PYTHONPATH": str(TOP / "daemon")},
        check=True,
    )
    names = sorted(path for path in directory.rglob("*") if path.is_file())
    return {shell: next(path for path in names if shell in str(path)) for shell in SHELLS}


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory for PATH in which `ovl-linkd` keeps two links, without a daemon."""
    directory = tmp_path_factory.mktemp("bin")
    config = directory / "config.yaml"
    config.write_text(
        "links:\n  node-a: {path: /run/a, target: /mnt/a}\n  node-b: {path: /run/b, target: /b}\n"
    )
    config.chmod(0o644)
    python, file = shlex.quote(sys.executable), shlex.quote(str(config))
    script = directory / "ovl-linkd"
    script.write_text(f'#!/bin/sh\nexec {python} -m ovl_linkd "$@" --config {file}\n')
    script.chmod(0o755)
    return directory


def offered(line: str, files: dict[str, Path], program: Path) -> set[str]:
    """What bash offers after LINE, whose last word is being typed."""
    words = line.split(" ")
    script = f"""
        source {shlex.quote(str(files["bash"]))}
        COMP_WORDS=({" ".join(map(shlex.quote, words))}) COMP_CWORD={len(words) - 1}
        _shtab_ovl_linkd
        printf '%s\\n' "${{COMPREPLY[@]}}"
    """
    done = subprocess.run(
        ["bash", "--norc", "-c", script],
        env=os.environ
        | {"PATH": f"{program}:{os.environ['PATH']}", "PYTHONPATH": str(TOP / "daemon")},
        capture_output=True,
        text=True,
        check=True,
        cwd=program,
    )
    assert done.stderr == ""
    return set(done.stdout.split())


def test_every_command_is_offered(files: dict[str, Path], program: Path) -> None:
    assert offered("ovl-linkd ", files, program) == cli.COMMANDS.keys()
    assert offered("ovl-linkd sta", files, program) == {"status"}


@pytest.mark.parametrize("name", cli.COMMANDS)
def test_every_option_is_offered(name: str, files: dict[str, Path], program: Path) -> None:
    wanted = {
        option
        for action in cli.parser(name)._actions
        for option in action.option_strings
        if option.startswith("--")
    }
    assert offered(f"ovl-linkd {name} --", files, program) == wanted


def test_the_values_of_an_option_are_offered(files: dict[str, Path], program: Path) -> None:
    assert offered("ovl-linkd rewrite --when ", files, program) == {"always", "needed"}
    assert "config.yaml" in offered("ovl-linkd check --config conf", files, program)


@pytest.mark.parametrize("command", ["status", "repair", "repair node-a", "status --json"])
def test_links_are_offered_by_name(command: str, files: dict[str, Path], program: Path) -> None:
    assert offered(f"ovl-linkd {command} ", files, program) >= {"node-a", "node-b"}
    assert offered(f"ovl-linkd {command} node-b", files, program) == {"node-b"}


def test_without_a_usable_configuration_nothing_is_said(
    files: dict[str, Path], tmp_path: Path
) -> None:
    """A complaint in the middle of the line that is being typed would be in the way."""
    broken = tmp_path / "ovl-linkd"
    broken.write_text("#!/bin/sh\necho 'config.yaml:1:1: unknown key' >&2\nexit 1\n")
    broken.chmod(0o755)
    assert offered("ovl-linkd repair ", files, tmp_path) == set()


@pytest.mark.parametrize("shell", ["zsh", "fish"])
def test_the_file_of_another_shell_knows_all_of_it(shell: str, files: dict[str, Path]) -> None:
    text = files[shell].read_text()
    for name, summary in cli.COMMANDS.items():
        assert f"_ovl_linkd_{name}" in text or f"using {name}'" in text
        assert summary.partition("'")[0] in text
        for action in cli.parser(name)._actions:
            long = [option for option in action.option_strings if option.startswith("--")]
            assert all(option in text or f"-l {option[2:]}" in text for option in long)
    assert "_ovl_linkd_links" in text
    if path := shutil.which(shell):
        subprocess.run([path, "-n", files[shell]], check=True)
