"""A file of ours that is replaced as a whole."""

import os
import stat
from pathlib import Path

import pytest

from ovl_linkd.replacing import replace


def test_what_is_to_outlive_a_crash_has_its_name_on_the_disk_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Or the old text would be there after it: of the guard, a directory that nobody unguards."""
    file = tmp_path / "f"
    file.write_text("old")
    synced: list[tuple[bool, str]] = []
    monkeypatch.setattr(
        os,
        "fsync",
        lambda fd: synced.append((stat.S_ISDIR(os.fstat(fd).st_mode), file.read_text())),
    )
    replace(str(file), "new", durable=True)
    assert synced == [(False, "old"), (True, "new")]
