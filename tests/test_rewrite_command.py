"""`ovl-linkd rewrite` as it is called: what goes to which stream, and the exit code."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

import ovl_linkd
from ovl_linkd.overlay.limits import of_this_kernel

DAEMON = str(Path(ovl_linkd.__file__).parents[1])
LIMIT = of_this_kernel().mount
ONE_MIB = 1 << 20
# What is said where the early links are not enabled, as on no machine that runs tests.
LATE = b"systemctl enable ovl-linkd"


class World:
    """A store with a name as long as containerd's, a link to it and a configuration of them."""

    def __init__(self, directory: Path) -> None:
        self.store = directory / "io.containerd.snapshotter.v1.overlayfs" / "snapshots"
        self.store.mkdir(parents=True)
        self.link = directory / "l"
        self.link.symlink_to(self.store)
        self.config = directory / "config.yaml"
        # Anybody may write into the temporary directory above.
        self.config.write_text(
            f"links:\n  l:\n    path: {self.link}\n    target: {self.store}\n"
            "    allow-unsafe-parent: true\n"
        )
        self.config.chmod(0o644)
        self.commands = directory / "bin"
        self.commands.mkdir()

    def mount_says(self, version: str) -> None:
        """Put a mount(8) in front that gives this answer to --version."""
        command = self.commands / "mount"
        command.write_text(f"#!/bin/sh\necho 'mount from util-linux {version}'\n")
        command.chmod(0o755)

    @property
    def command(self) -> list[str | bytes]:
        return [sys.executable, "-m", "ovl_linkd", "rewrite", "--config", str(self.config)]

    @property
    def environment(self) -> dict[str, str]:
        path = f"{self.commands}:{os.environ['PATH']}"
        return {**os.environ, "PYTHONPATH": DAEMON, "PATH": path}

    def rewrite(
        self, *arguments: str | bytes, given: bytes | None = b""
    ) -> subprocess.CompletedProcess[bytes]:
        """Run it; without anything GIVEN, standard input is closed."""
        closed = ["sh", "-c", 'exec "$@" <&-', "sh"] if given is None else []
        return subprocess.run(
            [*closed, *self.command, *arguments],
            input=given,
            capture_output=True,
            env=self.environment,
            check=False,
        )

    def rewrite_unfinished(self, given: bytes) -> subprocess.CompletedProcess[bytes]:
        """Run it with GIVEN on a standard input that stays open."""
        pipe = subprocess.PIPE
        with subprocess.Popen(
            self.command, 0, stdin=pipe, stdout=pipe, stderr=pipe, env=self.environment
        ) as process:
            assert process.stdin
            assert process.stdout
            assert process.stderr
            process.stdin.write(given)
            code = process.wait(60)
            said = process.stdout.read(), process.stderr.read()
        return subprocess.CompletedProcess(self.command, code, *said)

    def options(self, layers: int, by: Path | None = None) -> bytes:
        root = os.fsencode(by or self.store)
        return b"lowerdir=" + b":".join(b"%b/%d/fs" % (root, at) for at in range(layers))


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


def refused(done: subprocess.CompletedProcess[bytes], code: int, *says: str) -> None:
    """One clear line, a hint, an empty standard output."""
    assert done.returncode == code
    assert done.stdout == b""
    lines = done.stderr.decode().splitlines()
    assert lines[0].startswith("ovl-linkd rewrite: ")
    assert lines[1].startswith("  hint: ")
    assert len(lines) == 2
    for each in says:
        assert each in done.stderr.decode()


def test_the_argument_is_shortened(world: World) -> None:
    done = world.rewrite(world.options(40))
    assert (done.returncode, done.stderr) == (0, b"")
    assert done.stdout == world.options(40, world.link) + b"\n"


def test_standard_input_is_shortened_and_expanded_again(world: World) -> None:
    given = world.options(40) + b",comment=\xff\xfe"
    short = world.rewrite(given=given + b"\n")
    assert short.stdout == world.options(40, world.link) + b",comment=\xff\xfe\n"
    assert world.rewrite("--expand", given=short.stdout).stdout == given + b"\n"


