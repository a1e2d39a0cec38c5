"""Programs that mount by themselves, each in its way, under `ovl-linkd exec`."""

import errno
import os
import re
import subprocess
from pathlib import Path

import pytest

from ovl_linkd.overlay import mounting
from tests.intercept.world import LONG, LOOK, World, mounts_at, seen
from tests.kernel.world import all_of, joined, look, make_layers
from tests.waiting import wait_until

READ = os.sysconf("SC_PAGE_SIZE") - 1

pytestmark = pytest.mark.needs("root", "cc")


def test_128_layers_are_mounted_by_a_program_that_knows_nothing_of_it(
    world: World, mounter: Path
) -> None:
    """The report that all this comes from. Without us: an error, or 51 layers and "success"."""
    ids, options = world.layers(128)

    done = world.run(mounter, "plainly", world.file(options), world.merged)

    assert done.stdout == "mount: 0\n"
    assert look(os.fsencode(world.merged)) == all_of(ids)
    assert mounts_at(world.merged) == 1
    assert "by link store" in done.stderr


def test_who_reads_what_is_told_to_its_end_does_not_wait_for_what_the_command_left(
    world: World, mounter: Path
) -> None:
    """Standard error was held until nobody was under the filter any more. Before Linux 6.11 a
    command is that until it is waited for, and who reads first waited for ever: so did each test.
    """
    ids, options = world.layers(128)
    left = '(until [ -e $0 ]; do sleep 0.05; done; exec "$@") >/dev/null 2>&1 &'
    words = (world.place / "go", mounter, "plainly", world.file(options), world.merged)

    world.run("sh", "-c", left, *words)
    (world.place / "go").touch()

    wait_until(lambda: mounts_at(world.merged) == 1, "what is left mounts as before")
    assert look(os.fsencode(world.merged)) == all_of(ids)


@pytest.mark.parametrize("way", ["read-only", "signals"])
def test_whatever_the_program_is_like(world: World, mounter: Path, way: str) -> None:
    ids, options = world.layers(128)

    done = world.run(mounter, way, world.file(options), world.merged)

    assert done.stdout.startswith("mount: 0\n")
    assert look(os.fsencode(world.merged)) == all_of(ids)
    assert mounts_at(world.merged) == 1


@pytest.mark.parametrize("way", ["mount-namespace", "user-namespace"])
def test_from_another_namespace(world: World, mounter: Path, way: str) -> None:
    """With the caller's own rights, and where nobody outside sees it."""
    ids, options = world.layers(128)
    options = options.replace(b"index=off", b"userxattr") if way == "user-namespace" else options

    look_there = ("sh", "-c", LOOK, "look", world.merged)
    done = world.run(mounter, way, world.file(options), world.merged, *look_there)

    assert done.stdout == f"mount: 0\n{seen(ids)}"
    assert mounts_at(world.merged) == 0


