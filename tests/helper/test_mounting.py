"""Overlays of any length by `mount -t overlay`, fstab and a `mount_program`, on two Debians.

Each layer is counted and its place checked, by the files alone: a return code of 0 is what the
kernel gives, too, where it drops half of the layers.
"""

import os
import subprocess
from pathlib import Path

import pytest

from ovl_linkd.links.link import Link
from ovl_linkd.overlay import mounting
from ovl_linkd.published import Published, write
from tests import older_kernel
from tests.helper.world import Machine, escaped, lower, refused
from tests.kernel.world import features, make_upper, overlays_in_user_namespaces

pytestmark = pytest.mark.needs("root")

COUNTS = (1, 3, 4, 5, 52, 53, 128, 210, 500)


def test_any_number_of_layers_of_the_usual_length(machine: Machine) -> None:
    """4 of them failed on Debian 13, 53 on 12, 210 and 128 mounted what nobody had asked for."""
    ids = range(999, 499, -1)
    layers, upper = machine.layers(ids), machine.upper()
    for count in COUNTS:
        options = b"%b,%b" % (lower(layers[:count]), upper)
        assert len(layers[0]) == 85
        machine.mounted(options)
        machine.sees(ids[:count])
        assert "upperdir=" in machine.line()
        machine.umount()
        if count > 1:
            machine.mounted(lower(layers[:count]), "-r")
            machine.sees(ids[:count])
            assert machine.line().split()[5].startswith("ro,")
            machine.umount()


def test_what_is_written_goes_to_the_upper_layer(machine: Machine) -> None:
    machine.mounted(b"%b,%b" % (lower(machine.layers(range(128))), machine.upper()))
    (machine.userland.path(machine.target) / "new").write_text("new")
    assert Path(os.fsdecode(machine.store()), "1000/fs/new").read_text() == "new"


def test_by_fstab_with_what_fstab_has_beside_layers(machine: Machine) -> None:
    """`mount PATH` reads it; `nofail` and `_netdev` reach the helper, and no kernel knows them."""
    ids = range(999, 499, -1)
    layers, upper = machine.layers(ids), machine.upper()
    for count in (4, 53, 500):
        options = b"%b,%b,nosuid,nofail,_netdev,noauto,x-systemd.after=x,comment=c" % (
            lower(layers[:count]),
            upper,
        )
        line = b"overlay %b overlay %b 0 0\n" % (os.fsencode(machine.target), options)
        machine.userland.path("/etc/fstab").write_bytes(line)
        done = machine.run("mount", machine.target)
        assert (done.returncode, done.stderr) == (0, "")
        machine.sees(ids[:count])
        assert "nosuid" in machine.line().split()[5]
        machine.umount()


def test_as_podman_calls_its_mount_program(machine: Machine) -> None:
    """From its own directory, with relative layers and a relative target."""
    ids = range(700, 200, -1)
    for count in (3, 500):
        store = machine.store(name=f"p{count}")
        layers = [
            os.path.relpath(layer, machine.place.as_posix().encode())
            for layer in machine.layers(ids[:count], store)
        ]
        program = "/usr/sbin/mount.overlay"
        done = machine.run(program, "-o", lower(layers), "m", cwd=str(machine.place))
        assert (done.returncode, done.stderr) == (0, "")
        machine.sees(ids[:count])
        assert " - overlay overlay " in machine.line()
        machine.umount()


def test_single_paths_longer_than_a_value_of_fsconfig(machine: Machine) -> None:
    ids = range(30, 0, -1)
    for size in (300, 1000):
        store = machine.store(size)
        machine.mounted(b"%b,%b" % (lower(machine.layers(ids, store)), machine.upper(store)))
        machine.sees(ids)
        machine.umount()


ODD = {
    "spaces": "two  blanks ",
    "colons": "a:b::c",
    "commas": ",a,b",
    "backslashes": "a\\b\\\\c",
    "a newline": "a\nb\t",
    "not UTF-8": "\udcff\udcfe",
    "quotes": "\"a\"='b'",
    "beyond ASCII": "ström",
}


@pytest.mark.parametrize("name", ODD)
def test_whatever_the_bytes_of_the_paths(name: str, machine: Machine) -> None:
    """mount(8), the shell and the helper each have special letters of their own."""
    ids = range(800, 400, -1)
    store = machine.store(name=ODD[name])
    layers, upper = machine.layers(ids, store), machine.upper(store)
    machine.mounted(lower(layers[:2]))
    machine.sees(ids[:2])
    machine.umount()
    for count in (2, 40, 400):
        machine.mounted(b"%b,%b" % (lower(layers[:count]), upper))
        machine.sees(ids[:count])
        machine.umount()


