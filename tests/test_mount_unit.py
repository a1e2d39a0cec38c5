"""systemd's .mount units: the options that count, as mount(8) will be given them."""

import pytest

from ovl_linkd.formats import mount_unit
from ovl_linkd.formats.judging import BY_VALUE, HELPER, MOUNT2, Means
from ovl_linkd.overlay.options import Malformed
from ovl_linkd.overlay.shorten import Prefix
from tests.planning import LIMITS, LINK, STORE, layers

LINKS = [
    LINK,
    Prefix("odd", b"/srv/100% a\\b:c,d", b"/o"),
    Prefix("bytes", b"/srv/\xff", b"/b"),
    Prefix("newline", b"/srv/a\nb", b"/n"),
]
UNIT = b"""\
[Unit]
Description=Options=lowerdir=@/1
# Options=lowerdir=@/1

[Mount]
What=overlay
Where=/merged
Type = overlay
Options=%b

[Install]
WantedBy=local-fs.target
"""


def unit(options: bytes) -> bytes:
    """STORE is spelt as an @ in these options."""
    head, tail = UNIT.split(b"%b")
    return head + options.replace(b"@", STORE) + tail


def rewritten(options: bytes, way: str = MOUNT2) -> bytes:
    return mount_unit.rewrite(unit(options), Means(LINKS, LIMITS, way=way)).text


@pytest.mark.parametrize(
    ("options", "short"),
    [
        (b"lowerdir=@/2:/b,upperdir=@/3", b"lowerdir=/run/ctrdl/2:/b,upperdir=/run/ctrdl/3"),
        (b"  lowerdir=@/1  ", b"  lowerdir=/run/ctrdl/1  "),
        (b"lowerdir=@/100%%", b"lowerdir=/run/ctrdl/100%%"),
        (rb"lowerdir=/srv/100%% a\\\\b\:c\,d/1", b"lowerdir=/o/1"),
        # What is undone on the way to mount(8) is undone for other spellings, too.
        (rb"lowerdir=/srv/100%% a\\\\b\\:c\,d/1:@/x\:y", rb"lowerdir=/o/1:/run/ctrdl/x\:y"),
        # A backslash that continues a line becomes a blank of the path before it.
        (b"ro,\\\n,lowerdir=@/1\\\n:@/2", b"ro,\\\n,lowerdir=/run/ctrdl/1\\\n:/run/ctrdl/2"),
        (
            b"ro,\\\n# lowerdir=@/1,\\\n; and\n,lowerdir=@/1",
            b"ro,\\\n# lowerdir=@/1,\\\n; and\n,lowerdir=/run/ctrdl/1",
        ),
        (b"lowerdir=@/1\r", b"lowerdir=/run/ctrdl/1\r"),
        (b"ro,\\\r\n,lowerdir=@/1", b"ro,\\\r\n,lowerdir=/run/ctrdl/1"),
        (b"ro,\\\n # 100%\n,lowerdir=@/1", b"ro,\\\n # 100%\n,lowerdir=/run/ctrdl/1"),
        (b"lowerdir=@/1:/a" + b"\\" * 4, b"lowerdir=/run/ctrdl/1:/a" + b"\\" * 4),
    ],
)  # fmt: skip
def test_only_paths_in_the_options_change(options: bytes, short: bytes) -> None:
    assert rewritten(options) == unit(short)


@pytest.mark.parametrize(
    "options", [b"lowerdir=/run/ctrdl/1", b"lowerdir=/a%%:/o/1,upperdir=/o", b""]
)
def test_expand_undoes_it(options: bytes) -> None:
    long = mount_unit.expand(unit(options), LINKS)
    assert long == unit(
        options.replace(b"/run/ctrdl", STORE).replace(b"/o", rb"/srv/100%% a\\\\b\:c\,d")
        if b"upper" not in options
        else rb"lowerdir=/a%%:/srv/100%% a\\\\b\:c\,d/1,upperdir=/srv/100%% a\\\\b:c\,d"
    )
    assert mount_unit.rewrite(long, Means(LINKS, LIMITS)).text == unit(options)


