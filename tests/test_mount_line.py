"""mount(8) lines: paths change, all else stays, and what only a shell knows is not guessed."""

import subprocess
from collections.abc import Sequence
from pathlib import Path

import pytest

from ovl_linkd.formats import mount8, mount_line, shell
from ovl_linkd.formats.judging import BY_VALUE, HELPER, MOUNT2, Means
from ovl_linkd.overlay.options import Malformed
from ovl_linkd.overlay.shorten import Prefix, Tables
from tests.bounds import steps
from tests.planning import LIMITS, LINK, STORE, layers

LINKS = [LINK, Prefix("odd", b"/srv/it's $5", b"/o")]


def rewritten(line: bytes, *, way: str = MOUNT2) -> bytes:
    """STORE is spelt as an @ in these lines."""
    return mount_line.rewrite(line.replace(b"@", STORE), Means(LINKS, LIMITS, way=way)).text


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        # As ctr snapshots mounts prints it.
        (
            b"mount -t overlay overlay /t -o index=off,lowerdir=@/2/fs:@/1/fs",
            b"mount -t overlay overlay /t -o index=off,lowerdir=/run/ctrdl/2/fs:/run/ctrdl/1/fs",
        ),
        (b"mount -toverlay o -olowerdir=@/1 /t", b"mount -toverlay o -olowerdir=/run/ctrdl/1 /t"),
        (
            b"mount --types overlay o --options lowerdir=@/1 /t",
            b"mount --types overlay o --options lowerdir=/run/ctrdl/1 /t",
        ),
        (
            b"mount --types=overlay --options=lowerdir=@/1 o /t",
            b"mount --types=overlay --options=lowerdir=/run/ctrdl/1 o /t",
        ),
        (b"mount --type overlay -o lowerdir=@ o", b"mount --type overlay -o lowerdir=/run/ctrdl o"),
        (b"mount -vto overlay lowerdir=@/1", None),
        (b"mount -vt overlay -no lowerdir=@/1", b"mount -vt overlay -no lowerdir=/run/ctrdl/1"),
        (
            b"mount -t overlay -o ro -o lowerdir=@/1:/b -o upperdir=@/2 o /t",
            b"mount -t overlay -o ro -o lowerdir=/run/ctrdl/1:/b -o upperdir=/run/ctrdl/2 o /t",
        ),
        # A label may look like an option.
        (b"mount -L -t -t overlay -o lowerdir=@", b"mount -L -t -t overlay -o lowerdir=/run/ctrdl"),
        (
            b"nice -n 5 mount -t overlay o /t -o lowerdir=@/1",
            b"nice -n 5 mount -t overlay o /t -o lowerdir=/run/ctrdl/1",
        ),
        (
            b"sudo -n /usr/bin/mount -t overlay o /t -o 'lowerdir=@/1'",
            b"sudo -n /usr/bin/mount -t overlay o /t -o 'lowerdir=/run/ctrdl/1'",
        ),
    ],
)  # fmt: skip
def test_options_are_found_wherever_mount_finds_them(line: bytes, expected: bytes | None) -> None:
    assert rewritten(line) == (expected or line).replace(b"@", STORE)