def test_layers_below_different_roots_and_an_upper_below_another(machine: Machine) -> None:
    stores = [machine.store(85 + at, name=f"root{at}") for at in range(5)]
    other = machine.place / "tmpfs"
    other.mkdir()
    mounting.mount("tmpfs", os.fspath(other), "tmpfs")
    machine.userland.path(other).mkdir(exist_ok=True)
    inside = os.fspath(machine.userland.path(other))
    mounting.mount(os.fspath(other), inside, "none", mounting.MS_BIND)
    ids = range(500, 0, -1)
    layers = machine.layers(ids, stores[0])
    for at, layer in enumerate(layers):
        moved = layer.replace(stores[0], stores[at % 5])
        os.makedirs(os.path.dirname(moved), exist_ok=True)
        os.rename(layer, moved)
        layers[at] = moved
    upper = machine.upper(os.fsencode(other) + b"/a/rather/long/path/of/its/own")
    for count in (30, 500):
        options = b"%b,%b" % (lower(layers[:count]), upper)
        if count == 500 and not features().one_by_one:
            # From what they have in common their names are 37,000 bytes: that is no page.
            assert "mount(2) takes 4,095; " in refused(machine.mount(options))
            assert not machine.line()
            continue
        machine.mounted(options)
        machine.sees(ids[:count])
        machine.umount()


def test_data_only_layers(machine: Machine) -> None:
    ids = range(300, 200, -1)
    data = machine.layers(range(50), machine.store(name="data"))
    options = b"metacopy=on,redirect_dir=on," + lower(machine.layers(ids), data)
    if not features().one_by_one:
        said = refused(machine.mount(options))
        assert "data-only layers are not known to this kernel" in said or "takes 4,095; " in said
        assert not machine.line()
        return
    machine.mounted(options)
    machine.sees(ids)
    assert machine.line().count("datadir+=") == 50


OLDER = {
    "no fsopen": older_kernel.without_fsopen,
    "no lowerdir+": older_kernel.without_one_by_one,
    "no descriptors": older_kernel.without_descriptors,
}


@pytest.mark.parametrize("older", OLDER)
def test_on_kernels_that_know_less(older: str, machine: Machine) -> None:
    """Without link or daemon: by the working directory, whatever the layers are called."""
    ids = range(700, 200, -1)
    layers, upper = machine.layers(ids), machine.upper()
    for count in (40, 128, 500):
        machine.mounted(b"%b,%b" % (lower(layers[:count]), upper), before=OLDER[older])
        machine.sees(ids[:count])
        machine.umount()
    store = machine.store(600, name="deep")
    machine.mounted(lower(machine.layers(range(40), store)), before=OLDER[older])
    machine.sees(range(40))


def test_by_a_kept_link_while_it_leads_where_it_should(machine: Machine) -> None:
    """Short in /proc/mounts, and on any kernel. A link that somebody bent is not believed."""
    ids = range(300, 100, -1)
    layers = machine.layers(ids)
    link = Link("s", "/run/t", os.fsdecode(machine.store()))
    write(Published((link,), "/run/none", []))
    try:
        os.symlink(link.target, link.path)
        machine.mounted(lower(layers))
        machine.sees(ids)
        assert f"lowerdir={link.path}/300/fs:" in machine.line()
        machine.umount()

        os.unlink(link.path)
        os.symlink("/", link.path)
        machine.mounted(lower(layers))
        machine.sees(ids)
        assert link.path not in machine.line()
    finally:
        os.unlink(link.path)
        os.unlink("/run/ovl-linkd/published.json")


REMOUNTS = [
    ("remount,ro,nosuid", ["ro", "nosuid"], []),
    ("remount,rw,noatime", ["noatime"], ["ro"]),
    ("remount,bind,nodev", ["nodev"], []),
]


@pytest.mark.parametrize("count", [2, 100])
def test_flags_of_a_mount_may_be_changed(count: int, machine: Machine) -> None:
    """mount(8) of Debian 13 can't: it sends along every option, which the kernel refuses then."""
    ids = range(count)
    machine.mounted(b"%b,%b" % (lower(machine.layers(ids)), machine.upper()))
    for options, there, gone in REMOUNTS:
        done = machine.run("mount", "-o", options, machine.target)
        assert (done.returncode, done.stderr) == (0, ""), options
        flags = machine.line().split()[5].split(",")
        assert set(there) <= set(flags), options
        assert not set(gone) & set(flags), options
    machine.sees(ids)


def test_binding_moving_and_sharing_are_left_to_mount(machine: Machine) -> None:
    """As something may call it that takes it for mount(8) itself."""
    machine.mounted(lower(machine.layers(range(60))))
    other = machine.place / "other"
    other.mkdir()
    machine.userland.path(other).mkdir(exist_ok=True)
    long = ",x-nothing=" + "n" * 300
    for options in ("bind", "bind" + long):
        done = machine.run("mount.overlay", machine.target, other, "-o", options)
        assert (done.returncode, done.stderr) == (0, "")
        assert (machine.userland.path(other) / "only/59").exists()
        machine.run("umount", other)
    done = machine.run("mount", "--make-shared", machine.target)
    assert "shared:" in machine.line()