def test_the_last_assignment_counts_and_the_others_stay() -> None:
    """As systemd has it: the last one, wherever its section is opened again."""
    text = (
        b"[Mount]\nOptions=lowerdir=@/1\nType=ext4\nOptions=lowerdir=@/2\n"
        b"[Unit]\nOptions=lowerdir=@/3\n[Mount]\nType=overlay\n"
    ).replace(b"@", STORE)
    result = mount_unit.rewrite(text, Means(LINKS, LIMITS))
    assert result.text == text.replace(STORE + b"/2", b"/run/ctrdl/2")
    for undone in (b"Type=ext4\n", b"Options=\n", b"Type=\n"):
        kept = mount_unit.rewrite(text + undone, Means(LINKS, LIMITS))
        assert kept.text == text + undone


def test_a_unit_of_another_file_system_passes_byte_for_byte() -> None:
    for text in (
        *(b"", b"\n", b"[Mount]\nType=overlay\n", b"[Mount]\nOptions=lowerdir=/a\n"),
        unit(b"lowerdir=@/1").replace(b"overlay\nOptions", b"ext4\nOptions"),
    ):
        assert mount_unit.rewrite(text, Means(LINKS, LIMITS)) == (text, ())
        assert mount_unit.expand(text, LINKS) == text


@pytest.mark.parametrize(
    "text",
    [
        b"\xef\xbb\xbf[Mount]\nType=overlay\nOptions=lowerdir=@/1\n",
        b"  [Mount]\t\n Type=overlay\nOptions=lowerdir=@/1\n",
        b"Type=ext4\n[Mount]\nType=overlay\nOptions=lowerdir=@/1\n",
        # What assigns nothing takes nothing back.
        b"[Mount]\nType=overlay\nOptions=lowerdir=@/1\nOptions\n",
        b"[Mount]\nType=overlay\nOptions=lowerdir=@/1\\",
        b"[Mount]\nType=overlay\nOptions=lowerdir=@/1",
    ],
)
def test_lines_are_read_as_systemd_reads_them(text: bytes) -> None:
    result = mount_unit.rewrite(text.replace(b"@", STORE), Means(LINKS, LIMITS))
    assert result.text == text.replace(b"@", b"/run/ctrdl")


def test_a_short_name_that_no_unit_can_hold_is_not_written() -> None:
    links = [Prefix("odd", STORE, b"/\xff")]
    with pytest.raises(Malformed, match=r"line 9: a unit can't hold these paths"):
        mount_unit.rewrite(unit(b"lowerdir=@/1"), Means(links, LIMITS))


def test_only_an_environment_forces_mount_2() -> None:
    text = unit(b"lowerdir=" + layers(20, b"/run/ctrdl")).replace(
        b"What=", b"X-Note=LIBMOUNT_FORCE_MOUNT2=always\nWhat="
    )
    made = mount_unit.rewrite(text, Means(LINKS, LIMITS, way=BY_VALUE)).text
    assert b"\nEnvironment=LIBMOUNT_FORCE_MOUNT2=always\n" in made


def test_a_line_that_is_no_utf_8_is_left_out_as_systemd_does() -> None:
    text = b"[Mount]\nType=overlay\nOptions=lowerdir=@/1\nOptions=lowerdir=@/\xff\n"
    result = mount_unit.rewrite(text.replace(b"@", STORE), Means(LINKS, LIMITS))
    assert result.text == text.replace(b"@/1", b"/run/ctrdl/1").replace(b"@", STORE)