@pytest.mark.parametrize(
    ("word", "expected"),
    [
        (b"'lowerdir=@/1:/b'", b"'lowerdir=/run/ctrdl/1:/b'"),
        (b'"lowerdir=@/1:/b"', b'"lowerdir=/run/ctrdl/1:/b"'),
        (b"lowerdir='@/1':/b\\ c", b"lowerdir='/run/ctrdl/1':/b\\ c"),
        (b'lowerdir="@"/1', b'lowerdir="/run/ctrdl"/1'),
        (b"lower\\dir=@/1", b"lower\\dir=/run/ctrdl/1"),
        (b"low'erdir=@'/1", b"low'erdir=/run/ctrdl'/1"),
        (b"lowerdir=/a:\\\n@/1", b"lowerdir=/a:\\\n/run/ctrdl/1"),
        (b"context=\\\"u:r:t:s0:c1,c2\\\",lowerdir=@/1",
         b"context=\\\"u:r:t:s0:c1,c2\\\",lowerdir=/run/ctrdl/1"),
        # The quoting changes within the target: the word is quoted anew, as a whole.
        (b"lowerdir=/var\"/lib\"/containerd/io.containerd.snapshotter.v1.overlayfs/snapshots/1",
         b"'lowerdir=/run/ctrdl/1'"),
        (b"lowerdir=/srv/it\\'s\\ \\$5/1", b"lowerdir=/o/1"),
        # What continues the line within the target goes with it.
        (b"lowerdir=/srv/it\\'s\\\n\\ \\$5/1", b"lowerdir=/o/1"),
        (b"\"lowerdir=/srv/it's\\\n \\$5/1\"", b'"lowerdir=/o/1"'),
        (b"'lowerdir=/srv/it'\"'s \"'$5/1'", b"'lowerdir=/o/1'"),
        # A dollar sign that begins nothing, and a hash within a word, stand for themselves.
        (b"lowerdir=@/a$:/b$", b"lowerdir=/run/ctrdl/a$:/b$"),
        (b'"lowerdir=@/a$:/b$ "', b'"lowerdir=/run/ctrdl/a$:/b$ "'),
        (b"lowerdir=@/1:#x", b"lowerdir=/run/ctrdl/1:#x"),
        (b"\"lowerdir=/srv/it's \\$5/1\"", b'"lowerdir=/o/1"'),
    ],
)  # fmt: skip
def test_the_quoting_of_what_changes_is_kept(word: bytes, expected: bytes) -> None:
    line = b"mount -t overlay overlay -o %b /target"
    assert rewritten(line % word) == line % expected


@pytest.mark.parametrize(
    ("word", "expected"),
    [
        (b"lowerdir=/o/1", b"lowerdir=/srv/it\\'s\\ \\$5/1"),
        (b'"lowerdir=/o/1"', b'"lowerdir=/srv/it\'s \\$5/1"'),
        (b"'lowerdir=/o/1'", b"'lowerdir=/srv/it'\\''s $5/1'"),
    ],
)
def test_expand_quotes_what_the_shell_would_take_for_itself(word: bytes, expected: bytes) -> None:
    line = b"mount -t overlay overlay -o %b /target"
    assert mount_line.expand(line % word, LINKS) == line % expected


def test_a_newline_in_a_path_is_quoted_and_not_taken_for_the_end_of_a_line() -> None:
    links = [Prefix("n", b"/srv/a\nb", b"/n")]
    line = b"mount -t overlay o /t -o lowerdir=/n/1"
    long = b"mount -t overlay o /t -o 'lowerdir=/srv/a\nb/1'"
    assert mount_line.expand(line, links) == long


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (b"a <b >&2 c 2>&1 >d&e", [[b"a", b"b", b"2", b"c", b"2", b"1", b"d"], [b"e"]]),
        (b"a>b<c;(d|e)\nf", [[b"a", b"b", b"c"], [b"d"], [b"e"], [b"f"]]),
        (b"a \\\n \\\n  b\\\nc", [[b"a", b"bc"]]),
        (b"a # b", [[b"a"]]),
        (b"a#b '' c", [[b"a#b", b"", b"c"]]),
        (b'"a\\\nb" "\\a\\$\\`\\"\\\\"', [[b"ab", b'\\a$`"\\']]),
        (b"a\\", [[b"a\\"]]),
        (b"\\a\\ b", [[b"a b"]]),
    ],
)
def test_a_text_is_parted_as_a_shell_parts_it(text: bytes, words: list[list[bytes]]) -> None:
    found = shell.commands(text)
    assert [[word.value for word in command] for command in found] == words
    assert not any(word.unknown for command in found for word in command)


