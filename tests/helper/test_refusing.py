"""What can't be mounted: one line with the cause, mount(8)'s exit code, and nothing mounted."""

import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from ovl_linkd.overlay import mounting
from ovl_linkd.published import Published, write
from tests import older_kernel
from tests.helper.world import Machine, lower, refused
from tests.kernel.world import make_layers

pytestmark = pytest.mark.needs("root")

COUNT = 60  # long enough for the helper, whatever mount(8) takes


@pytest.fixture
def layers(machine: Machine) -> list[bytes]:
    """Layers that can be mounted."""
    return machine.layers(range(COUNT))


def refusal(machine: Machine, options: bytes, code: int = 32) -> str:
    """What is said to a mount of OPTIONS; the target left away."""
    said = refused(machine.mount(options), code)
    assert not machine.line()
    return said.removeprefix(f"{machine.target}: ")


def test_a_layer_that_is_not_there_is_named(machine: Machine, layers: list[bytes]) -> None:
    """Of 500 paths, one is misspelt: mount(8) says "wrong fs type, bad option, bad superblock"."""
    gone = layers[36] + b"x"
    said = refusal(machine, lower([*layers[:36], gone, *layers[37:]]))
    assert said == f"lower layer 37 of {COUNT} does not exist: {os.fsdecode(gone)}"


def test_a_layer_that_is_a_file_is_named(machine: Machine, layers: list[bytes]) -> None:
    file = layers[3] + b"/only/3"
    said = refusal(machine, lower([*layers, file]))
    assert said == f"lower layer {COUNT + 1} of {COUNT + 1} is not a directory: {os.fsdecode(file)}"


def test_a_layer_that_may_not_be_looked_at_is_named(machine: Machine, layers: list[bytes]) -> None:
    """Root of a user namespace is not root of what lies there."""
    closed = Path(os.fsdecode(machine.store(name="closed")))
    (closed / "1/fs").mkdir(parents=True)
    closed.chmod(0o700)
    os.chown(closed, 4242, 4242)
    options = lower([*layers, os.fsencode(closed) + b"/1/fs"])
    outside = ("unshare", "--user", "--map-root-user", "--mount")
    done = machine.run("mount.overlay", "-o", options, machine.target, outside=outside)
    said = refused(done)
    assert f"lower layer {COUNT + 1} of {COUNT + 1}: Permission denied: {closed}/1/fs" in said


def test_the_same_layer_twice_is_named(machine: Machine, layers: list[bytes]) -> None:
    """The kernel says ELOOP, "too many levels of symbolic links", and there is no symlink."""
    said = refusal(machine, lower([*layers, layers[4]]))
    assert f"lower layer 5 of {COUNT + 1} and lower layer {COUNT + 1} of {COUNT + 1}" in said
    assert "are the same directory" in said


def test_501_layers_are_too_many(machine: Machine) -> None:
    options = lower(machine.layers(range(501)))
    said = refusal(machine, options)
    assert (
        said == "501 lower layers, the kernel takes 500; merge layers: no link changes their number"
    )


@pytest.mark.parametrize("kind", ["missing", "a file"])
def test_a_target_that_is_no_directory(kind: str, machine: Machine, layers: list[bytes]) -> None:
    """mount(8) itself looks first, and says it in its own words; Podman has only ours."""
    target = machine.place / "target"
    if kind == "a file":
        target.touch()
    done = machine.run("mount.overlay", "-o", lower(layers), target)
    assert refused(done) == f"{target}: no directory to mount on: {target}"


@pytest.mark.parametrize("program", ["mount", "mount.overlay"])
@pytest.mark.parametrize("count", [2, COUNT])
def test_an_empty_target_is_not_the_working_directory(
    program: str, count: int, machine: Machine, layers: list[bytes]
) -> None:
    """`overlay "$TARGET"`, and there is no TARGET: what root worked in was covered, silently."""
    words = ("-t", "overlay", "-o", lower(layers[:count]), "overlay", "")
    before = Path("/proc/self/mountinfo").read_text()

    done = machine.run(program, *words, cwd=str(machine.target))

    assert (done.returncode, done.stdout) == (32, "")
    assert done.stderr.startswith("mount")
    assert Path("/proc/self/mountinfo").read_text() == before


def test_an_empty_namespace_is_not_the_one_we_are_in(machine: Machine, layers: list[bytes]) -> None:
    for count in (2, COUNT):
        words = ("-N", "", "-o", lower(layers[:count]), "overlay", machine.target)
        said = refused(machine.run("mount.overlay", *words), code=2)
        assert said == "no way into the mount namespace '': No such file or directory"
    assert not machine.line()


def test_without_the_privilege(machine: Machine, layers: list[bytes]) -> None:
    nobody = ("setpriv", "--reuid=65534", "--clear-groups")
    done = machine.run(*nobody, "mount.overlay", "-o", lower(layers), machine.target)
    said = refused(done, code=1)
    assert said == f"{machine.target}: Operation not permitted; only root may mount; use sudo"


