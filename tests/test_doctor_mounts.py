"""`ovl-linkd doctor`: overlay mounts that are already wrong are found, right ones are not.

The mounts are real, and the kernel cuts in earnest.
"""

import os
import shutil
import tracemalloc
from collections.abc import Sequence
from pathlib import Path

import pytest

from ovl_linkd.doctor import mounts
from ovl_linkd.doctor.finding import MAYBE, OK, WRONG, Finding
from ovl_linkd.machine import mountinfo
from ovl_linkd.machine.mountinfo import Mount, Namespace
from ovl_linkd.overlay import limits, mounting
from ovl_linkd.overlay.context import Context
from tests.kernel.world import (
    MOUNT_POINT,
    SHORT,
    SNAPSHOTS,
    STORE,
    all_of,
    in_a_private_world,
    joined,
    look,
    make_layers,
    make_upper,
    mount_as_it_stands,
)

real = pytest.mark.needs("root")
of_4_kib = pytest.mark.skipif(os.sysconf("SC_PAGE_SIZE") != 4096, reason="needs pages of 4,096")
READ = 4095
POINT = os.fsdecode(MOUNT_POINT)


def found(*others: int) -> list[Finding]:
    """What the doctor says of the mounts that this process and OTHERS see; nothing if all is well.

    Of no others: who knows what else is mounted on the machine that runs the tests.
    """
    os.mkdir("/run/proc")
    for pid in (os.getpid(), *others):
        os.symlink(f"/proc/{pid}", f"/run/proc/{pid}")
    said = mounts.findings("/run/proc")
    shutil.rmtree("/run/proc")
    return [] if [one.level for one in said] == [OK] else said


def exactly(size: int, layers: Sequence[bytes]) -> bytes:
    """As many LAYERS as make SIZE bytes of options, by repeating slashes in the first."""
    chosen = list(layers)
    while len(joined(chosen)) > size:
        chosen.pop()
    return joined([b"/" * (size - len(joined(chosen))) + chosen[0], *chosen[1:]])


@real
@of_4_kib
@in_a_private_world
def test_the_host_s_root_as_the_last_layer() -> None:
    """mount(2) returned 0; 77 layers and upperdir are gone, and /etc of the host shows."""
    upper, work = make_upper(99)
    ids = [*range(10_003, 9_999, -1), *range(9_999, 9_875, -1)]
    options = b"%s,upperdir=%s,workdir=%s" % (joined(make_layers(ids)), upper, work)
    assert mount_as_it_stands(options) == 0

    (one,) = found()

    assert one.level == WRONG
    assert "/, the root directory, is the last of 54 layers" in one.what
    assert "no upperdir" in one.what
    assert "drops the rest" in one.why
    assert one.mend == f"umount -- {POINT}"
    assert "ovl-linkd rewrite" in one.why


@real
@of_4_kib
@pytest.mark.parametrize("excess", [2, 3])
@in_a_private_world
def test_the_id_of_a_layer_without_what_follows_it(excess: int) -> None:
    """`…/209` in place of `…/209/fs`: a directory that exists, and whose layer is lost."""
    ids = list(range(999, 750, -1))
    os.symlink(SNAPSHOTS, SHORT)
    make_layers(ids)
    options = exactly(READ + excess, [b"%s/%d/fs" % (SHORT, number) for number in ids])
    assert mount_as_it_stands(options) == 0
    assert look().ids != sorted(ids[: options.count(b":") + 1])

    (one,) = found()

    assert one.level == WRONG
    assert "the others end in /fs" in one.what


@real
@of_4_kib
@in_a_private_world
def test_a_cut_between_two_layers_can_only_be_suspected() -> None:
    """Every layer that is left is whole, and so are upperdir and workdir, which came first."""
    upper, work = make_upper(1038)
    layers = make_layers(range(1037, 909, -1))
    options = b"workdir=%s,upperdir=%s,%s" % (work, upper, joined(layers))
    assert options[READ : READ + 1] == b":"
    assert mount_as_it_stands(options) == 0

    (one,) = found()

    assert one.level == MAYBE
    assert f"{READ:,} bytes of options, just what fits" in one.what