@pytest.mark.parametrize(("text", "offset"), [(b"ab 'c", 3), (b'ab "c\\"', 3), (b"a'b' 'c", 5)])
def test_where_an_open_quote_begins_is_said(text: bytes, offset: int) -> None:
    with pytest.raises(shell.Unclosed, match=f"at offset {offset} ") as caught:
        shell.commands(text)
    assert caught.value.offset == offset


def test_of_several_unknown_things_the_first_is_named() -> None:
    ((word,),) = shell.commands(b'a$B"$C"*')
    assert word.unknown == "$B"


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"\n\n  \n",
        b"# mount -t overlay o -o lowerdir=@/1 /t\n",
        b"mount /dev/sda1 /mnt -o ro\n",
        b"mount -t ext4 -o lowerdir=@/1 a b",
        b"umount -t overlay /t; findmnt -t overlay -o lowerdir=@/1",
        b"fuse-overlayfs -o lowerdir=@/1 /t",
        b"mount -t overlay overlay /t",
        b"T=$1 mount -t overlay overlay /t",
        b'mount -t "$TYPE" -o ro a b',
        b"mount -t overlay -- o -o lowerdir=@/1",
        b'echo "mount -t overlay -o lowerdir=@/1"',
    ],
)
def test_what_is_no_overlay_mount_passes_byte_for_byte(text: bytes) -> None:
    assert rewritten(text) == text.replace(b"@", STORE)


def test_a_script_keeps_everything_but_its_layers() -> None:
    script = (
        b"#!/bin/sh\nset -e   # stop at once\n\n"
        b'T="$1"\nif mount -t overlay overlay -o lowerdir=@/1:@/2 "$T" 2>&1; then\n'
        b"\techo 'done; really' > /dev/null\nfi\n"
        b"mount --bind /a /b && mount -t overlay \\\n  -o 'lowerdir=@/3' o /c || exit 1\n"
    )
    result = mount_line.rewrite(script.replace(b"@", STORE), Means(LINKS, LIMITS))
    assert result.text == script.replace(b"@", b"/run/ctrdl")
    assert [plan.layers for plan in result.plans] == [2, 1]
    assert mount_line.expand(result.text, LINKS) == script.replace(b"@", STORE)


@pytest.mark.parametrize(
    ("line", "says"),
    [
        (b"mount -t overlay o /t -o lowerdir=$LOWER", r"\$LOWER"),
        (b'mount -t overlay o /t -o "lowerdir=${LOWER}:/b"', r"\$\{LOWER\}"),
        (b"mount -t overlay o /t -o lowerdir=$(layers)", r"\$\("),
        (b"mount -t overlay o /t -o lowerdir=`layers`", "`"),
        (b"mount -t overlay o /t -o lowerdir=/a/*", r"\*"),
        (b"mount -t overlay o /t -o lowerdir=/a/{1,2}", r"\{"),
        (b"mount -t overlay o /t -o lowerdir=~/a:/b", "~"),
        (b"mount -t overlay o /t -o lowerdir=/a:~/b", "~"),
        (b"mount -t overlay o /t -o lowerdir=/a:\\\n~/b", "~"),
        (b"mount -t overlay o /t -o ~", "~"),
        (b"mount -t $TYPE o /t -o lowerdir=/a", r"\$TYPE"),
        (b"mount -t $TYPE o /t -o ro -o lowerdir=/a", r"\$TYPE"),
        (b"mount -t overlay o /t $OPTIONS", r"\$OPTIONS"),
        (b"mount $OPTIONS -t overlay o /t", r"\$OPTIONS"),
        (b"\xffx mount -t overlay o /t -o lowerdir=/a", r"\\xffx makes"),
        (b"sudo -n chroot mount -t overlay o /t -o lowerdir=/a", "sudo"),
        (b"mount -t overlay o /t -o 'lowerdir=/a\"b'", "a double quote without a second"),
        (b"chroot /x mount -t overlay o /t -o lowerdir=/a", "chroot"),
        (b"sudo nsenter -t 1 -m mount -t overlay o /t -o lowerdir=/a", "sudo"),
        (b"mount -t overlay o /t -o 'lowerdir=/a", "quote"),
        (b"mount -t overlay o /t -o lowerdir=/a::::/b", "4 colons"),
        (b"mount -t overlay o /t -o lowerdir=/a\0", "NUL"),
    ],
)
def test_a_line_that_cannot_be_known_is_reported_with_its_number(line: bytes, says: str) -> None:
    with pytest.raises(Malformed, match=says) as caught:
        mount_line.rewrite(b"# first\n\n" + line, Means(LINKS, LIMITS))
    assert "NUL" in says or caught.value.what.startswith("line 3: ")
    assert caught.value.hint


