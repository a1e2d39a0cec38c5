"""The system calls: what they refuse by themselves, and what their errors say."""

import errno
import os
import subprocess
import sys
from pathlib import Path

import pytest

import ovl_linkd
from ovl_linkd.overlay import diagnosis, limits, mounting

SMALL_PAGE = limits.of_this_kernel(page_size=64)


def test_options_past_the_limit_never_reach_the_kernel(tmp_path: Path) -> None:
    """The kernel would take the first 63 bytes and report success: nothing may get that far."""
    options = b"lowerdir=" + b"x" * 55

    with pytest.raises(mounting.OptionsTooLong) as caught:
        mounting.mount_overlay("overlay", str(tmp_path), options, limits=SMALL_PAGE)

    assert (caught.value.size, caught.value.limit) == (64, 63)
    assert "64 bytes" in str(caught.value)
    assert "63" in str(caught.value)


def test_options_that_just_fit_do_reach_the_kernel(tmp_path: Path) -> None:
    """The refusal must not begin a byte too early; the kernel's answer shows that it was asked."""
    options = b"lowerdir=" + b"x" * 54

    with pytest.raises(OSError, match=r"No such file|not permitted|Invalid argument") as caught:
        mounting.mount_overlay("overlay", str(tmp_path), options, limits=SMALL_PAGE)

    assert caught.value.filename == str(tmp_path)


def test_the_page_of_this_machine_is_the_limit_where_none_is_given(tmp_path: Path) -> None:
    """Nobody has to remember to pass it, for an overlay or anything else."""
    options = b"x" * os.sysconf("SC_PAGE_SIZE")

    with pytest.raises(mounting.OptionsTooLong):
        mounting.mount_overlay("overlay", str(tmp_path), options)
    with pytest.raises(mounting.OptionsTooLong):
        mounting.mount("none", str(tmp_path), "tmpfs", 0, options)


@pytest.mark.parametrize("where", ["source", "target", "options"])
def test_a_nul_byte_is_refused(where: str, tmp_path: Path) -> None:
    """In C a string ends there: layers after it would be lost as silently as past the page."""
    words = {"source": "overlay", "target": str(tmp_path), "options": "lowerdir=/a:/b"}
    words[where] += "\0/lost"

    with pytest.raises(ValueError, match="NUL"):
        mounting.mount_overlay(words["source"], words["target"], words["options"].encode())


def test_an_error_carries_its_number_and_its_path(tmp_path: Path) -> None:
    """As those of the os module do: the caller decides by errno, the person reads the path."""
    with pytest.raises(OSError, match=r".") as caught:
        mounting.umount(os.fsencode(tmp_path) + b"/\xff")

    # Root is told that nothing is there, others that they may not ask.
    assert caught.value.errno in (errno.ENOENT, errno.EPERM)
    assert caught.value.filename == f"{tmp_path}/\udcff"


@pytest.mark.needs("root")
def test_a_private_mount_namespace_lets_nothing_out(tmp_path: Path) -> None:
    """On a machine with systemd, `/` is shared: without make_private() a mount would get out."""
    child = _in_a_child(
        "mounting.private_mount_namespace()",
        "mounting.mount('none', '/', '', mounting.MS_REC | 0x100000)  # MS_SHARED",
        "if os.fork() == 0:",
        "    mounting.private_mount_namespace()",
        f"    mounting.mount('x', {str(tmp_path)!r}, 'tmpfs')",
        f"    print(os.path.ismount({str(tmp_path)!r}), flush=True)",
        "    os._exit(0)",
        "os.wait()",
        f"print(os.path.ismount({str(tmp_path)!r}))",
    )

    assert child.stdout == "True\nFalse\n", child.stderr


@pytest.mark.needs("root")
def test_unmounting_lazily_takes_away_what_is_in_use(tmp_path: Path) -> None:
    """EBUSY by default, so that nothing is pulled away from under anybody by chance."""
    child = _in_a_child(
        "mounting.private_mount_namespace()",
        f"mounting.mount('x', {str(tmp_path)!r}, 'tmpfs')",
        f"os.chdir({str(tmp_path)!r})",
        "try:",
        f"    mounting.umount({str(tmp_path)!r})",
        "except OSError as error:",
        "    print(errno.errorcode[error.errno], error.filename)",
        f"mounting.umount({str(tmp_path)!r}, lazy=True)",
        f"assert not os.path.ismount({str(tmp_path)!r})",
    )

    assert child.returncode == 0, child.stderr
    assert child.stdout == f"EBUSY {tmp_path}\n"


def test_a_user_namespace_gives_an_ordinary_user_mounts_or_says_why_not(tmp_path: Path) -> None:
    """Some machines forbid it: then an OSError says so, which is what `demo` tells its user."""
    child = _in_a_child(
        "try:",
        "    mounting.private_user_namespace()",
        "except OSError as error:",
        "    sys.exit(f'forbidden: {error.strerror}')",
        f"mounting.mount('x', {str(tmp_path)!r}, 'tmpfs')",
        "print(os.getuid(), os.getgid(), open('/proc/self/setgroups').read().strip())",
    )

    assert child.stdout == "0 0 deny\n" or child.stderr.startswith("forbidden: ")
    assert not os.path.ismount(tmp_path)


def test_ctypes_waits_for_the_first_system_call() -> None:
    """It costs a short-lived command more than the rest of this module together."""
    child = _in_a_child("print('ctypes' in sys.modules)")

    assert child.stdout == "False\n", child.stderr


def test_what_was_not_a_matter_of_options_is_not_explained(tmp_path: Path) -> None:
    """EBUSY, ENOMEM: no look at the layers can tell their cause."""
    for number in (errno.EBUSY, errno.ENOMEM, errno.EPERM):
        error = OSError(number, os.strerror(number), str(tmp_path))
        assert diagnosis.diagnose(b"lowerdir=/gone", error) is None


def test_a_kernel_without_overlay_is_told_from_a_wrong_option(tmp_path: Path) -> None:
    """Its errno is ENODEV, "no such device", and people look for a device."""
    error = OSError(errno.ENODEV, os.strerror(errno.ENODEV), str(tmp_path))

    reason = diagnosis.diagnose(b"lowerdir=/a:/b", error)

    assert reason == "this kernel has no overlay file system, or its module is not loaded"


def _in_a_child(*lines: str) -> subprocess.CompletedProcess[str]:
    """Run LINES, which may leave this process' namespaces, in a Python of their own."""
    start = "import errno, os, sys\nfrom ovl_linkd.overlay import mounting"
    return subprocess.run(
        [sys.executable, "-c", "\n".join([start, *lines])],
        env=os.environ | {"PYTHONPATH": str(Path(ovl_linkd.__file__).parents[1])},
        capture_output=True,
        text=True,
        check=False,
    )
