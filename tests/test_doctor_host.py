"""`ovl-linkd doctor`: the kernel, mount(8), inotify; tried out, with nothing left behind."""

import errno
import os
import subprocess
import sys
from pathlib import Path

import pytest

import ovl_linkd
from ovl_linkd.doctor import kernel, mount8, watches
from ovl_linkd.doctor.finding import MAYBE, NOTE, OK, UNKNOWN, WRONG
from ovl_linkd.overlay import probes
from tests.kernel.world import in_a_private_world, make_layers, mount_as_it_stands

needs_root = pytest.mark.needs("root")


@needs_root
@in_a_private_world
def test_what_is_tried_agrees_with_what_mounts() -> None:
    """A probe that says yes while a mount in earnest fails would be worse than a version table."""
    features = probes.features()
    one_by_one = b",".join(b"lowerdir+=" + layer for layer in make_layers(range(10)))

    assert features.overlay
    assert features.value_limit == 255
    assert features.one_by_one == (mount_as_it_stands(one_by_one) == 0)
    assert features.one_by_one or not features.descriptors


@needs_root
def test_a_kernel_without_overlays_is_said_to_have_none(monkeypatch: pytest.MonkeyPatch) -> None:
    """As one without the module: fsopen(2) answers ENODEV."""

    def unknown_file_system() -> int:
        raise OSError(errno.ENODEV, "No such device")

    monkeypatch.setattr(probes, "Context", unknown_file_system)
    last = kernel.findings()[-1]
    assert (last.level, last.mend) == (WRONG, "modprobe overlay")


@needs_root
def test_nothing_of_it_reaches_the_machine_s_mount_table() -> None:
    before = Path("/proc/self/mountinfo").read_text()
    directory = os.getcwd()
    kernel.findings()
    mount8.findings()
    assert Path("/proc/self/mountinfo").read_text() == before
    assert os.getcwd() == directory


@needs_root
def test_without_root_it_is_tried_in_a_user_namespace() -> None:
    """Or it is said that it can't be: never guessed."""
    done = as_nobody(
        "from ovl_linkd.doctor import kernel, mount8\n"
        "print(*[x.level for x in kernel.findings() + mount8.findings()])"
    )
    levels = done.split()
    assert levels[0] == OK, "the page size needs no trial"
    assert set(levels[1:]) <= {OK, NOTE} or levels[1:] == [UNKNOWN, UNKNOWN]


def as_nobody(script: str) -> str:
    """What SCRIPT prints, run by a user without any right.

    Everything is imported before: nobody else may be able to read where the checkout lies.
    """
    package = Path(ovl_linkd.__file__).parents[1]
    program = (
        "import os, sys\n"
        f"sys.path.insert(0, {str(package)!r})\n"
        "import ctypes, json, subprocess, shutil, signal, tomllib\n"
        "import ovl_linkd.doctor.kernel, ovl_linkd.doctor.mount8, ovl_linkd.doctor.mounts\n"
        "import ovl_linkd.machine.containerd\n"
        "os.setgroups([]); os.setgid(65534); os.setuid(65534)\n"
        f"{script}\n"
    )
    done = subprocess.run(
        [sys.executable, "-B", "-c", program], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@needs_root
def test_a_trial_that_can_t_be_made_is_said_and_not_guessed() -> None:
    def fails() -> probes.Outcome:
        raise OSError(28, "No space left on device")

    with pytest.raises(probes.CantTry, match="No space left"):
        probes.privately(fails)

    def dies() -> probes.Outcome:
        os._exit(3)

    with pytest.raises(probes.CantTry, match="without an answer"):
        probes.privately(dies)


# mount(8) by mount(2), and from util-linux 2.39 on, which refuses more than 255 bytes of lowerdir.
BY_MOUNT2 = """#!/bin/sh
LIBMOUNT_FORCE_MOUNT2=always exec /usr/bin/mount "$@"
"""
BY_VALUE = f"""#!/bin/sh
[ "$LIBMOUNT_FORCE_MOUNT2" = always ] || case "$*" in *{"l" * 148}*) exit 32;; esac
LIBMOUNT_FORCE_MOUNT2=always exec /usr/bin/mount "$@"
"""


@needs_root
@pytest.mark.needs("mount")
@pytest.mark.parametrize(
    ("script", "says"), [(BY_MOUNT2, "all options to mount(2)"), (BY_VALUE, "255 bytes")]
)
def test_mount_8_is_tried_with_more_than_255_bytes(
    script: str, says: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its version says little: it also takes a kernel, and distributions build it differently."""
    (tmp_path / "mount").write_text(script)
    (tmp_path / "mount").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    monkeypatch.setattr(mount8, "HELPERS", ())

    (one,) = mount8.findings()

    assert one.level == NOTE
    assert says in one.what
    assert "ovl-linkd rewrite --as mount" in one.mend
    assert ("LIBMOUNT_FORCE_MOUNT2=always" in one.mend) == (script is BY_VALUE)


@needs_root
def test_the_helper_lifts_what_limits_mount_8(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    helper = tmp_path / "mount.overlay"
    helper.touch()
    monkeypatch.setattr(mount8, "HELPERS", (str(helper),))
    (one,) = mount8.findings()
    assert one.level == OK
    assert str(helper) in one.what


@needs_root
def test_a_mount_8_that_mounts_nothing_is_no_measure(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "mount").write_text("#!/bin/sh\nexit 1\n")
    (tmp_path / "mount").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    (one,) = mount8.findings()
    assert one.level == UNKNOWN


# --- inotify -----------------------------------------------------------------------------------


class Proc:
    """A /proc with limits of our choice, and this process in it."""

    def __init__(self, directory: Path, instances: int, watches: int) -> None:
        self.path = str(directory)
        limits = directory / "sys/fs/inotify"
        limits.mkdir(parents=True)
        (limits / "max_user_instances").write_text(f"{instances}\n")
        (limits / "max_user_watches").write_text(f"{watches}\n")
        (directory / str(os.getpid())).symlink_to("/proc/self")


def test_what_is_in_use_is_counted(tmp_path: Path) -> None:
    """Three instances, one with two watches, by a user who may have four."""
    import ctypes

    proc = Proc(tmp_path, instances=3, watches=2)
    libc = ctypes.CDLL(None)
    open_ones = [libc.inotify_init1(os.O_CLOEXEC) for _ in range(3)]
    for place in (b"/", b"/usr"):
        libc.inotify_add_watch(open_ones[0], place, 0x100)

    instances, used = watches.findings(proc.path, os.geteuid())[:2]
    for number in open_ones:
        os.close(number)

    assert instances.what.endswith("has 3 of 3")
    assert used.what.endswith("has 2 of 2")
    assert [instances.level, used.level] == [WRONG, WRONG]
    assert "fs.inotify.max_user_watches=" in used.mend


def test_little_room_is_only_a_warning(tmp_path: Path) -> None:
    found = watches.findings(Proc(tmp_path, instances=5, watches=100).path, os.geteuid())
    assert [one.level for one in found[:2]] == [MAYBE, OK]


def test_another_user_s_limits_are_not_root_s(tmp_path: Path) -> None:
    found = watches.findings(Proc(tmp_path, instances=128, watches=100).path, 12345)
    assert found[0].what.endswith("user 12345 has 0 of 128")
    assert "root" in found[-1].what
