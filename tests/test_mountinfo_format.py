"""mountinfo, expanded: the true layers of what is mounted, and no guess about the rest."""

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ovl_linkd.formats import mountinfo
from ovl_linkd.overlay import mounting
from ovl_linkd.overlay.options import SPELLING, Malformed
from ovl_linkd.overlay.shorten import Prefix
from tests.intercept.world import World

LINKS = [
    Prefix("store", b"/var/lib/a store", b"/run/l"),
    Prefix("odd", b"/srv/a:b,c\\d\ne", b"/run/odd"),
    Prefix("farm", b"/var/lib/x/1/fs", b"/run/f/a1"),
]
BEFORE = "29 1 0:26 / / rw shared:1 - ext4 /dev/x rw\n41 29 0:38 / /m\\040m rw,relatime shared:2 "


def line(options: str) -> bytes:
    return f"{BEFORE}- overlay over\\040lay rw,{options},uuid=on\n".encode()


ODD = "lowerdir=/run/odd/x\\134:y:/run/l,upperdir=/run/odd/x:y,datadir+=/run/odd/z"
ODD_LONG = (
    "lowerdir=/srv/a\\134:b\\134\\054c\\134\\134d\\012e/x\\134:y:/var/lib/a\\040store,"
    "upperdir=/srv/a:b\\134\\054c\\134\\134d\\012e/x:y,"
    "datadir+=/srv/a:b\\054c\\134d\\012e/z"
)


@pytest.mark.parametrize(
    ("shown", "long"),
    [
        ("lowerdir=/run/l/2:/b,upperdir=/run/l/3", "lowerdir=@/2:/b,upperdir=@/3"),
        ("lowerdir=/run/l:/b,workdir=/run/l/w", "lowerdir=@:/b,workdir=@/w"),
        ("lowerdir+=/run/l/2,datadir+=/run/f/a1", "lowerdir+=@/2,datadir+=/var/lib/x/1/fs"),
        ("lowerdir=/run/f/a1:/run/f/a12::/run/l", "lowerdir=/var/lib/x/1/fs:/run/f/a12::@"),
        # Each path keeps the escapes that its option calls for.
        (ODD, ODD_LONG),
        ("lowerdir=/a:/b,index=off", "lowerdir=/a:/b,index=off"),
        ("lowerdir,lowerdir+=/a,datadir+=/run/l", "lowerdir,lowerdir+=/a,datadir+=@"),
    ],
)
def test_overlays_expand_to_their_layers_and_all_else_stays(shown: str, long: str) -> None:
    assert mountinfo.expand(line(shown), LINKS) == line(long.replace("@", "/var/lib/a\\040store"))
    assert list(mountinfo.relative(line(shown))) == []


@pytest.mark.parametrize("name", ["lowerdir+", "lowerdir", "upperdir"])
def test_of_links_that_nest_the_inner_one_says_what_is_there(name: str) -> None:
    links = [Prefix("outer", b"/x/", b"/run/n"), Prefix("inner", b"/y/", b"/run/n/m")]
    assert mountinfo.expand(line(f"{name}=/run/n/m/1"), links) == line(f"{name}=/y/1")
    assert mountinfo.expand(line(f"{name}=/run/n/1"), links) == line(f"{name}=/x/1")


def test_a_machine_may_have_more_mounts_than_any_mount_has_options() -> None:
    text = b"41 29 0:38 / /m rw - tmpfs tmpfs rw\n" * 50_000
    assert len(text) > 1 << 20
    assert mountinfo.expand(text + line("lowerdir=/run/l/1"), LINKS).startswith(text)


def test_another_file_system_stays_whatever_its_options() -> None:
    text = b"41 29 0:38 / /m rw - fuse.overlay overlay rw,lowerdir=/run/l/1\n"
    assert mountinfo.expand(text, LINKS) == text


def test_a_relative_layer_is_reported_and_stays() -> None:
    """containerd mounts so past 3.5 KiB; where it was then is nowhere in mountinfo."""
    text = line("lowerdir=193/fs:192/fs:/run/l/1,upperdir=/run/l/3")
    assert b"lowerdir=193/fs:192/fs:/var/lib/a\\040store/1," in mountinfo.expand(text, LINKS)
    (said,) = mountinfo.relative(text)
    assert said.startswith("line 2: /m m: 2 of 4 paths are relative, the first is 193/fs: ")


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (b"overlay /m overlay rw,lowerdir=/a 0 0", "line 1: no line of mountinfo"),
        (line("lowerdir=/a:/b") + b"41 29 0:38 / /m rw - overlay", "line 3: no line of mountinfo"),
        (line("lowerdir=/run/l/1:"), "line 2: an empty layer"),
        (b"\0", "NUL"),
    ],
)
def test_what_is_no_mountinfo_is_reported_with_its_line(text: bytes, says: str) -> None:
    with pytest.raises(Malformed, match=says) as caught:
        mountinfo.expand(text, LINKS)
    assert caught.value.hint


@given(st.lists(st.sampled_from(
    [b" ", b"-", b"overlay", b"\n", b"rw,", b"lowerdir=", b"/run/l", b":", b",", b"\\", b"\\054",
     b"\\134", b"upperdir=", b"lowerdir+=", b"1 2 3 / /m rw - overlay o rw,", b"\xff", b"/a"]
), max_size=40).map(b"".join))  # fmt: skip
def test_whatever_the_bytes_nothing_but_malformed_is_raised(text: bytes) -> None:
    try:
        mountinfo.expand(text, LINKS)
        list(mountinfo.relative(text))
    except Malformed:
        return
    assert mountinfo.expand(text, []) == text


@pytest.mark.needs("root")
def test_what_the_kernel_shows_names_the_layers_again(scratch: Path) -> None:
    """By the link, by lowerdir+, with names that take every escape."""
    world = World(scratch)
    names = ["plain", "a b", "co:lon", "com,ma", "back\\slash", "new\nline"]
    store = world.snapshots / "st,o:re"
    layers = [store / name for name in names]
    for directory in (store, *layers, store / "up,per", store / "work"):
        directory.mkdir()
    world.short.unlink()
    world.short.symlink_to(store)

    def spelt(path: Path, special: str) -> str:
        return "".join(f"\\{char}" if char in special else char for char in str(path))

    def options(root: Path) -> str:
        lower = ":".join(spelt(root / name, "\\:,") for name in names)
        upper, work = (spelt(root / name, "\\,") for name in ("up,per", "work"))
        return f"lowerdir={lower},upperdir={upper},workdir={work}"

    link = Prefix("l", os.fsencode(store), os.fsencode(world.short))
    expanded = mountinfo.expand(shown(world, options(world.short)), [link])
    wanted = shown(world, options(store))
    assert b"\\134\\134" in wanted
    assert paths(expanded) == paths(wanted)


def shown(world: World, options: str) -> bytes:
    """The line of an overlay with OPTIONS."""
    mounting.mount_overlay("overlay", str(world.merged), options.encode())
    lines = Path("/proc/self/mountinfo").read_bytes().splitlines(keepends=True)
    mounting.umount(str(world.merged))
    (line,) = [line for line in lines if os.fsencode(world.merged) in line]
    return line


def paths(line: bytes) -> list[bytes]:
    options = line.split(b" - ")[1].split()[2].split(b",")
    return [option for option in options if option.partition(b"=")[0] in SPELLING]
