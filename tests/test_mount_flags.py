"""mount(8)'s options, parted by whose they are: the kernel's flags, the overlay's, nobody's."""

import pytest

from ovl_linkd.commands.mount_overlay import Call, read
from ovl_linkd.errors import UserError
from ovl_linkd.formats.mount_flags import take_out
from ovl_linkd.overlay import mounting
from ovl_linkd.overlay.options import parse


def taken(text: bytes) -> tuple[int, bytes, bytes | None]:
    asked = take_out(parse(text))
    return asked.flags, asked.options.format(), asked.other


@pytest.mark.parametrize(
    ("given", "flags", "left"),
    [
        (b"rw,lowerdir=/a:/b", 0, b"lowerdir=/a:/b"),
        (b"ro,nosuid,lowerdir=/a", mounting.MS_RDONLY | mounting.MS_NOSUID, b"lowerdir=/a"),
        (b"nosuid,suid,noexec,exec,noexec", mounting.MS_NOEXEC, b""),
        (b"ro,rw", 0, b""),
        (b"noatime,nodiratime", mounting.MS_NOATIME | mounting.MS_NODIRATIME, b""),
        (b"sync,async,dirsync,lazytime", mounting.MS_DIRSYNC | mounting.MS_LAZYTIME, b""),
        (b"ro=recursive,lowerdir=/a", mounting.MS_RDONLY, b"lowerdir=/a"),
        (b"nosuid=recursive,noexec=vfs,exec=fs", mounting.MS_NOSUID, b""),
        (b"nofail,_netdev,user=me,owner,auto,defaults,comment=a,index=off", 0, b"index=off"),
        (b"x-systemd.automount,X-mount.mkdir=0700,,xino=on,", 0, b"xino=on"),
        # A value, or a name that only begins alike, is the overlay's, or the kernel will say.
        (b"lowerdir=ro,readonly,ro=yes,userxattr", 0, b"lowerdir=ro,readonly,ro=yes,userxattr"),
        (b"index=fs,xino=recursive", 0, b"index=fs,xino=recursive"),
        (b'context="a:c1,ro",volatile', 0, b'context="a:c1,ro",volatile'),
    ],
)
def test_each_option_goes_to_whom_it_concerns(given: bytes, flags: int, left: bytes) -> None:
    assert taken(given) == (flags, left, None)


@pytest.mark.parametrize(
    "name", [b"bind", b"rbind", b"move", b"rprivate", b"shared", b"unbindable"]
)
def test_what_is_no_mount_of_layers_is_told_from_one(name: bytes) -> None:
    assert taken(b"rw," + name)[1:] == (b"", name)


def test_only_the_mounts_own_flags_change_by_remount_and_bind() -> None:
    flags, _, other = taken(b"remount,bind,ro")
    assert other is None
    assert flags == mounting.MS_REMOUNT | mounting.MS_BIND | mounting.MS_RDONLY
    assert take_out(parse(b"remount,ro")).remount
    assert not take_out(parse(b"bind,ro")).remount
    assert taken(b"remount,rbind,ro")[2] is None
    assert taken(b"remount,move")[2] == b"move"


def test_both_ways_to_call_the_helper() -> None:
    by_mount = [b"overlay", b"/m", b"-s", b"-f", b"-n", b"-v", b"-N", b"/ns", b"-o", b"a", b"-t"]
    call = Call(b"overlay", b"/m", b"a", fake=True, verbose=True, namespace=b"/ns")
    assert read([*by_mount, b"overlay"]) == call
    assert read([b"-o", b"lowerdir=a:b", b"m"]) == Call(b"overlay", b"m", b"lowerdir=a:b")
    assert read([b"-", b"/m", b"-sfnv", b"-o", b"a", b"-o", b"b"]).options == b"a,b"


@pytest.mark.parametrize("words", [[], [b"-o", b"a"], [b"a", b"b", b"c"], [b"a", b"b", b"-x"]])
def test_any_other_call_is_refused(words: list[bytes]) -> None:
    with pytest.raises(UserError) as caught:
        read(words)
    assert caught.value.code == 1
