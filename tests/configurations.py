"""Configurations for tests: written, and all that is wrong with them; the places of a machine."""

from pathlib import Path

import pytest

from ovl_linkd import config_files
from ovl_linkd.config import Config, ConfigError, Problem, load

GOOD = "links: {a: {path: /run/a, target: /x}}\n"


def write(path: Path, text: str | bytes) -> Path:
    """Have the file PATH say TEXT, with modes that are accepted whatever the umask; PATH."""
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o755)
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    path.chmod(0o644)
    return path


def problems(tmp_path: Path, text: str | bytes) -> list[tuple[int, int, str, str]]:
    """What is wrong with TEXT: line, column, what, hint."""
    file = write(tmp_path / "c.yaml", text)
    with pytest.raises(ConfigError) as caught:
        load(str(file))
    assert {problem.file for problem in caught.value.problems} == {str(file)}
    return [problem[1:] for problem in caught.value.problems]


def faults(tmp_path: Path, text: str | bytes) -> list[str]:
    """The same as a person reads it, without the file's name."""
    found = [Problem(str(tmp_path / "c.yaml"), *one) for one in problems(tmp_path, text)]
    return [str(problem).removeprefix(f"{problem.file}:") for problem in found]


class Places:
    """The three places of a machine and the packaged default, in a directory of the test's."""

    def __init__(self, directory: Path) -> None:
        self.etc, self.run, self.usr = (directory / name for name in ("etc", "run", "usr"))
        self.packaged = write(directory / "data" / "config.yaml", "resync-interval: 11s\n")
        self.roots = (str(self.etc), str(self.run), str(self.usr))

    def load(self) -> Config:
        return load(None, self.roots, str(self.packaged))

    def stamp(self) -> list[config_files.Stamp]:
        return config_files.stamp(None, self.roots, str(self.packaged))