@pytest.mark.parametrize("options", [b"lowerdir=/b/1", b"lowerdir=/n/1", b"upperdir=/n"])
def test_what_no_unit_can_hold_is_not_written(options: bytes) -> None:
    with pytest.raises(Malformed, match=r"line 9: a unit can't hold these paths") as caught:
        mount_unit.expand(unit(options), LINKS)
    assert caught.value.hint


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (unit(b"lowerdir=/a:::/b"), "line 9: .*3 colons"),
        (unit(b"lowerdir=%t/layers/1:/b"), "line 9: only systemd knows what %t stands for"),
        (unit(b"lowerdir=/a:/100%"), "line 9: only systemd knows what % stands for"),
        (unit(b"lowerdir=/a\\") + b"[Mount", r"line 13: \[Mount is no section"),
        (unit(b"index=off,\\\nlowerdir=/a:/b"), "line 9: a blank stands before lowerdir="),
        (b"[Mount\nType=overlay\n", r"line 1: \[Mount is no section"),
        (b"[Mount]x\nType=overlay\n", r"line 1: \[Mount\]x is no section"),
        (b"#" * ((1 << 20) + 1), "1,048,577 bytes of a unit"),
        (unit(b"lowerdir=/a\0"), "NUL"),
    ],
)
def test_a_malformed_unit_is_reported_with_the_line(text: bytes, says: str) -> None:
    for call in (
        lambda: mount_unit.rewrite(text, Means(LINKS, LIMITS)),
        lambda: mount_unit.expand(text, LINKS),
    ):
        with pytest.raises(Malformed, match=says) as caught:
            call()
        assert caught.value.hint


def test_what_is_too_long_by_value_is_mounted_by_mount_2() -> None:
    """From util-linux 2.39 on, 4 containerd-length layers failed with `wrong fs type`."""
    forced = unit(b"@").replace(
        b"Options=@".replace(b"@", STORE),
        b"Environment=LIBMOUNT_FORCE_MOUNT2=always\nOptions=lowerdir=" + layers(128, b"/run/ctrdl"),
    )
    long = b"lowerdir=" + layers(128, STORE)
    assert rewritten(long, BY_VALUE) == forced
    assert mount_unit.rewrite(forced, Means(LINKS, LIMITS, way=BY_VALUE)).text == forced
    for way in (MOUNT2, HELPER):
        assert rewritten(long, way) == unit(b"lowerdir=" + layers(128, b"/run/ctrdl"))
    assert rewritten(b"lowerdir=" + layers(14, STORE), BY_VALUE) == unit(
        b"lowerdir=" + layers(14, b"/run/ctrdl")
    )


@pytest.mark.parametrize(
    ("before", "after", "said"),
    [
        ("A=b", "A=c", "forced"),
        ('"A=b c" "LIBMOUNT_FORCE_MOUNT2=always"', "A=c", "as it is"),
        ("", "LIBMOUNT_FORCE_MOUNT2=always", "as it is"),
        ("LIBMOUNT_FORCE_MOUNT2=never", "A=b", "forced"),
        ("XLIBMOUNT_FORCE_MOUNT2=always", "A=b", "forced"),
        ("A=b", "", "undone"),
        ("LIBMOUNT_FORCE_MOUNT2=always", "LIBMOUNT_FORCE_MOUNT2=never", "undone"),
    ],
)
def test_the_last_environment_counts(before: str, after: str, said: str) -> None:
    """An empty one forgot what was put before the options, and the mount failed."""
    text = f"[Mount]\nType=overlay\nEnvironment={before}\n@Options=%b\nEnvironment={after}\n"
    options = b"lowerdir=" + layers(20, b"/run/ctrdl")
    given = text.encode().replace(b"@", b"") % options
    if said == "undone":
        with pytest.raises(
            Malformed, match="line 4: an Environment= after the options undoes"
        ) as caught:
            mount_unit.rewrite(given, Means(LINKS, LIMITS, way=BY_VALUE))
        assert caught.value.hint
        return
    force = b"Environment=LIBMOUNT_FORCE_MOUNT2=always\n" if said == "forced" else b""
    made = mount_unit.rewrite(given, Means(LINKS, LIMITS, way=BY_VALUE))
    assert made.text == text.encode().replace(b"@", force) % options


def test_what_cannot_fit_is_not_written() -> None:
    result = mount_unit.rewrite(unit(b"lowerdir=" + layers(300, STORE)), Means(LINKS, LIMITS))
    assert result.text == b""
    (plan,) = result.plans
    assert "mount(2) takes 4,095" in str(plan.reason)
    with_helper = rewritten(b"lowerdir=" + layers(300, STORE), HELPER)
    assert with_helper == unit(b"lowerdir=" + layers(300, b"/run/ctrdl"))