def test_root_without_the_capability(machine: Machine, layers: list[bytes]) -> None:
    """As in most containers: "use sudo" would be no help there."""
    words = ("setpriv", "--bounding-set=-sys_admin", "mount.overlay", "-o", lower(layers))
    said = refused(machine.run(*words, machine.target), code=1)
    assert said.endswith("Operation not permitted; it takes CAP_SYS_ADMIN here")


def test_upperdir_and_workdir_on_different_file_systems(
    machine: Machine, layers: list[bytes]
) -> None:
    other = machine.userland.path("/mnt")
    mounting.mount("tmpfs", os.fspath(other), "tmpfs")
    (other / "work").mkdir()
    upper = machine.place / "upper"
    upper.mkdir()
    paths = b",upperdir=%b,workdir=/mnt/work" % os.fsencode(upper)
    said = refusal(machine, lower(layers) + paths)
    assert said == "upperdir and workdir are on different file systems"


def test_an_upperdir_that_another_mount_uses(machine: Machine, layers: list[bytes]) -> None:
    """The kernel says EBUSY, and why in its log alone."""
    options = b"index=on,%b,%b" % (lower(layers), machine.upper())
    machine.mounted(options)
    other = machine.place / "other"
    other.mkdir()
    machine.userland.path(other).mkdir(exist_ok=True)
    said = refused(machine.run("mount.overlay", "-o", options, other))
    assert "in-use" in said or "busy" in said


def test_a_single_path_that_no_kernel_walks(machine: Machine, layers: list[bytes]) -> None:
    long = b"/" + b"/".join([b"d" * 250] * 17)
    said = refusal(machine, lower([*layers, long]))
    assert said.startswith(f"lower layer {COUNT + 1} of {COUNT + 1}: File name too long: /ddd")


@pytest.mark.parametrize("size", [131_060, 131_071])
def test_as_much_as_one_argument_holds_is_read_and_more_is_refused(
    size: int, machine: Machine, layers: list[bytes]
) -> None:
    """execve(2) takes 128 KiB an argument; the refusal is the shell's, or mount(8)'s."""
    options = lower(layers) + b",x-filler="
    options += b"x" * (size - len(options))
    if size == 131_060:
        machine.mounted(options)
        machine.sees(range(COUNT))
        return
    script = machine.place / "script"
    script.write_bytes(
        b"mount -t overlay -o '%b1' overlay %b\n" % (options, os.fsencode(machine.target))
    )
    done = machine.run("sh", script)
    assert done.returncode in (2, 126)
    assert "Argument list too long" in done.stderr
    assert not machine.line()


MALFORMED: dict[str, tuple[Callable[[bytes], bytes], str | tuple[str, ...]]] = {
    "a trailing colon": (lambda x: x + b":", "an empty layer at the end of lowerdir="),
    "three colons": (lambda x: x + b":::/a", "an empty layer in lowerdir=: 3 colons in a row"),
    "a leading colon": (
        lambda x: x.replace(b"=", b"=:"),
        "an empty layer at the start of lowerdir=",
    ),
    "a lone backslash": (lambda x: x + b"\\", "a lone backslash at the end"),
    "an unknown option": (
        lambda x: x + b",nonsense=1",
        # Before Linux 6.5 the overlay read its options by itself.
        ("Unknown parameter 'nonsense'", 'unrecognized mount option "nonsense=1"'),
    ),
    "an overlay to write to": (lambda x: x + b",upperdir=/mnt,workdir=/mnt", "filesystem on "),
    "upperdir alone": (lambda x: x + b",upperdir=/mnt", "an upperdir needs a workdir"),
    "id mappings": (
        lambda x: x + b",uidmapping=0:1:2",
        "uidmapping: the kernel's overlay maps no ids",
    ),
    "permissions as attributes": (lambda x: x + b",xattr_permissions=2", "xattr_permissions: "),
}


@pytest.mark.parametrize("case", MALFORMED)
def test_what_no_overlay_takes(case: str, machine: Machine, layers: list[bytes]) -> None:
    spoil, reason = MALFORMED[case]
    done = machine.run("mount.overlay", "-o", spoil(lower(layers)), machine.target)
    said = refused(done).removeprefix(f"{machine.target}: ")
    assert said.startswith(reason)
    assert not machine.line()


def test_a_data_layer_before_a_regular_one(machine: Machine, layers: list[bytes]) -> None:
    said = refusal(machine, lower(layers[:50], layers[50:55]) + b":/mnt")
    assert said.startswith("a regular layer after a data-only layer in lowerdir=")


USAGE = [
    (("mount.overlay",), "a source and a target are needed"),
    (("mount.overlay", "a", "b", "c", "-o", "lowerdir=/a:/b"), "a source and a target are needed"),
    (("mount.overlay", "a", "b", "-o"), "-o needs a value"),
    (("mount.overlay", "a", "b", "-z"), "unknown option -z"),
    (("mount.overlay", "a", "b", "-t", "overlay.x"), "type overlay.x: "),
]