def test_an_argument_need_not_be_utf_8(world: World) -> None:
    given = os.fsencode(world.store) + b"/\xff\xfe"
    done = world.rewrite(b"lowerdir=" + given)
    assert done.stdout == b"lowerdir=" + os.fsencode(world.link) + b"/\xff\xfe\n"


def test_json_is_the_contract(world: World) -> None:
    given = world.options(40)
    done = world.rewrite("--json", given)
    short = world.options(40, world.link)
    assert json.loads(done.stdout) == {
        "schema_version": 1,
        "strategy": "link",
        "options": short.decode(),
        "bytes": {
            "before": len(given),
            "after": len(short),
            "limit": LIMIT,
            "limit_of": "mount(2)",
        },
        "layers": 40,
        "fits": True,
    }


def test_when_needed_leaves_short_options_alone_and_needs_no_link(world: World) -> None:
    world.link.unlink()
    given = world.options(2)
    done = world.rewrite("--when", "needed", given)
    assert (done.returncode, done.stdout) == (0, given + b"\n")


@pytest.mark.parametrize("form", ["raw", "mount"])
@pytest.mark.parametrize("extra", [[], ["--json"]])
def test_what_cannot_fit_is_not_printed(world: World, form: str, extra: list[str]) -> None:
    line = b"mount -t overlay o /t -o " if form == "mount" else b""
    given = line + b"lowerdir=" + b":".join([b"/not/under/the/link"] * (LIMIT // 20 + 1))
    refused(world.rewrite("--as", form, *extra, given=given), 1, "too long", "layers would fit")


def test_more_than_500_layers_are_refused(world: World) -> None:
    refused(
        world.rewrite(b"lowerdir=" + b":".join([b"/a"] * 512)),
        1,
        "512 lower layers, the kernel takes 500",
    )


def test_a_link_that_is_not_there_is_not_handed_out(world: World) -> None:
    world.link.unlink()
    refused(world.rewrite(world.options(2)), 1, "link l is missing", "ovl-linkd status")


def test_a_link_that_leads_elsewhere_is_not_handed_out(world: World) -> None:
    """The short name would mean other layers: the one thing that must never happen."""
    world.link.unlink()
    world.link.symlink_to("/tmp")
    refused(world.rewrite(world.options(2)), 1, "link l is wrong", "/tmp")


def test_a_link_that_a_directory_took_is_not_handed_out_and_the_directory_stays(
    world: World,
) -> None:
    world.link.unlink()
    world.link.mkdir()
    (world.link / "file").write_text("kept")
    refused(world.rewrite(world.options(2)), 1, "link l is blocked")
    assert (world.link / "file").read_text() == "kept"


def test_a_link_to_nothing_is_not_handed_out(world: World) -> None:
    world.store.rmdir()
    refused(world.rewrite(world.options(2)), 1, "link l is dangling")


def test_only_the_links_that_are_used_must_be_healthy(world: World) -> None:
    world.link.unlink()
    assert world.rewrite("lowerdir=/a:/b").stdout == b"lowerdir=/a:/b\n"
    short = world.options(1, world.link)
    assert world.rewrite("--expand", short).stdout == world.options(1) + b"\n"


@pytest.mark.parametrize(
    ("given", "says"),
    [
        (b"lowerdir=/a\\", "lone backslash"),
        (b"lowerdir=/a:", "empty layer"),
        (b"lowerdir=/a:::/b", "empty layer"),
        (b"lowerdir=", "lowerdir= is empty"),
        (b"lowerdir=/a\0/b", "NUL byte"),
        (b"x" * (ONE_MIB + 2), "1,048,576 bytes"),
    ],
)
@pytest.mark.parametrize("extra", [[], ["--expand"]])
def test_malformed_options_exit_2(world: World, given: bytes, says: str, extra: list[str]) -> None:
    refused(world.rewrite(*extra, given=given), 2, says)


def test_what_is_too_long_is_refused_before_its_end(world: World) -> None:
    """Ten megabytes, and more would come: standard input stays open."""
    refused(world.rewrite_unfinished(b"lowerdir=" + b"/a:" * 3_400_000), 2, "1,048,576")


def test_the_longest_text_that_is_read_is_judged(world: World) -> None:
    """One byte less than too much, and a newline: read whole, and too long for mount(2)."""
    given = b"lowerdir=/" + b"a" * (ONE_MIB - 10)
    refused(world.rewrite(given=given + b"\n"), 1, "1,048,576 bytes, mount(2) takes")


def test_expand_says_that_the_long_form_is_for_reading(world: World) -> None:
    layers = LIMIT // len(os.fsencode(world.store))
    done = world.rewrite("--expand", world.options(layers, world.link))
    assert done.stdout == world.options(layers) + b"\n"
    assert len(done.stdout) > LIMIT
    assert done.stderr.decode().endswith("for reading, not for mounting\n")


def test_expand_prints_no_json(world: World) -> None:
    refused(world.rewrite("--expand", "--json", "lowerdir=/a"), 2, "--json")


def test_a_named_configuration_that_is_missing_is_an_error(world: World) -> None:
    world.config.unlink()
    done = world.rewrite("lowerdir=/a:/b")
    assert (done.returncode, done.stdout) == (1, b"")
    assert b"Traceback" not in done.stderr
    assert os.fsencode(world.config) in done.stderr


def test_a_mount_line_keeps_its_form(world: World) -> None:
    world.mount_says("2.38.1 (libmount 2.38.1: selinux, smack, btrfs, debug)")
    line = b"mount -t overlay overlay /target -o 'index=off,%b' # mine"
    done = world.rewrite("--as", "mount", line % world.options(30))
    assert done.stdout == line % world.options(30, world.link) + b"\n"
    back = world.rewrite("--as", "mount", "--expand", given=done.stdout)
    assert back.stdout == line % world.options(30) + b"\n"


def test_a_mount_line_is_judged_by_the_mount_in_use(world: World) -> None:
    """util-linux 2.39 and later gave `wrong fs type` for what 2.38 mounted."""
    line = b"mount -t overlay overlay /target -o %b"
    short = line % world.options(30, world.link)
    world.mount_says("2.41 (libmount 2.41.0: selinux, idmapping, fd-based-mount, statx)")
    done = world.rewrite("--as", "mount", line % world.options(30))
    assert done.stdout == b"LIBMOUNT_FORCE_MOUNT2=always " + short + b"\n"
    world.mount_says("2.38.1 (libmount 2.38.1: selinux, smack, btrfs, debug)")
    assert world.rewrite("--as", "mount", line % world.options(30)).stdout == short + b"\n"


def test_a_mount_line_as_json_carries_the_line(world: World) -> None:
    world.mount_says("2.38.1 (libmount 2.38.1)")
    line = b"mount -t overlay overlay /target -o %b"
    done = world.rewrite("--as", "mount", "--json", line % world.options(2))
    shown = json.loads(done.stdout)
    assert list(shown) == ["schema_version", "mounts", "lines"]
    alone = json.loads(world.rewrite("--json", world.options(2)).stdout)
    assert shown["mounts"] == [{k: v for k, v in alone.items() if k != "schema_version"}]
    assert shown["lines"].encode() == line % world.options(2, world.link)


def test_many_mount_lines_as_json_are_one_object_with_the_lines_once(world: World) -> None:
    """Each mount had all the lines beside it: a script of 1,000 mounts made 100 MB."""
    world.mount_says("2.38.1 (libmount 2.38.1)")
    line = b"mount -t overlay overlay /target -o %b\n"
    done = world.rewrite("--as", "mount", "--json", given=line % world.options(2) * 1000)
    shown = json.loads(done.stdout)
    assert shown["lines"].encode() == line % world.options(2, world.link) * 1000
    assert [mount["layers"] for mount in shown["mounts"]] == [2] * 1000
    assert len(done.stdout) < 1_000_000


def test_lines_without_an_overlay_mount_pass_with_a_warning(world: World) -> None:
    """Options alone, `--as raw` forgotten, looked as if they had been taken care of."""
    for given in (world.options(2), b"mount /dev/sda1 /mnt"):
        done = world.rewrite("--as", "mount", given)
        assert (done.returncode, done.stdout) == (0, given + b"\n")
        assert done.stderr == (
            b"ovl-linkd rewrite: no overlay mount was found: nothing is changed\n"
        )
    done = world.rewrite("--as", "mount", "--json", "mount /dev/sda1 /mnt")
    assert json.loads(done.stdout) == {
        "schema_version": 1,
        "mounts": [],
        "lines": "mount /dev/sda1 /mnt",
    }


def test_options_alone_that_are_too_long_are_not_passed_as_lines(world: World) -> None:
    """They came out with exit code 0, and `| sh` would have run what followed."""
    done = world.rewrite("--as", "mount", given=world.options(300))
    refused(done, 2, "line 1: these look like overlay options", "without --as mount")


@pytest.mark.parametrize("extra", [[], ["--expand"], ["--as", "mount"]])
def test_a_closed_standard_input_is_said(world: World, extra: list[str]) -> None:
    """A service manager or `<&-` may leave none: that was a traceback."""
    done = world.rewrite(*extra, given=None)
    refused(done, 2, "no OPTIONS, and standard input is closed", "give them as an argument")


def test_a_mount_line_that_only_a_shell_knows_is_reported(world: World) -> None:
    done = world.rewrite("--as", "mount", "mount -t overlay o /t -o lowerdir=$LOWER")
    refused(done, 2, "line 1: only the shell knows what $LOWER stands for")


def test_an_unknown_format_is_a_usage_error(world: World) -> None:
    done = world.rewrite("--as", "toml", "lowerdir=/a")
    assert (done.returncode, done.stdout) == (2, b"")


def test_every_format_keeps_its_form(world: World) -> None:
    world.mount_says("2.38.1 (libmount 2.38.1)")
    for form, text in (
        ("fstab", b"# mine\noverlay  /t  overlay  %b  0 0\n"),
        ("unit", b"[Mount]\nWhat=o\nWhere=/t\nType=overlay\nOptions=%b\n"),
        ("oci", b'{"mounts": [{"type": "overlay", "options": ["%b"]}]}\n'),
        ("containerd", b'[{"type": "overlay", "options": ["%b"]}]\n'),
    ):
        done = world.rewrite("--as", form, given=text % world.options(30))
        assert (done.returncode, LATE in done.stderr) == (0, form in ("fstab", "unit"))
        assert done.stdout == text % world.options(30, world.link)
        back = world.rewrite("--as", form, "--expand", given=done.stdout)
        assert back.stdout == text % world.options(30)


def test_what_has_no_newline_at_its_end_gets_none(world: World) -> None:
    """A config.json is to be the same byte for byte; an argument becomes a line."""
    text = b'[{"type": "overlay", "options": ["%b"]}]'
    done = world.rewrite("--as", "containerd", given=text % world.options(3))
    assert done.stdout == text % world.options(3, world.link)
    done = world.rewrite("--as", "containerd", text % world.options(3))
    assert done.stdout == text % world.options(3, world.link) + b"\n"


def test_a_line_of_fstab_that_boots_could_not_read_is_not_printed(world: World) -> None:
    world.mount_says("2.38.1 (libmount 2.38.1)")
    line = b"overlay /t overlay noauto,%b 0 0\n" % (b"lowerdir=/" + b"a" * 4060)
    refused(world.rewrite("--as", "fstab", given=line), 1, "line 1: ", "a .mount unit")


def test_fstab_is_judged_by_the_mount_in_use(world: World) -> None:
    line = b"overlay /t overlay %b 0 0\n" % world.options(30)
    world.mount_says("2.41 (libmount 2.41.0: selinux, idmapping, fd-based-mount, statx)")
    refused(world.rewrite("--as", "fstab", given=line), 1, "mount.overlay", "rewrite --as unit")


# --- in place ----------------------------------------------------------------------------------


def test_files_are_rewritten_in_place_and_back(world: World, tmp_path: Path) -> None:
    world.mount_says("2.38.1 (libmount 2.38.1)")
    line = b"# mine\noverlay  /t  overlay  %b  0 0\n"
    one, two, link = tmp_path / "one", tmp_path / "two", tmp_path / "three"
    one.write_bytes(line % world.options(30))
    one.chmod(0o640)
    two.write_bytes(line % world.options(3))
    link.symlink_to("two")
    done = world.rewrite("--as", "fstab", "--in-place", str(one), str(link))
    assert (done.returncode, done.stdout) == (0, b"")
    assert LATE in done.stderr
    assert one.read_bytes() == line % world.options(30, world.link)
    assert one.stat().st_mode & 0o777 == 0o640
    assert link.is_symlink()
    assert two.read_bytes() == line % world.options(3, world.link)

    before = one.stat()
    done = world.rewrite("--as", "fstab", "--in-place", str(one))
    assert (done.returncode, done.stdout) == (0, b"")
    assert done.stderr.decode() == f"ovl-linkd rewrite: {one}: nothing to change\n"
    assert one.stat() == before

    world.rewrite("--as", "fstab", "--expand", "--in-place", str(one), str(two))
    assert one.read_bytes() == line % world.options(30)
    assert two.read_bytes() == line % world.options(3)


def test_one_file_that_cannot_be_rewritten_keeps_all_back(world: World, tmp_path: Path) -> None:
    good, bad = tmp_path / "good.json", tmp_path / "bad.json"
    text = b'[{"type": "overlay", "options": ["%b"]}]' % world.options(3)
    good.write_bytes(text)
    for content, code, says in (
        (text[:-1], 2, "line 1, column "),
        (text.replace(world.options(3), world.options(500)), 1, "bytes too long"),
    ):
        bad.write_bytes(content)
        done = world.rewrite("--as", "containerd", "--in-place", str(good), str(bad))
        refused(done, code, f"{bad}: ", says)
        assert (good.read_bytes(), bad.read_bytes()) == (text, content)
    for name in ("none", "."):
        done = world.rewrite("--in-place", str(tmp_path / name))
        assert (done.returncode, done.stdout) == (1, b"")
        assert str(tmp_path / name).rstrip(".") in done.stderr.decode()
    assert {path.name for path in tmp_path.iterdir()} >= {"good.json", "bad.json"}
    assert not list(tmp_path.glob(".*"))


def test_a_link_that_is_not_well_is_written_into_no_file(world: World, tmp_path: Path) -> None:
    file = tmp_path / "options"
    file.write_bytes(world.options(3))
    world.link.unlink()
    refused(world.rewrite("--in-place", str(file)), 1, f"{file}: link l is missing")
    assert file.read_bytes() == world.options(3)


def test_in_place_prints_nothing(world: World) -> None:
    for extra in ("--json", "--expand", "--when=needed"):
        done = world.rewrite(extra, "--in-place", "/none", given=None)
        assert done.stdout == b""
        assert done.returncode == (2 if extra == "--json" else 1)
    refused(world.rewrite("lowerdir=/a", "--in-place", "/none"), 2, "takes no OPTIONS")


# --- mountinfo ---------------------------------------------------------------------------------


def test_mountinfo_is_expanded_and_what_cannot_be_known_is_reported(world: World) -> None:
    line = b"41 29 0:38 / /m rw - overlay o rw,%b,upperdir=%b/3/fs\n"
    known = line % (world.options(2, world.link), os.fsencode(world.link))
    done = world.rewrite("--as", "mountinfo", "--expand", given=known)
    assert (done.returncode, done.stderr) == (0, b"")
    assert done.stdout == line % (world.options(2), os.fsencode(world.store))
    relative = line % (b"lowerdir=2/fs:1/fs", os.fsencode(world.link))
    done = world.rewrite("--as", "mountinfo", "--expand", given=known + relative)
    assert done.returncode == 1
    assert done.stdout.endswith(line % (b"lowerdir=2/fs:1/fs", os.fsencode(world.store)))
    (said,) = done.stderr.decode().splitlines()
    assert said.startswith("ovl-linkd rewrite: line 2: /m: 2 of 3 paths are relative")


def test_mountinfo_is_not_shortened(world: World) -> None:
    refused(world.rewrite("--as", "mountinfo", given=b""), 2, "can only be expanded", "--expand")


def test_this_machine_s_mountinfo_is_read(world: World) -> None:
    text = Path("/proc/self/mountinfo").read_bytes()
    done = world.rewrite("--as", "mountinfo", "--expand", given=text)
    assert done.returncode in (0, 1)
    assert done.stdout == text