@real
@of_4_kib
@in_a_private_world
def test_an_upperdir_that_was_cut_off_whole() -> None:
    """The list ends just where the page does; what is mounted can't be written."""
    layers = make_layers(range(999, 750, -1))
    upper, work = make_upper(50)
    options = b"%s,upperdir=%s,workdir=%s" % (exactly(READ, layers), upper, work)
    assert mount_as_it_stands(options) == 0

    (one,) = found()

    assert one.level == MAYBE
    assert "no upperdir though it was not mounted read-only" in one.what


@real
@of_4_kib
@in_a_private_world
def test_what_just_fits_is_never_called_wrong() -> None:
    ids = list(range(999, 750, -1))
    os.symlink(SNAPSHOTS, SHORT)
    make_layers(ids)
    options = exactly(READ, [b"%s/%d/fs" % (SHORT, number) for number in ids])
    mounting.mount_overlay("overlay", MOUNT_POINT, options, mounting.MS_RDONLY)
    assert look() == all_of(ids[: options.count(b":") + 1])

    assert [one.level for one in found()] == [MAYBE]


@real
@in_a_private_world
def test_a_container_with_few_layers_is_no_finding() -> None:
    upper, work = make_upper(99)
    options = b"index=off,workdir=%s,upperdir=%s,%s"
    options %= (work, upper, joined(make_layers(range(98, 68, -1))))
    mounting.mount_overlay("overlay", MOUNT_POINT, options)

    assert found() == []


@real
@in_a_private_world
def test_paths_that_need_escapes_are_no_finding() -> None:
    """Space, comma, colon, backslash, newline: mountinfo escapes some, the options others."""
    store = b"/var/lib/a b,c:d\\e\nf"
    layers = make_layers(range(30, 10, -1), store)
    upper, work = make_upper(99, store)
    single = [path.replace(b"\\", b"\\\\").replace(b",", b"\\,") for path in (upper, work)]
    special = rb"lowerdir=" + b":".join(
        layer.replace(b"\\", b"\\\\").replace(b":", b"\\:").replace(b",", b"\\,")
        for layer in layers
    )
    special += b",upperdir=%b,workdir=%b" % tuple(single)
    mounting.mount_overlay("overlay", MOUNT_POINT, special)
    mount = next(one for one in overlays() if one.point == MOUNT_POINT)

    assert found() == []
    shown = mountinfo.layers(mount)
    assert (list(shown.lower), shown.upper, shown.work) == (layers, upper, work)
    assert shown.size == len(special)


def overlays() -> list[Mount]:
    with open("/proc/self/mountinfo", "rb") as file:
        return [one for one in mountinfo.parse(file.read()) if one.fstype == b"overlay"]


@real
@in_a_private_world
def test_a_sandbox_over_the_root_is_not_called_wrong() -> None:
    """`lowerdir=/opt/x:/` is how sandboxes lay something over the whole system."""
    make_layers([1])
    mounting.mount_overlay("overlay", MOUNT_POINT, b"lowerdir=%s/1/fs:/" % SNAPSHOTS)

    (one,) = found()

    assert one.level == MAYBE
    assert "right if it was meant" in one.why


@real
@in_a_private_world
def test_the_root_alone_below_an_upperdir_is_no_finding() -> None:
    upper, work = make_upper(1)
    mounting.mount_overlay(
        "overlay", MOUNT_POINT, b"lowerdir=/,upperdir=%s,workdir=%s" % (upper, work)
    )

    assert found() == []


@real
@of_4_kib
@in_a_private_world
def test_what_is_left_of_a_line_of_fstab() -> None:
    """systemd's generator reads 4,095 bytes of the line: the options end some 100 before that."""
    options = joined(make_layers(range(999, 800, -1)))[:3990]
    options = options[: options.rindex(b"fs:/") + 4]
    assert mount_as_it_stands(options) == 0

    (one,) = found()

    assert one.level == WRONG
    assert "fstab" in one.why


@real
@pytest.mark.parametrize(("name", "count"), [(b"n" * 160, 400), (b" " * 100, 200)])
@in_a_private_world
def test_a_line_that_go_programs_can_t_read(name: bytes, count: int) -> None:
    """runc fails on the whole machine; octal escapes count four times."""
    layers = make_layers(range(count), b"/var/lib/" + name)
    mount_one_by_one(layers)

    (one,) = found()

    assert one.level == WRONG
    assert "its line in mountinfo has" in one.what
    assert "runc" in one.why


