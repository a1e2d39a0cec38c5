"""`ovl-linkd tmpfiles`: what systemd-tmpfiles makes of the lines is what the configuration says."""

import os
import subprocess
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ovl_linkd.commands.tmpfiles import lines
from ovl_linkd.links.link import Link
from tests.configurations import write
from tests.daemon.world import command

pytestmark = pytest.mark.needs("systemd-tmpfiles")


def made(text: str, directory: Path) -> subprocess.CompletedProcess[str]:
    """Have systemd-tmpfiles carry out the lines TEXT."""
    file = directory / "lines.conf"
    file.write_text(text, encoding="utf-8", errors="surrogateescape")
    command = ["systemd-tmpfiles", "--create", str(file)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def check(links: list[Link], directory: Path) -> None:
    done = made(lines(links), directory)
    assert (done.returncode, done.stderr) == (0, "")
    for link in links:
        assert os.readlink(link.path) == link.target
        os.unlink(link.path)


def test_every_byte_of_a_target_arrives(tmp_path: Path) -> None:
    """Two languages, one in the other: C escapes, and specifiers such as %h."""
    bytes_ = [bytes([number]) for number in range(1, 256)]
    targets = [b"/a" + byte + b"b" for byte in bytes_] + [b"/a" + byte for byte in bytes_]
    links = [
        Link("x", f"{tmp_path}/{number}", os.fsdecode(target))
        for number, target in enumerate(targets)
    ]
    check(links, tmp_path)


@pytest.mark.needs("root")
def test_what_lies_in_the_farm_is_never_too_old(scratch: Path) -> None:
    """Only its age is left out of account: who makes the directory at boot is the daemon."""
    place = scratch / "tmp"
    farm = place / "f*[x]"
    farm.mkdir(parents=True)
    for path in (farm / "1", farm / "2", place / ".f*[x].ovl-linkd-farm", place / "other"):
        path.symlink_to("/x")
    old = os.lstat(farm).st_mtime - 30 * 24 * 3600
    for path in (*farm.iterdir(), *place.iterdir()):
        os.utime(path, (old, old), follow_symlinks=False)
    rules = scratch / "rules.conf"
    rules.write_text(f"d {place} - - - am:10d\n{lines([], str(farm))}")
    subprocess.run(["systemd-tmpfiles", "--clean", rules], check=True)
    assert sorted(os.listdir(place)) == [".f*[x].ovl-linkd-farm", "f*[x]"]
    assert sorted(os.listdir(farm)) == ["1", "2"]


@given(
    name=st.text(
        st.characters(exclude_categories=("C", "Z"), exclude_characters=":,\\/"),
        min_size=1,
        max_size=60,
    ).filter(lambda name: name not in (".", "..", "lines.conf")),
    target=st.binary(min_size=1, max_size=200).filter(lambda target: 0 not in target),
)
def test_any_link_arrives(
    tmp_path_factory: pytest.TempPathFactory, name: str, target: bytes
) -> None:
    directory = tmp_path_factory.getbasetemp()
    check([Link("x", f"{directory}/{name}", os.fsdecode(b"/" + target))], directory)


def test_a_path_of_quotes_and_specifiers_arrives(tmp_path: Path) -> None:
    names = ["'", '"', "a'b\"c", "%h", "%%", "[a]*?", "é", "$HOME", "#", "~", "-"]
    check([Link("x", f"{tmp_path}/{name}", "/srv") for name in names], tmp_path)


def test_what_is_in_a_links_place_is_left_alone(tmp_path: Path) -> None:
    """`L+` would remove a directory with all that is in it."""
    (tmp_path / "taken").mkdir()
    (tmp_path / "taken/precious").touch()
    made(lines([Link("x", f"{tmp_path}/taken", "/srv")]), tmp_path)
    assert (tmp_path / "taken/precious").exists()


def test_it_prints_a_line_for_each_link(tmp_path: Path) -> None:
    text = "links: {a: {path: /run/a, target: /b c}, d: {path: /run/d, target: /e}}\n"
    file = write(tmp_path / "c.yaml", text)
    done = command("tmpfiles", "--config", file)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == "L /run/a - - - - /b\\x20c\nL /run/d - - - - /e\n"


def test_another_daemons_lines_do_not_replace_the_first_ones(tmp_path: Path) -> None:
    """There is one file, for the standard configuration."""
    done = command("tmpfiles", "--config", tmp_path / "c.yaml", "--write")
    assert (done.returncode, done.stdout) == (2, "")


def test_a_broken_configuration_prints_nothing(tmp_path: Path) -> None:
    """So that the lines which a boot may have to start from are not replaced by none."""
    file = write(tmp_path / "c.yaml", "links: 1\n")
    done = command("tmpfiles", "--config", file)
    assert (done.returncode, done.stdout) == (1, "")
    assert f"{file}:1:8: " in done.stderr
