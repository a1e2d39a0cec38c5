"""`ovl-linkd doctor`: lines of fstab, judged by systemd's own generator."""

import os
import subprocess
from pathlib import Path

import pytest

from ovl_linkd.doctor import fstab
from ovl_linkd.doctor.finding import OK, WRONG

GENERATOR = Path("/usr/lib/systemd/system-generators/systemd-fstab-generator")


def line(size: int) -> str:
    start = "overlay /merged overlay noauto,lowerdir="
    return start + "/" * (size - len(start) - len("end 0 0")) + "end 0 0"


@pytest.mark.skipif(not GENERATOR.exists(), reason="needs systemd-fstab-generator")
@pytest.mark.parametrize("size", [4094, 4095, 4096, 4097, 5000])
def test_a_line_is_found_that_the_generator_cuts(size: int, tmp_path: Path) -> None:
    """It reads by a buffer of 4,096 bytes; the rest of the line is dropped in silence."""
    file = tmp_path / "fstab"
    file.write_text(f"# {'x' * 9000}\n\nproc /proc proc defaults 0 0\n{line(size)}\n")
    units = tmp_path / "units"
    units.mkdir()
    environment = {**os.environ, "SYSTEMD_FSTAB": str(file), "SYSTEMD_PROC_CMDLINE": ""}
    subprocess.run([GENERATOR, units, units, units], env=environment, check=True)
    made = (units / "merged.mount").read_text()
    whole = f"Options={line(size).split()[3]}\n" in made

    (one,) = fstab.findings(str(file))

    # Of 4,096 bytes only the last, of the pass number, is lost; but then so would be an option's.
    assert (one.level == OK) == (size <= 4095)
    assert whole or one.level == WRONG
    if one.level == WRONG:
        assert one.what.startswith(f"{file}:4: {size:,} bytes")
        assert "/merged" in one.why


def test_a_line_without_the_last_newline_counts_the_same(tmp_path: Path) -> None:
    file = tmp_path / "fstab"
    file.write_text(line(4095))
    assert fstab.findings(str(file))[0].level == OK
    file.write_text(line(4096))
    assert fstab.findings(str(file))[0].level == WRONG


def test_no_fstab_is_nothing_to_mend(tmp_path: Path) -> None:
    assert fstab.findings(str(tmp_path / "none"))[0].level == "note"