def test_what_can_t_be_expanded_is_reported_with_its_number_too() -> None:
    with pytest.raises(Malformed, match=r"^line 3: .*4 colons"):
        mount_line.expand(b"# first\n\nmount -t overlay o /t -o lowerdir=/a::::/b", LINKS)


def test_a_script_that_is_longer_than_any_options_is_not_looked_at() -> None:
    with pytest.raises(Malformed, match="bytes of command lines"):
        rewritten(b"#" * ((1 << 20) + 1))


def test_a_double_quote_that_has_a_second_one_is_a_letter() -> None:
    line = b"mount -t overlay o /t -o 'lowerdir=%b/a\"b\"'"
    assert rewritten(line % STORE) == line % b"/run/ctrdl"


def test_a_tilde_that_no_shell_expands_is_a_letter() -> None:
    for word in (b"lowerdir=@/a~:/b~c/~", b"'lowerdir=~/a:@/1'", b"lowerdir=\\~/a:@/1"):
        line = b"mount -t overlay o /t -o " + word
        assert rewritten(line) == line.replace(b"@", b"/run/ctrdl")


@pytest.mark.parametrize(
    "line",
    [
        b"%b",
        b"sh -c 'mount -t overlay o /t -o %b'",
        b'x="`mount -t overlay o /t -o %b`"',
        b"x=`mount -t overlay o /t -o %b`",
        b"$MNT -t overlay o /t -o %b",
        b"/sbin/mount.overlay x /mnt -o %b",
        b"mount x /t -o %b",
        b"mount -t auto,overlay x /t -o %b",
        b"mount -t overlay -t ext4 x /t -o %b",
        b"mount -t overlay %b /t -o lowerdir=/a:/b",
        b"OPTIONS=%b",
        b"$MNT -t overlay o /t -o low'erdir='%b",
    ],
)
@pytest.mark.parametrize("way", [MOUNT2, BY_VALUE])
def test_what_is_too_long_is_not_passed_where_no_mount_is_seen(line: bytes, way: str) -> None:
    """200 layers, 8.7 KB, came out as they went in, exit code 0, ready for `| sh`."""
    text = b"# first\nmount -t overlay o /t -o lowerdir=/a:/b\n" + line
    long = b"lowerdir=" + layers(200, b"/a/store/of/layers/that/is/no/link/s")
    assert len(long) > 8000
    with pytest.raises(Malformed, match=r"line 3: these look like overlay options") as caught:
        mount_line.rewrite(text % long, Means(LINKS, LIMITS, way=way))
    assert caught.value.hint
    assert mount_line.expand(text % long, LINKS) == text % long


def test_layers_that_only_together_are_too_long_are_not_passed_either() -> None:
    """mount(8) joins the values of several -o."""
    added = b" ".join(b"-o lowerdir+=/a/layer/of/no/link/%03d" % at for at in range(200))
    with pytest.raises(Malformed, match="line 1: these look like overlay options"):
        rewritten(b"$MNT -t overlay o /t " + added)


@pytest.mark.parametrize(("more", "passes"), [(0, True), (1, False)])
def test_what_no_mount_holds_passes_up_to_the_limit(more: int, passes: bool) -> None:
    text = b"$MNT -t overlay o /t -o lowerdir=/" + b"a" * (LIMITS.mount - 10 + more)
    if passes:
        assert rewritten(text) == text
    else:
        with pytest.raises(Malformed):
            rewritten(text)