def test_from_a_user_s_own_namespace(world: World, mounter: Path) -> None:
    """Nobody is anything there but in their namespace, where they may mount."""
    ids, options = world.layers(60)
    only_lower = options[options.index(b"lowerdir=") :]
    looking = ("sh", "-c", LOOK, "look")
    nobody = ("setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "unshare", "-rm")

    done = world.run(
        *(*nobody, mounter, "plainly", world.file(only_lower), world.merged, *looking, world.merged)
    )

    assert done.stdout == f"mount: 0\n{seen(ids)}"


@pytest.mark.parametrize("who", ["landlock", "nobody", "chained"])
def test_nobody_may_more_than_without_us(world: World, mounter: Path, who: str) -> None:
    """Who mounted in a caller's place would give it what it has not. It is the caller that mounts,
    with short options as with long ones: EPERM."""
    _, options = world.layers(60)
    file, way = world.file(options), "landlock" if who == "landlock" else "plainly"
    front: list[str] = {
        "landlock": [],
        "nobody": ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"],
        "chained": ["setpriv", "--bounding-set=-sys_admin", "--inh-caps=-sys_admin"],
    }[who]

    done = world.run(*front, mounter, way, file, world.merged)

    assert done.stdout == f"mount: {errno.EPERM}\n"
    assert "became" in done.stderr
    assert mounts_at(world.merged) == 0


def test_two_threads_with_working_directories_of_their_own(world: World, mounter: Path) -> None:
    """As Go programs mount: each thread unshared its own, and the paths are relative to that.

    The notification names the thread; by the process both would see the first one's directory.
    """
    places, options, ids = [], [], []
    for number, first in enumerate((1000, 2000)):
        store = world.place / f"store-{number}"
        (store / "merged").mkdir(parents=True)
        ids.append(range(first + 60, first, -1))
        make_layers(ids[-1], os.fsencode(store / LONG))
        paths = [f"{LONG}/{each}/fs" for each in ids[-1]]
        options.append("lowerdir=" + ":".join(paths))
        places.append(str(store))
        world.link(f"t{number}", store / LONG)

    text = "\n".join(options).encode()
    done = world.run(mounter, "threads", world.file(text), ":".join(places))

    assert done.stdout == "mount: 0\nmount: 0\n"
    for place, each in zip(places, ids, strict=True):
        assert look(os.fsencode(place) + b"/merged") == all_of(each)
        assert mounts_at(Path(place, "merged")) == 1


def test_in_a_chroot_the_link_must_lie_there(world: World, mounter: Path) -> None:
    """The link of the host leads nowhere in a container; one inside, to the container's layers."""
    root = world.place / "root"
    ids = range(160, 100, -1)
    inside = make_layers(ids, os.fsencode(root / "store" / LONG))
    options = joined([layer.removeprefix(os.fsencode(root)) for layer in inside])
    (root / "merged").mkdir()
    world.link("inside", Path("/store") / LONG, path=root / "short", inside=root)

    file = world.file(options)
    done = world.run(mounter, f"chroot:{root}", file, "/merged")

    assert done.stdout == "mount: 0\n"
    assert look(os.fsencode(root) + b"/merged") == all_of(ids)

    mounting.umount(str(root / "merged"))
    (root / "short").unlink()
    (root / "short").symlink_to("/merged")
    done = world.run(mounter, f"chroot:{root}", file, "/merged")
    assert done.stdout == f"mount: {errno.EINVAL}\n"
    assert "inside leads elsewhere for this caller, or nowhere" in done.stderr


def test_a_link_that_a_cleaner_took_is_waited_for(world: World, mounter: Path) -> None:
    """The daemon is about to put it right; a container must not fail to start for that."""
    ids, options = world.layers(128)
    back = f"sleep 0.1; ln -s {world.snapshots} {world.short}"
    shell = f'rm {world.short}; {{ {back}; }} & "$0" "$@"; code=$?; wait; exit $code'

    words = ("sh", "-c", shell, mounter, "plainly", world.file(options), world.merged)
    done = world.run(*words, fault="be_patient")

    assert done.stdout == "mount: 0\n"
    assert look(os.fsencode(world.merged)) == all_of(ids)


def test_a_link_that_leads_elsewhere_in_the_caller_s_mounts_does_not_count(
    world: World, mounter: Path
) -> None:
    """Another directory is mounted over the target, there alone: what the paths mean is what the
    caller sees. A symlink with that very path in it goes by the same mount."""
    _, options = world.layers(60)
    world.short.unlink()
    other = world.place / "other"
    other.mkdir()
    world.short.symlink_to(other)
    mounting.mount(str(world.snapshots), str(other), "", mounting.MS_BIND)
    file = world.file(options)
    shell = f'mount --bind {world.place} {world.snapshots}; exec "$0" "$@"'

    # Also a bind mount of the same directory is not it: other mounts may lie below.
    done = world.run(mounter, "plainly", file, world.merged)
    assert done.stdout == f"mount: {errno.EINVAL}\n"
    done = world.run(*("unshare", "-m", "sh", "-c", shell, mounter, "plainly", file, world.merged))
    assert done.stdout == f"mount: {errno.EINVAL}\n"
    assert "store leads elsewhere" in done.stderr


def test_what_can_not_be_written_is_refused_untouched(world: World, mounter: Path) -> None:
    """A file mapped read-only and shared: the kernel does not let anybody write there."""
    _, options = world.layers(60)

    done = world.run(mounter, "shared", world.file(options), world.merged)

    assert done.stdout == f"mount: {errno.EINVAL}\nunchanged: 1\n"
    assert "shared memory that is read-only" in done.stderr
    assert mounts_at(world.merged) == 0
    assert world.file(options).read_bytes() == options


def test_what_can_not_be_made_to_fit_is_refused_with_the_reason(
    world: World, mounter: Path
) -> None:
    """Where the kernel would have cut, and taken what was left for the whole."""
    _, options = world.layers(400, first=4000)

    done = world.run(mounter, "plainly", world.file(options), world.merged)

    assert done.stdout == f"mount: {errno.EINVAL}\n"
    assert re.search(r"refused: .* bytes too long even through the link.*would help", done.stderr)
    assert mounts_at(world.merged) == 0


@pytest.mark.parametrize("way", ["null", "unmapped", "page-end", "plainly"])
@pytest.mark.parametrize("count", [2, 40])
def test_what_fits_or_is_malformed_gets_what_it_would_get_without_us(
    world: World, mounter: Path, way: str, count: int
) -> None:
    """Not one errno is ours. The kernel copies what it can of a page, and takes zeros for the
    rest: options that end where memory ends, without a NUL, are valid."""
    ids, options = world.layers(count)
    # Slashes may be repeated at will: to the last byte that the kernel takes.
    options = options.replace(b"lowerdir=", b"lowerdir=" + b"/" * (READ - len(options)))
    file = world.file(options)
    alone = subprocess.run(
        [mounter, way, file, world.merged], capture_output=True, text=True, check=False
    )
    views = []
    if mounts_at(world.merged):
        views.append(look(os.fsencode(world.merged)))
        mounting.umount(str(world.merged))

    done = world.run(mounter, way, file, world.merged)

    assert done.stdout == alone.stdout
    assert done.returncode == alone.returncode
    if views:
        assert look(os.fsencode(world.merged)) == views[0] == all_of(ids)


def test_options_without_an_end_are_refused(world: World, mounter: Path) -> None:
    _, options = world.layers(60)

    done = world.run(mounter, "endless", world.file(options), world.merged)

    assert done.stdout == f"mount: {errno.EINVAL}\n"
    assert "no end" in done.stderr