def test_fake_mounts_nothing_and_verbose_says_how(machine: Machine) -> None:
    options = lower(machine.layers(range(100)))
    assert machine.mount(options, "-f").returncode == 0
    assert not machine.line()
    said = machine.mount(options, "-v").stdout
    way = "lowerdir+" if features().one_by_one else "chdir"
    assert said == (
        f"mount.overlay: overlay mounted on {machine.target}: 100 layers, "
        f"by {way}: {len(options):,} bytes of options, and mount(2) takes 4,095\n"
    )


@pytest.mark.parametrize("closed", [">&-", "2>&-", "<&- >&- 2>&-"])
def test_it_needs_no_terminal_nor_anything_in_its_place(closed: str, machine: Machine) -> None:
    """What a daemon that mounts has closed, the shell calls a bad descriptor, and ends."""
    for count in (2, 60):
        ids = range(count)
        options = lower(machine.layers(ids, machine.store(name=f"c{count}")))
        line = f'mount.overlay overlay {machine.target} -o "$0" {closed}'
        assert machine.run("sh", "-c", line, options).returncode == 0
        machine.sees(ids)
        machine.umount()
        assert machine.run("sh", "-c", f"{line} -v >/dev/full", options).returncode == 0
        machine.umount()
        line = line.replace('"$0"', '"$0":/gone')
        assert machine.run("sh", "-c", line, options).returncode == 32


def test_into_another_mount_namespace(machine: Machine) -> None:
    """`mount -N`: the helper is started in the old one and told where to go."""
    options = lower(machine.layers(range(100)))
    root = machine.userland.root
    other = subprocess.Popen(["unshare", "-m", "sh", "-c", "echo; read x"], stdin=-1, stdout=-1)
    try:
        assert other.stdout
        other.stdout.readline()
        space = f"/proc/{other.pid}/ns/mnt"
        inside = machine.userland.path(machine.target)
        words = ("mount.overlay", "overlay", inside, "-N", space, "-o", options)
        done = machine.run(*words)
        assert (done.returncode, done.stderr) == (0, "")
        assert not machine.line()
        assert f" {inside} " in Path(f"/proc/{other.pid}/mountinfo").read_text()
    finally:
        other.communicate(b"\n")
    assert root.exists()


def takes_user_attributes(directory: bytes) -> bool:
    """Whether the file system of DIRECTORY does."""
    try:
        os.setxattr(directory, b"user.tried", b"")
    except OSError:
        return False
    os.removexattr(directory, b"user.tried")
    return True


def test_in_a_user_namespace_userxattr_is_added(machine: Machine) -> None:
    """Without it `rm -r` of a directory of a lower layer is an EIO, as under Podman."""
    for count in (2, 60):
        ids = range(count)
        store = machine.store(name=f"u{count}")
        layers = machine.layers(ids, store)
        make_upper(1000, store)
        upper = b"upperdir=%b/1000/fs,workdir=%b/1000/work" % (store, store)
        options = b"%b,%b" % (lower(layers), upper)
        target = machine.target
        # Before Linux 6.6 a tmpfs has no such attributes, and a removed directory nowhere to be.
        gone = "only" if takes_user_attributes(store) else "only/1"
        script = f"""
            mount.overlay -o "$0" {target} && rm -r {target}/pair/0 {target}/{gone}
            ls -A {target}
            grep -c userxattr /proc/self/mountinfo"""
        outside = ("unshare", "--user", "--map-root-user", "--mount")
        done = machine.run("sh", "-c", script, options, outside=outside)
        if not overlays_in_user_namespaces():
            assert "Operation not permitted" in done.stderr
            assert done.stdout == "0\n"
            continue
        left = "pair\n1\n" if gone == "only" else "only\npair\n1\n"
        assert (done.returncode, done.stderr, done.stdout) == (0, "", left)


def test_a_users_mount_by_fstab_goes_on_working(machine: Machine) -> None:
    """mount(8) drops its privilege for the helper; where there was no helper, the mount worked."""
    options = lower(machine.layers(range(2))) + b",noauto,user"
    line = b"overlay %b overlay %b 0 0\n" % (os.fsencode(machine.target), options)
    machine.userland.path("/etc/fstab").write_bytes(line)
    user = ("setpriv", "--reuid=65534", "--clear-groups")
    done = machine.run(*user, "mount", machine.target)
    assert (done.returncode, done.stderr) == (0, "")
    machine.sees(range(2))
    assert "nosuid" in machine.line()


def test_the_escapes_of_a_list_and_of_a_path_differ(machine: Machine) -> None:
    """A colon needs none in upperdir; a name that spells an escape is not taken for one."""
    store = machine.store(name="a:b\\c")
    ids = range(60)
    layers = machine.layers(ids, store)
    upper, work = make_upper(1000, store)
    paths = (escaped(upper, b"\\,"), escaped(work, b"\\,"))
    machine.mounted(b"%b,upperdir=%b,workdir=%b" % (lower(layers), *paths))
    machine.sees(ids)
