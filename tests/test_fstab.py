"""Lines of fstab: paths change, all else stays, and what would be cut at boot is not written."""

import json
import subprocess
from pathlib import Path

import pytest

from ovl_linkd.formats import fstab
from ovl_linkd.formats.judging import BY_VALUE, HELPER, MOUNT2, Means
from ovl_linkd.overlay.options import Malformed
from ovl_linkd.overlay.shorten import Prefix
from tests.planning import LIMITS, LINK, STORE, layers

LINKS = [
    LINK,
    Prefix("odd", b"/srv/a place\t\\/of:its,own", b"/o"),
]


def rewritten(text: bytes, way: str = MOUNT2) -> bytes:
    """STORE is spelt as an @ in these lines."""
    return fstab.rewrite(text.replace(b"@", STORE), Means(LINKS, LIMITS, way=way)).text


def test_comments_columns_and_other_lines_stay() -> None:
    text = (
        b"# overlay /old overlay lowerdir=@/1 0 0\n"
        b"#overlay /old overlay lowerdir=@/1 0 0\n"
        b"UUID=0a3407de  /       ext4     errors=remount-ro  0  1\n"
        b"\t overlay\t /merged   overlay\tlowerdir=@/2:@/1,upperdir=@/3\t0   0  # ours\n"
        b"overlay /@ ext4 lowerdir=@/1 0 0\n"
        b"none swap\n"
        b"overlay /last overlay noauto,lowerdir=@/1"
    )
    result = fstab.rewrite(text.replace(b"@", STORE), Means(LINKS, LIMITS))
    expected = text.replace(b"@", STORE).split(b"\n")
    for at in (3, 6):
        expected[at] = expected[at].replace(STORE, b"/run/ctrdl")
    assert result.text == b"\n".join(expected)
    assert [plan.layers for plan in result.plans] == [2, 1]
    assert fstab.expand(result.text, LINKS) == text.replace(b"@", STORE)


@pytest.mark.parametrize(
    ("field", "short"),
    [
        (rb"lowerdir=/a\040b:@/1", rb"lowerdir=/a\040b:/run/ctrdl/1"),
        (rb"lowerdir=@/a\040b\134:c", rb"lowerdir=/run/ctrdl/a\040b\134:c"),
        # As libmount reads it: what is no octal escape is two letters.
        (rb"lowerdir=@/\9\04\:c", rb"lowerdir=/run/ctrdl/\9\04\:c"),
        (
            rb"lowerdir=/srv/a\040place\011\134\134/of\134:its\134,own/1",
            rb"lowerdir=/o/1",
        ),
        (rb"lowerdir=/\166ar" + STORE[4:] + b"/1", rb"lowerdir=/run/ctrdl/1"),
        (b"lowerdir=@/\xff\xfe", b"lowerdir=/run/ctrdl/\xff\xfe"),
    ],
)
def test_octal_escapes_are_undone_and_made(field: bytes, short: bytes) -> None:
    assert rewritten(b"o /t overlay " + field) == b"o /t overlay " + short


def test_expanded_paths_are_escaped_as_both_readers_undo_it() -> None:
    r"""getmntent(3) knows only ``\040``, ``\011``, ``\012`` and ``\134``."""
    assert (
        fstab.expand(b"o /t overlay lowerdir=/o/1 0 0\n", LINKS)
        == rb"o /t overlay lowerdir=/srv/a\040place\011\134\134/of\134:its\134,own/1 0 0" + b"\n"
    )


@pytest.mark.needs("findmnt")
def test_libmount_reads_what_was_planned(tmp_path: Path) -> None:
    file = tmp_path / "fstab"
    line = rb"o /t\040t overlay lowerdir=/srv/a\040place\011\134\134/of\134:its\134,own/1:/b\040c"
    result = fstab.rewrite(line + b" 0 0\n", Means(LINKS, LIMITS))
    for text, options in (
        (result.text, result.plans[0].options),
        (fstab.expand(result.text, LINKS), b"lowerdir=/srv/a place\t\\\\/of\\:its\\,own/1:/b c"),
    ):
        file.write_bytes(text)
        command = ["findmnt", "--tab-file", str(file), "--json", "--output", "OPTIONS"]
        read = subprocess.run(command, capture_output=True, check=True).stdout
        assert json.loads(read)["filesystems"][0]["options"].encode() == options