def test_a_long_comment_is_no_mount() -> None:
    text = b"# mount -t overlay o /t -o lowerdir=%b\n" % layers(200, STORE)
    assert rewritten(text) == text


def test_a_mount_costs_no_more_however_many_the_links() -> None:
    """The table of the links is made once, not once a mount."""
    links = [Prefix(f"l{at}", b"/srv/stores/%d" % at, b"/l%d" % at) for at in range(5000)]

    def work(mounts: int, links: Sequence[Prefix]) -> int:
        text = b"".join(
            b"mount -t overlay o /t -o lowerdir=/srv/stores/%d/1:/b\n" % at for at in range(mounts)
        )
        means = Means(Tables(links), LIMITS)
        assert mount_line.rewrite(text, means).text == text.replace(b"/srv/stores/", b"/l")
        return steps(lambda: mount_line.rewrite(text, means))

    few = links[:100]
    assert work(100, links) - work(50, links) < 1.5 * (work(100, few) - work(50, few))


def test_what_a_shell_knows_may_stand_where_no_options_are() -> None:
    line = b'mount -t overlay overlay -o lowerdir=%b/1 "$TARGET"'
    assert rewritten(line % STORE) == line % b"/run/ctrdl"


@pytest.mark.parametrize(
    ("before", "forced"),
    [
        (b"", b"LIBMOUNT_FORCE_MOUNT2=always "),
        (b"sudo ", b"sudo LIBMOUNT_FORCE_MOUNT2=always "),
        (b"sudo -n -u root ", b"sudo -n -u root LIBMOUNT_FORCE_MOUNT2=always "),
        (b"LC_ALL=C ", b"LC_ALL=C LIBMOUNT_FORCE_MOUNT2=always "),
        (b"env -i ", b"env -i LIBMOUNT_FORCE_MOUNT2=always "),
        (b"doas ", b"doas env LIBMOUNT_FORCE_MOUNT2=always "),
        (b"exec ", b"exec env LIBMOUNT_FORCE_MOUNT2=always "),
        (b"LIBMOUNT_FORCE_MOUNT2=always ", b"LIBMOUNT_FORCE_MOUNT2=always "),
        (b"LIBMOUNT_FORCE_MOUNT2=always A=b ", b"LIBMOUNT_FORCE_MOUNT2=always A=b "),
        (
            b"LIBMOUNT_FORCE_MOUNT2=always LIBMOUNT_FORCE_MOUNT2= ",
            b"LIBMOUNT_FORCE_MOUNT2=always LIBMOUNT_FORCE_MOUNT2= LIBMOUNT_FORCE_MOUNT2=always ",
        ),
        (b"sudo nice ", b"sudo nice env LIBMOUNT_FORCE_MOUNT2=always "),
        (b"true; ", b"true; LIBMOUNT_FORCE_MOUNT2=always "),
        (b"if ! ", b"if ! LIBMOUNT_FORCE_MOUNT2=always "),
    ],
)
def test_a_mount_that_takes_255_bytes_is_told_to_use_mount2(before: bytes, forced: bytes) -> None:
    """From util-linux 2.39 on, 4 containerd-length layers failed with `wrong fs type`."""
    line = b"mount -t overlay o /t -o lowerdir=%b"
    result = rewritten(before + line % layers(128, STORE), way=BY_VALUE)
    assert result == forced + line % layers(128, b"/run/ctrdl")
    assert rewritten(before + line % layers(128, STORE)) == before + line % layers(
        128, b"/run/ctrdl"
    )


def test_255_bytes_a_value_need_no_help() -> None:
    line = b"mount -t overlay o /t -o lowerdir=%b,upperdir=/u"
    result = mount_line.rewrite(line % layers(14, STORE), Means(LINKS, LIMITS, way=BY_VALUE))
    assert result.text == line % layers(14, b"/run/ctrdl")
    plan = result.plans[0]
    assert (plan.before, plan.after, plan.limit, plan.limit_of) == (1063, 251, 255, "fsconfig(2)")
    assert rewritten(line % layers(15, STORE), way=BY_VALUE).startswith(b"LIBMOUNT_")