@real
@in_a_private_world
def test_500_layers_one_by_one_are_no_finding() -> None:
    """Nothing was cut: fsconfig(2) refuses what it doesn't take."""
    mount_one_by_one(make_layers(range(999, 499, -1)))

    assert found() == []
    assert len(mountinfo.layers(overlays()[-1]).lower) == 500


@real
@in_a_private_world
def test_as_many_bytes_as_a_page_one_by_one_are_no_finding() -> None:
    """The same size that makes a list suspicious is a coincidence here."""
    layers = make_layers(range(999, 952, -1))
    size = sum(len(b"lowerdir+=,") + len(layer) for layer in layers) - 1
    mount_one_by_one([b"/" * (READ - size) + layers[0], *layers[1:]])
    assert mountinfo.layers(overlays()[-1]).size == READ

    assert found() == []


def mount_one_by_one(layers: Sequence[bytes]) -> None:
    """Mount by fsopen(2), lowerdir+, fsmount(2), move_mount(2)."""
    with Context() as context:
        for layer in layers:
            context.set_string(b"lowerdir+", layer)
        context.create()
        context.mount(MOUNT_POINT)


@real
@of_4_kib
@in_a_private_world
def test_a_mount_of_another_namespace_is_found_once_and_placed() -> None:
    """A container's mounts are not in the host's table, and its children have copies of them."""
    upper, work = make_upper(99)
    ids = [*range(10_003, 9_999, -1), *range(9_999, 9_875, -1)]
    options = b"%s,upperdir=%s,workdir=%s" % (joined(make_layers(ids)), upper, work)
    reading, telling = os.pipe()
    waiting, letting_go = os.pipe()
    first = os.fork()
    if first == 0:
        os.close(letting_go)
        mounting.private_mount_namespace()
        mount_as_it_stands(options)
        if os.fork() == 0:
            mounting.private_mount_namespace()
        os.write(telling, b"%d " % os.getpid())
        os.read(waiting, 1)
        os._exit(0)
    os.close(waiting)
    said = b""
    while said.count(b" ") < 2:
        said += os.read(reading, 100)
    pids = sorted(map(int, said.split()))

    (one,) = found(*pids)
    os.close(letting_go)
    os.waitpid(first, 0)

    assert one.level == WRONG
    assert f"pid {pids[0]} and 1 more" in one.what
    assert one.mend == "", "root would run the container's own umount"
    assert f"restart what runs as pid {pids[0]} (" in one.why


# --- every place where a cut may fall ----------------------------------------------------------


def as_mounted(options: bytes, given: bytes = b"rw") -> Mount | None:
    """The line that the kernel would show for OPTIONS; None where it would not mount them."""
    parts = dict(part.split(b"=", 1) for part in options[:READ].split(b",") if b"=" in part)
    lower, upper = parts.get(b"lowerdir", b""), parts.get(b"upperdir")
    if not lower or lower.endswith(b":") or (upper is None) != (b"workdir" not in parts):
        return None
    last = lower.split(b":")[-1]
    if not (exists(last) and all(map(exists, filter(None, (upper, parts.get(b"workdir")))))):
        return None
    shown = b"lowerdir=" + lower
    if upper is not None:
        shown += b",upperdir=%s,workdir=%s" % (upper, parts[b"workdir"])
    flag = b"ro" if upper is None else b"rw"
    return Mount(b"0:9", b"/m", given, b"overlay", flag + b"," + shown, len(shown))


def exists(path: bytes) -> bool:
    """Whether PATH is a directory where snapshots 1 to 2,000 are."""
    path = b"/" + path.strip(b"/")
    if (SNAPSHOTS + b"/").startswith(path.rstrip(b"/") + b"/"):
        return True
    if not path.startswith(SNAPSHOTS + b"/"):
        return False
    parts = path.removeprefix(SNAPSHOTS).split(b"/")
    ends = ((), (b"fs",), (b"work",))
    return parts[1].isdigit() and 0 < int(parts[1]) <= 2000 and tuple(parts[2:]) in ends


PLACE = mounts.Place(Namespace(1, "init", ()), 1)
ORDERS = {
    "containerd": b"index=off,workdir=%(work)s,upperdir=%(upper)s,lowerdir=%(lower)s",
    "by hand": b"lowerdir=%(lower)s,upperdir=%(upper)s,workdir=%(work)s",
    "only layers": b"lowerdir=%(lower)s",
}


