"""Files that are replaced as a whole: who they belong to, and what happens in between."""

import os
import subprocess
from pathlib import Path

import pytest

from ovl_linkd import in_place
from ovl_linkd.errors import UserError

pytestmark = pytest.mark.needs("root")


def put(file: Path, text: bytes) -> None:
    in_place.replace([in_place.prepare(in_place.read(str(file), 100), text)])


def test_owner_mode_and_attributes_stay(scratch: Path) -> None:
    """A config.json that became root's own would be lost to a rootless engine."""
    file = scratch / "file"
    file.write_bytes(b"old")
    os.chown(file, 1234, 2345)
    file.chmod(0o4751)
    os.setxattr(file, "trusted.mine", b"\0here")
    put(file, b"new")
    status = file.stat()
    assert (status.st_uid, status.st_gid, status.st_mode & 0o7777) == (1234, 2345, 0o4751)
    assert os.getxattr(file, "trusted.mine") == b"\0here"
    assert file.read_bytes() == b"new"
    assert os.listdir(scratch) == ["file"]


def test_behind_symlinks_the_file_is_replaced_and_they_stay(scratch: Path) -> None:
    (scratch / "far").mkdir()
    (scratch / "far/file").write_bytes(b"old")
    (scratch / "one").symlink_to("far/file")
    (scratch / "two").symlink_to(scratch / "one")
    put(scratch / "two", b"new")
    assert (scratch / "far/file").read_bytes() == b"new"
    assert (scratch / "two").is_symlink()
    assert (scratch / "one").is_symlink()
    assert os.listdir(scratch / "far") == ["file"]


def test_the_longest_name_that_a_file_may_have_is_no_obstacle(scratch: Path) -> None:
    """The new file's is made of its beginning, in letters of several bytes."""
    file = scratch / ("日" * 85)
    file.write_bytes(b"old")
    put(file, b"new")
    assert file.read_bytes() == b"new"


@pytest.mark.parametrize("change", ["write", "replace", "chmod", "remove", "symlink"])
def test_a_file_that_changed_meanwhile_is_left_as_it_is_and_so_are_the_others(
    scratch: Path, change: str
) -> None:
    other, file = scratch / "a", scratch / "file"
    for each in (other, file):
        each.write_bytes(b"old")
    prepared = [in_place.prepare(in_place.read(str(each), 100), b"new") for each in (other, file)]
    match change:
        case "write":
            file.write_bytes(b"odd")
        case "replace":
            (scratch / "x").write_bytes(b"odd")
            (scratch / "x").rename(file)
        case "chmod":
            file.chmod(0o600)
        case "remove":
            file.unlink()
        case "symlink":
            file.unlink()
            file.symlink_to("a")
    before = file.read_bytes() if file.exists() else None
    with pytest.raises((UserError, FileNotFoundError)):
        in_place.replace(prepared)
    assert (file.read_bytes() if file.exists() else None) == before
    assert other.read_bytes() == b"old"
    assert not list(scratch.glob(".*"))


def test_what_is_no_file_of_one_name_is_refused(scratch: Path) -> None:
    os.mkfifo(scratch / "fifo")
    (scratch / "file").write_bytes(b"old")
    (scratch / "other").hardlink_to(scratch / "file")
    for name, says in (("fifo", "is not a file"), ("file", "2 names")):
        with pytest.raises(UserError, match=says) as caught:
            in_place.read(str(scratch / name), 100)
        assert caught.value.hint
    (scratch / "other").unlink()
    with pytest.raises(UserError, match="more than 2 bytes"):
        in_place.read(str(scratch / "file"), 2)


@pytest.mark.needs("mount")
def test_a_full_or_read_only_file_system_leaves_the_file_as_it_was(scratch: Path) -> None:
    small = scratch / "small"
    small.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=8k", "none", small], check=True)
    file = small / "file"
    file.write_bytes(b"old")
    original = in_place.read(str(file), 100)
    with pytest.raises(OSError, match="No space left"):
        in_place.prepare(original, b"x" * 10_000)
    subprocess.run(["mount", "-o", "remount,ro", small], check=True)
    with pytest.raises(OSError, match="Read-only"):
        in_place.prepare(original, b"new")
    assert os.listdir(small) == ["file"]
    assert file.read_bytes() == b"old"