@pytest.mark.parametrize(("size", "force"), [(255, b""), (256, b"LIBMOUNT_FORCE_MOUNT2=always ")])
def test_a_value_of_255_bytes_is_taken_and_one_of_256_isn_t(size: int, force: bytes) -> None:
    line = b"mount -t overlay o /t -o rw,lowerdir=/%b" % (b"a" * (size - 1))
    for when in ("always", "needed"):
        means = Means(LINKS, LIMITS, when, way=BY_VALUE)
        assert mount_line.rewrite(line, means).text == force + line


def test_short_values_are_shortened_unless_that_is_not_needed() -> None:
    line = b"mount -t overlay o /t -o lowerdir=%b"
    assert rewritten(line % STORE, way=BY_VALUE) == line % b"/run/ctrdl"
    for size, becomes in ((255, STORE), (256, b"/run/ctrdl")):
        value = b"%b/" + b"a" * (size - len(STORE) - 1)
        means = Means(LINKS, LIMITS, "needed", way=BY_VALUE)
        made = mount_line.rewrite(line % (value % STORE), means)
        assert made.text == line % (value % becomes)


def test_options_without_any_value_have_no_longest_one() -> None:
    line = b"mount -t overlay o /t -o rw,volatile"
    result = mount_line.rewrite(line, Means(LINKS, LIMITS, way=BY_VALUE))
    assert (result.text, result.plans[0].after) == (line, 0)


def test_by_value_a_line_that_go_programs_could_not_read_is_refused_and_not_forced() -> None:
    options = b",".join(b"lowerdir+=/%0200d" % at for at in range(400))
    result = mount_line.rewrite(
        b"mount -t overlay o /t -o " + options, Means(LINKS, LIMITS, way=BY_VALUE)
    )
    assert result.text == b""
    assert result.plans[0].limit_of == "mountinfo"


def test_a_farm_s_names_stand_in_a_line_where_the_links_don_t_suffice() -> None:
    line = b"mount -t overlay o /t -o lowerdir=%b"
    paths = layers(300, STORE).split(b":")
    farm = [Prefix(f"/f/{at}", path, b"/f/%d" % at) for at, path in enumerate(paths)]
    made = mount_line.rewrite(line % layers(300, STORE), Means(LINKS, LIMITS, farm=farm))
    assert made.text == line % b":".join(b"/f/%d" % at for at in range(300))


def test_an_argument_has_an_end_with_the_helper_too() -> None:
    line = b"mount -t overlay o /t -o lowerdir=/%b" % (b"a" * 131_060)
    (plan,) = mount_line.rewrite(
        line, Means(LINKS, LIMITS._replace(mount=1 << 20), way=HELPER)
    ).plans
    assert (plan.fits, plan.limit, plan.limit_of) == (False, 131_060, "mount.overlay")


def test_added_layers_pass_by_fsconfig_however_many_bytes_they_are() -> None:
    """127 layers, 11 KB: each is a value of its own."""
    options = b",".join(b"lowerdir+=%b/%d/fs" % (b"/not/under/a/link" * 4, at) for at in range(127))
    line = b"mount -t overlay o /t -o " + options
    assert len(line) > 9000
    assert rewritten(line, way=BY_VALUE) == line
    assert rewritten(line) == b""


def test_when_needed_a_line_that_works_stays() -> None:
    def when_needed(count: int) -> bytes:
        line = b"mount -t overlay o /t -o lowerdir=%b" % layers(count, STORE)
        return mount_line.rewrite(line, Means(LINKS, LIMITS, "needed", way=BY_VALUE)).text

    assert STORE in when_needed(3)
    assert b"/run/ctrdl" in when_needed(4)