def test_a_call_that_makes_no_sense(machine: Machine) -> None:
    for words, reason in USAGE:
        done = machine.run(*words)
        assert done.returncode == 1
        assert done.stderr.startswith(f"mount.overlay: {reason}"), done.stderr
        assert "Traceback" not in done.stderr


def apart(machine: Machine) -> list[bytes]:
    """60 layers that have no directory in common but the root."""
    root = os.fsencode(machine.userland.root)
    return [
        layer.removeprefix(root)
        for at, name in enumerate((b"a", b"b"))
        for layer in make_layers(range(at * 30, at * 30 + 30), root + b"/" + name * 90)
    ]


def test_without_link_farm_or_common_directory_on_an_old_kernel(machine: Machine) -> None:
    """The kernel would mount other layers, or say ENOENT: it takes 4,095 bytes."""
    done = machine.mount(lower(apart(machine)), before=older_kernel.without_fsopen)
    said = refused(done)
    assert "bytes, mount(2) takes 4,095; " in said
    assert "of 60 layers would fit; " in said
    assert not machine.line()


def test_a_farm_that_gives_no_names_is_named_as_well(machine: Machine) -> None:
    """Its daemon is down, and nothing else would do: that is what there is to mend."""
    write(Published((), "/run/nobody-listens", [], "/run/f"))
    try:
        done = machine.mount(lower(apart(machine)), before=older_kernel.without_fsopen)
    finally:
        os.unlink("/run/ovl-linkd/published.json")
    said = refused(done)
    assert "of 60 layers would fit; no farm: the daemon is not running" in said


# --- a Python that doesn't work ----------------------------------------------------------------


def no_python(machine: Machine) -> None:
    for path in machine.userland.path("/usr/bin").glob("python3*"):
        path.unlink()


def half_a_python(machine: Machine) -> None:
    """As in the middle of an upgrade of the distribution."""
    for path in machine.userland.path("/usr/lib").glob("python3.*/encodings"):
        subprocess.run(["rm", "-r", path], check=True)


def none_of_ours(machine: Machine) -> None:
    subprocess.run(["umount", machine.userland.path("/usr/lib/ovl-linkd")], check=True)


BROKEN: dict[Callable[[Machine], None], str] = {
    no_python: "not found",
    half_a_python: "No module named 'encodings'",
    none_of_ours: "No module named 'ovl_linkd'",
}


@pytest.mark.parametrize("spoil", BROKEN, ids=lambda each: each.__name__)
def test_small_mounts_need_no_python_and_long_ones_say_that_they_do(
    spoil: Callable[[Machine], None], machine: Machine, layers: list[bytes]
) -> None:
    """A half-done upgrade, or a boot without /usr/local, must not take every overlay along."""
    spoil(machine)
    for options in (lower(layers[:2]), lower(layers[:2]) + b",nofail,_netdev,nosuid"):
        machine.mounted(options)
        machine.sees(range(2))
        done = machine.run("mount", "-o", "remount,bind,nodev", machine.target)
        assert (done.returncode, "nodev" in machine.line()) == (0, True)
        machine.umount()
    done = machine.run("mount.overlay", "-o", lower(layers[:2]), machine.target)
    assert done.returncode == 0
    machine.umount()

    said = refused(machine.mount(lower(layers)), code=2)
    size = len(lower(layers)) + len("rw,")
    assert said.startswith(f"{size} bytes of options can't be mounted: ")
    assert "needs Python for them, and /usr/bin/python3 ended with status " in said
    assert BROKEN[spoil] in said
    assert not machine.line()


def test_why_a_small_mount_failed_is_said_by_us_alone(
    machine: Machine, layers: list[bytes]
) -> None:
    """mount(8): "special device overlay does not exist", or "wrong fs type, bad option …"."""
    gone = layers[1] + b"x"
    said = refusal(machine, lower([layers[0], gone]))
    assert said == f"lower layer 2 of 2 does not exist: {os.fsdecode(gone)}"
    assert refusal(machine, lower(layers[:1])).startswith("one lower layer and no upperdir")
    assert refusal(machine, lower(layers[:2]) + b",what=1").startswith("Unknown parameter 'what'")
    assert refusal(machine, lower(layers[:2]) + b":").startswith("an empty layer at the end")


def test_without_python_it_is_mount_that_says_why_a_small_mount_failed(
    machine: Machine, layers: list[bytes]
) -> None:
    none_of_ours(machine)
    done = machine.mount(lower([layers[0], layers[1] + b"x"]))
    assert done.returncode == 32
    assert done.stderr.startswith(f"mount: {machine.target}: ")
    assert "Traceback" not in done.stderr
    assert not machine.line()


def test_small_mounts_do_not_even_start_it(machine: Machine, layers: list[bytes]) -> None:
    """It takes ten times as long as the mount; at boot there may be many."""
    trap = machine.userland.path("/usr/bin/python3")
    trap.unlink()
    trap.write_text("#!/bin/sh\ntouch /started\n")
    trap.chmod(0o755)
    machine.mounted(lower(layers[:2]))
    assert not machine.userland.path("/started").exists()
    machine.mount(lower(layers))
    assert machine.userland.path("/started").exists()
