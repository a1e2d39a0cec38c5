"""Which calls are asked about: as few as can be, and none in a way that could be got around."""

import errno
import os
import struct
import subprocess
from pathlib import Path

import pytest

from ovl_linkd.intercept import seccomp
from ovl_linkd.overlay import mounting
from tests.intercept.world import World

X86_64, I386, AARCH64, ARM, PPC64LE = 0xC000003E, 0x40000003, 0xC00000B7, 0x40000028, 0xC0000015
ALLOW, ASK = 0x7FFF0000, 0x7FC00000
MAGIC = 0xC0ED0000


def verdict(arch: int, number: int, flags: int, data: int) -> int:
    """What the filter returns for a call: a machine for the instructions that it uses."""
    call = struct.pack("=iIQ6Q", number, arch, 0, 1, 2, 3, flags, data, 0)
    steps = list(struct.iter_unpack("=HBBI", seccomp.program()))
    at = accumulator = 0
    while True:
        code, yes, no, value = steps[at]
        at += 1
        if code == 0x20:  # load
            (accumulator,) = struct.unpack_from("=I", call, value)
        elif code == 0x54:  # and
            accumulator &= value
        elif code == 0x15:  # equal
            at += yes if accumulator == value else no
        elif code == 0x45:  # any bit
            at += yes if accumulator & value else no
        else:
            assert code == 0x06
            return int(value)


@pytest.mark.parametrize(
    ("arch", "number"),
    [(X86_64, 165), (X86_64, 0x40000000 | 165), (I386, 21), (AARCH64, 40), (ARM, 21)],
)
def test_it_asks_about_mount_alone_by_whatever_way_it_is_called(arch: int, number: int) -> None:
    assert verdict(arch, number, 0, 8) == ASK
    assert verdict(arch, number, 0, 8 << 32) == ASK
    assert verdict(arch, number, mounting.MS_RDONLY | mounting.MS_NODEV, 8) == ASK
    assert verdict(arch, number, MAGIC, 8) == ASK
    assert verdict(arch, number, MAGIC | mounting.MS_RDONLY, 8) == ASK
    assert verdict(arch, number, 0, 0) == ALLOW
    for other in {0, 21, 40, 165, 166, 428, 439} - {number & 0xFFFF}:
        assert verdict(arch, other, 0, 8) == ALLOW
    assert verdict(PPC64LE, number, 0, 8) == ALLOW


@pytest.mark.parametrize("flag", [0x20, 0x1000, 0x2000, 0x20000, 0x40000, 0x80000, 0x100000])
def test_calls_that_take_no_options_are_not_asked_about(flag: int) -> None:
    assert verdict(X86_64, 165, flag, 8) == ALLOW
    assert verdict(X86_64, 165, flag | 0x4001, 8) == ALLOW
    # The mark is no flag, though it has bits in common with some; then the flags beside it count.
    assert verdict(X86_64, 165, flag & 0xFFFF | MAGIC, 8) == (ALLOW if flag & 0xFFFF else ASK)


@pytest.mark.needs("root", "cc")
def test_the_kernel_sees_it_the_same_way(world: World, programs: Path) -> None:
    """8 KB of nonsense as options: it does not look at them, and neither do we."""
    mounting.mount("x", str(world.merged), "tmpfs", 0, b"")
    command = [programs / "flags", world.merged]
    alone = subprocess.run(command, capture_output=True, text=True, check=False)
    assert "bind: 0" in alone.stdout
    while os.path.ismount(world.merged):
        mounting.umount(str(world.merged))
    mounting.mount("x", str(world.merged), "tmpfs", 0, b"")

    done = world.run(*command)

    assert done.stdout == alone.stdout
    # The mark takes the place of two of the flags, and such a call does mount something new.
    assert f"private, marked: {errno.ENODEV}\n" in done.stdout
    assert f"slave, marked: {errno.ENODEV}\n" in done.stdout
    assert done.stderr.count("\n") == 2, "nothing else was asked"


@pytest.mark.needs("root", "cc")
@pytest.mark.skipif(os.uname().machine != "x86_64", reason="needs a processor with two ways")
def test_a_32_bit_call_is_asked_about(world: World, programs: Path) -> None:
    mounting.mount("x", str(world.merged), "tmpfs", 0, b"")
    done = world.run(programs / "flags", world.merged, "compat")
    assert done.stdout.startswith(f"compat: {errno.ENODEV}\n")
    assert "on /: let through: it is no overlay" in done.stderr