@pytest.mark.parametrize("way", [MOUNT2, BY_VALUE])
def test_one_mount_that_cannot_fit_keeps_all_lines_back(way: str) -> None:
    text = b"mount -t overlay o /a -o lowerdir=/x\nmount -t overlay o /b -o lowerdir=%b\n"
    result = mount_line.rewrite(text % layers(300, STORE), Means(LINKS, LIMITS, way=way))
    assert result.text == b""
    assert [plan.fits for plan in result.plans] == [True, False]
    assert result.plans[1].reason is not None
    assert "mount(2) takes 4,095" in result.plans[1].reason


def test_with_the_helper_only_a_line_that_skips_it_is_told_to_use_mount2() -> None:
    line = b"mount %b overlay o /t -o lowerdir=%b"
    long, short = layers(128, STORE), layers(128, b"/run/ctrdl")
    for options in (b"-t", b"-n -t", b"-vt"):
        assert rewritten(line % (options, long), way=HELPER) == line % (options, short)
    for options in (b"-i -t", b"-ni -t", b"--internal-only -t", b"--int -t"):
        forced = b"LIBMOUNT_FORCE_MOUNT2=always " + line % (options, short)
        assert rewritten(line % (options, long), way=HELPER) == forced


def test_what_skips_no_helper_needs_no_mount2() -> None:
    """env's -i is not mount's, and a mount(8) that knows no other way is not told to take one."""
    line = b"%b -t overlay o /t -o lowerdir=%b"
    long, short = layers(128, STORE), layers(128, b"/run/ctrdl")
    for way, command in ((HELPER, b"sudo env -i mount"), (MOUNT2, b"mount -i")):
        assert rewritten(line % (command, long), way=way) == line % (command, short)
    forced = b"LIBMOUNT_FORCE_MOUNT2=always mount"
    assert rewritten(line % (forced, layers(300, STORE)), way=HELPER) == line % (
        *(forced, layers(300, b"/run/ctrdl")),
    )


@pytest.mark.parametrize(
    ("script", "way"),
    [
        ("#!/bin/sh\n[ $1 = --version ] && echo '(libmount 2.39: fd-based-mount)'\n", BY_VALUE),
        ("#!/bin/sh\necho '(libmount 2.38.1: btrfs)'\n", MOUNT2),
        ("#!/bin/sh\necho fd-based-mount >&2; exit 1\n", MOUNT2),
        ("", MOUNT2),
    ],
)
def test_mount_8_itself_says_how_it_hands_options_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str, way: str
) -> None:
    if script:
        (tmp_path / "mount").write_text(script)
        (tmp_path / "mount").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(mount8, "HELPERS", ())
    assert mount8.way() == way


def test_a_mount_8_that_never_answers_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    def run(words: list[str], timeout: float, **_: object) -> None:
        raise subprocess.TimeoutExpired(words, timeout)

    monkeypatch.setattr(subprocess, "run", run)
    assert not mount8.takes_by_value()


def test_the_helper_is_looked_for_where_mount_8_does_below_a_root(tmp_path: Path) -> None:
    assert not mount8.has_helper(str(tmp_path))
    (tmp_path / "usr/sbin").mkdir(parents=True)
    (tmp_path / "usr/sbin/mount.overlay").write_text("#!/usr/bin/python3 -I\n# ovl-linkd\n")
    assert mount8.has_helper(str(tmp_path))


def test_only_a_helper_of_ours_lifts_what_mount_8_takes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Somebody else's mount.overlay may hand on as little as mount(8) itself."""
    ours = Path(__file__).parents[1] / "daemon/mount-helper/mount.overlay"
    theirs = tmp_path / "mount.overlay"
    theirs.write_text('#!/bin/sh\nexec mount -i -t overlay "$@"\n')
    for helper, there in ((ours, True), (theirs, False), (tmp_path / "none", False)):
        monkeypatch.setattr(mount8, "HELPERS", (str(helper),))
        assert (mount8.way() == HELPER) == there