@pytest.mark.parametrize("order", ORDERS)
def test_wherever_the_cut_falls_it_is_seen(order: str) -> None:
    """The slashes before the first layer move the cut through 200 bytes, a byte at a time."""
    suspicious = certain = 0
    for shift in range(200):
        lower = b":".join(b"%s/%d/fs" % (SNAPSHOTS, number) for number in range(1100, 1000, -1))
        values = {b"lower": b"/" * shift + lower, b"upper": SNAPSHOTS + b"/1101/fs"}
        values[b"work"] = SNAPSHOTS + b"/1101/work"
        mount = as_mounted(ORDERS[order] % values)
        if mount is None:
            continue
        judged = list(mounts.judge(mount, PLACE, READ))
        assert judged, f"cut unseen: …{mount.super_options[-60:]!r}"
        suspicious += 1
        certain += judged[0].level == WRONG
    assert suspicious > certain > suspicious // 2 > 5


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("prefix", [SNAPSHOTS, STORE, b"/run/ctrdl", b"/a"])
def test_whatever_fits_is_never_called_wrong(order: str, prefix: bytes) -> None:
    for count in range(2, 500):
        lower = b":".join(b"%s/%d/fs" % (prefix, 1500 - at) for at in range(count))
        values = {b"lower": lower, b"upper": prefix + b"/1501/fs", b"work": prefix + b"/1501/work"}
        options = ORDERS[order] % values
        if len(options) > READ:
            break
        mount = Mount(b"0:9", b"/m", b"rw", b"overlay", b"rw," + options, len(options))
        assert [x.level for x in mounts.judge(mount, PLACE, READ)] in ([], [MAYBE])
        if READ - len(options) > 100:
            assert not list(mounts.judge(mount, PLACE, READ))


def test_lines_of_any_form_are_read() -> None:
    """Optional fields, none, an empty source, and lines that are no mounts."""
    text = (
        b"36 35 98:0 /mnt1 /mnt2 rw,noatime master:1 shared:2 - ext3 /dev/root rw\n"
        b"37 35 0:44 / /a\\040b rw - overlay none ro,lowerdir=/x:/y\n"
        b"nonsense\n\n38 35 0:1 / /c rw - \n"
    )
    read = list(mountinfo.parse(text))
    assert [(one.point, one.fstype) for one in read] == [(b"/mnt2", b"ext3"), (b"/a b", b"overlay")]


def test_a_mount_point_of_any_name_is_one_word_of_the_command() -> None:
    size = limits.of_this_kernel().mountinfo + 1
    mount = Mount(b"0:9", b"/m; reboot", b"rw", b"overlay", b"rw,lowerdir=/a:/b", size)
    here = mounts.Place(Namespace(os.getpid(), "doctor", ()), 1)
    (one,) = mounts.judge(mount, here, READ)
    assert one.mend == "umount -- '/m; reboot'"
    (root,) = mounts.judge(mount._replace(point=b"/"), here, READ)
    assert (root.level, root.mend) == (one.level, ""), "nobody is told to unmount the system"


def test_of_very_many_mounts_only_the_overlays_are_kept(tmp_path: Path) -> None:
    """A user may have 100,000 in each of many namespaces, and bind one overlay very often."""
    options = b"rw,lowerdir=/" + b"a" * 4000
    for pid in ("7", "8"):
        (tmp_path / pid / "ns").mkdir(parents=True)
        (tmp_path / pid / "ns/mnt").symlink_to(f"mnt:[{pid}]")
        (tmp_path / pid / "comm").write_text("many\n")
        with (tmp_path / pid / "mountinfo").open("wb") as file:
            for at in range(20_000):
                file.write(b"36 35 0:1 / /m%d rw - tmpfs none rw\n" % at)
            for at in range(5_000):
                file.write(b"36 35 0:9 / /o%d rw - overlay none %s\n" % (at, options))

    tracemalloc.start()
    found, _ = mountinfo.namespaces(str(tmp_path))
    most = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()

    assert [[one.point for one in each.mounts] for each in found] == [[b"/o0"], [b"/o0"]]
    assert found[0].mounts[0].super_options is found[1].mounts[0].super_options
    assert found[0].mounts[0].size == len(b"36 35 0:9 / /o0 rw - overlay none " + options)
    assert most < 1 << 20