@pytest.mark.parametrize(
    ("line", "says"),
    [
        (b"overlay /t overlay", "an overlay without options"),
        (b"overlay /t overlay lowerdir=/a b:/c 0 0", r"b:/c stands where a number belongs"),
        (b"overlay /t overlay lowerdir=/a 0 zero", r"zero stands where a number belongs"),
        (b"overlay /t overlay lowerdir=/a 0x 0", r"0x stands where a number belongs"),
        (b"overlay /t overlay lowerdir=/a \xff 0", r"\\xff stands where a number belongs"),
        (b"overlay /t overlay lowerdir=/a:::/b 0 0", "3 colons"),
        (rb"overlay /t overlay lowerdir=/a\134 0 0", "lone backslash"),
        (rb"overlay /t overlay lowerdir=/a\000 0 0", "NUL"),
        (b"overlay /t overlay lowerdir= 0 0", "lowerdir= is empty"),
    ],
)
def test_a_malformed_line_is_reported_with_its_number(line: bytes, says: str) -> None:
    for call in (
        lambda text: fstab.rewrite(text, Means(LINKS, LIMITS)),
        lambda text: fstab.expand(text, LINKS),
    ):
        with pytest.raises(Malformed, match=f"^line 3: .*{says}") as caught:
            call(b"# first\n\n" + line + b"\n")
        assert caught.value.hint


def test_a_line_that_the_boot_would_cut_is_refused_though_mount_2_takes_its_options() -> None:
    """systemd's generator reads 4,095 bytes of a line: a last layer lost its end."""
    line = b"overlay /merged overlay noauto,nofail,x-systemd.automount,lowerdir=%b 0 0\n"
    most = (4095 - len(line % b"") + 1 + 1) // (len(b"/run/ctrdl/100/fs") + 1)
    kept = fstab.rewrite(line % layers(most, STORE), Means(LINKS, LIMITS))
    assert kept.text == line % layers(most, b"/run/ctrdl")
    assert 4078 <= len(kept.text) - 1 <= 4095
    result = fstab.rewrite(b"# x\n" + line % layers(most + 1, STORE), Means(LINKS, LIMITS))
    assert result.text == b""
    (plan,) = result.plans
    assert (plan.fits, plan.options, plan.limit_of) == (False, b"", "a line of fstab")
    assert plan.after <= 4095 + 18
    assert plan.reason is not None
    assert "line 2" in plan.reason
    assert ".mount unit" in str(plan.remedy)


def test_what_needs_mount_2_is_refused_where_mount_goes_by_value() -> None:
    """No line of fstab can set LIBMOUNT_FORCE_MOUNT2 for the mount(8) of the boot."""
    line = b"overlay /t overlay lowerdir=%b 0 0\n"
    assert rewritten(line % layers(14, STORE), BY_VALUE) == line % layers(14, b"/run/ctrdl")
    result = fstab.rewrite(line % layers(15, STORE), Means(LINKS, LIMITS, way=BY_VALUE))
    assert result.text == b""
    (plan,) = result.plans
    assert (plan.options, plan.after, plan.limit) == (b"", 269, 255)
    assert plan.limit_of == "fsconfig(2)"
    assert str(plan.reason).startswith("269 bytes in one option, of which this machine's mount(8)")
    assert "mount.overlay" in str(plan.remedy)
    for way in (MOUNT2, HELPER):
        assert rewritten(line % layers(15, STORE), way) == line % layers(15, b"/run/ctrdl")


def test_with_the_helper_only_the_line_counts() -> None:
    line = b"o /t overlay lowerdir=" + layers(220, b"/srv/l") + b" 0 0\n"
    assert len(line) < 4095
    assert rewritten(line, HELPER) == line
    assert rewritten(line + b"o /t overlay lowerdir=" + layers(400, b"/srv/l"), HELPER) == b""


@pytest.mark.parametrize(("size", "fits"), [(4095, True), (4096, False)])
def test_a_line_counts_from_its_own_beginning_to_its_end(size: int, fits: bool) -> None:
    before = b"# a comment\n" * 500
    line = b"o /t overlay lowerdir=@/1 0 0 #".replace(b"@", STORE)
    short = line.replace(STORE, b"/run/ctrdl")
    pad = b"#" * (size - len(short))
    result = fstab.rewrite(before + line + pad + b"\n", Means(LINKS, LIMITS))
    assert result.text == (before + short + pad + b"\n" if fits else b"")
    (plan,) = result.plans
    assert (plan.fits, fits or plan.after, fits or plan.limit) == (fits, fits or 4096, fits or 4095)


def test_what_mount_2_doesn_t_take_is_not_blamed_on_the_line() -> None:
    line = b"o /t overlay lowerdir=%b 0 0\n" % layers(300, STORE)
    (plan,) = fstab.rewrite(line, Means(LINKS, LIMITS)).plans
    assert (plan.fits, plan.limit_of) == (False, "mount(2)")


@pytest.mark.parametrize("text", [b"\0", b"#" * ((1 << 20) + 1)])
def test_what_is_no_fstab_is_not_looked_at(text: bytes) -> None:
    for call in (lambda: fstab.rewrite(text, Means([], LIMITS)), lambda: fstab.expand(text, [])):
        with pytest.raises(Malformed, match=r"lines of fstab|NUL byte at offset 0"):
            call()
