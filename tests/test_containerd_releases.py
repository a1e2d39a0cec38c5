"""What `doctor` and `init --containerd` make of the releases of containerd, and of its files.

Debian's own containerd says whether it takes what `init` prints; older and newer ones are played.
"""

import os
import re
import subprocess
import tomllib
from pathlib import Path

import pytest

from ovl_linkd.commands import init_drop_in
from ovl_linkd.doctor import containerd
from ovl_linkd.doctor.finding import NOTE, OK, WRONG, Finding
from ovl_linkd.links.link import Link
from ovl_linkd.machine import containerd as machine
from ovl_linkd.machine import units
from ovl_linkd.machine.containerd import PLUGIN, Containerd
from ovl_linkd.machine.containerd_mounts import Room, room
from ovl_linkd.overlay import mounting
from ovl_linkd.overlay.limits import Limits
from tests.daemon.world import command
from tests.kernel.world import in_a_private_world
from tests.system.containerd.images import UNPACKED

TOP = Path(__file__).parents[1]
STORE = f"/var/lib/containerd/{PLUGIN}"
LINKS = [Link("ctrd", "/run/ctrd", STORE), Link("ctrdl", "/run/ctrdl", f"{STORE}/snapshots")]
PAGE = Limits(mount=4_095, fsconfig=255, layers=500, mountinfo=65_000)
PROGRAMS = str(UNPACKED / "usr/bin")
CONFIG = Path("/etc/containerd/config.toml")

real = pytest.mark.needs("root")


# --- which release needs what ------------------------------------------------------------------


def says(release: tuple[int, int, int], root_path: str | None = None) -> Finding:
    its = Containerd("its file", True, root_path=root_path, release=release)
    (one,) = containerd.findings(LINKS, [its])
    return one


def test_the_room_is_what_was_seen() -> None:
    """By hand from the source: a page less 512 bytes without commas, and the whole page."""
    its = Containerd("", True, release=(1, 6, 20))
    prefix = len(STORE + "/snapshots")
    fixed = len("index=offworkdir=/workupperdir=/fslowerdir=") + 2 * (prefix + len("/999"))
    layer = prefix + len("/999/fs:")
    assert room(its, STORE, PAGE) == Room(absolute=(3_583 - fixed + 1) // layer, relative=500)
    assert room(its, "/run/ctrd", PAGE).absolute == 129
    older = its._replace(release=(1, 1, 3))
    assert room(older, STORE, PAGE) == Room(absolute=51, relative=0)


def test_longer_numbers_leave_less_room(tmp_path: Path) -> None:
    """A node that has unpacked many images: five digits."""
    (tmp_path / PLUGIN / "snapshots" / "10234").mkdir(parents=True)
    its = Containerd("", True, root=str(tmp_path), release=(1, 6, 20))
    assert room(its, "/run/ctrd", PAGE) == Room(absolute=120, relative=444)


def test_one_before_compaction_needs_exec() -> None:
    one = says((1, 1, 2))
    assert (one.level, one.what.partition(",")[0]) == (WRONG, "containerd 1.1.2 mounts 51 layers")
    assert "`ovl-linkd exec`, under which /run/ctrdl makes room for 223" in one.why


@pytest.mark.parametrize("release", [(1, 1, 4), (1, 2, 0), (1, 4, 13)])
def test_compaction_alone_is_enough_for_the_number_of_layers(release: tuple[int, int, int]) -> None:
    one = says(release)
    assert one.level == NOTE
    assert "500 layers without it, but past 44 by relative paths" in one.what
    assert "needs no help" in one.why


@pytest.mark.parametrize("release", [(1, 5, 0), (1, 6, 20), (2, 1, 0)])
def test_from_1_5_on_root_path_keeps_them_absolute(release: tuple[int, int, int]) -> None:
    one = says(release)
    assert (one.level, one.mend) == (NOTE, "ovl-linkd init --containerd")
    assert "mounts 500 layers without it, but past 44 by relative paths" in one.why
    assert one.why.endswith("through /run/ctrd 129 stay absolute")


def test_a_root_path_that_it_doesn_t_know_helps_nobody() -> None:
    one = says((1, 4, 13), "/run/ctrd")
    assert one.level == WRONG
    assert "containerd 1.4.13 knows no root_path" in one.what


def test_one_that_runs_under_exec_has_what_it_needs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(units, "DIRECTORIES", (str(tmp_path),))
    (tmp_path / "containerd.service.d").mkdir()
    unit = tmp_path / "containerd.service"
    unit.write_text("[Service]\nExecStart=/usr/bin/containerd\n")
    assert says((1, 1, 2)).level == WRONG
    (tmp_path / "containerd.service.d/exec.conf").write_text(
        "[Service]\nExecStart=\nExecStart=/usr/bin/ovl-linkd exec -- /usr/bin/containerd\n"
    )
    assert says((1, 1, 2)) == Finding(OK, "containerd 1.1.2 is started by ovl-linkd exec")


@pytest.mark.parametrize(
    ("start", "made"),
    [
        ("/usr/bin/containerd", "/usr/bin/ovl-linkd exec -- /usr/bin/containerd"),
        ("-/x/containerd --config %E/c", "-/usr/bin/ovl-linkd exec -- /x/containerd --config %E/c"),
        ("", "/usr/bin/ovl-linkd exec -- /usr/bin/containerd"),
        ("+containerd -c /x", "+/usr/bin/ovl-linkd exec -- containerd -c /x"),
        ("@/x/containerd ctrd -l x", "/usr/bin/ovl-linkd exec -- /x/containerd -l x"),
    ],
)
def test_exec_goes_in_front_of_what_the_unit_starts(start: str, made: str) -> None:
    text = init_drop_in.for_exec("containerd.service", start, "/usr/bin/ovl-linkd").text
    assert text.endswith(f"\nExecStart=\nExecStart={made}\nSyslogIdentifier=containerd\n")
    if not start:
        assert text == (TOP / "systemd/containerd-exec.conf.example").read_text()


@pytest.mark.parametrize(
    ("said", "release"),
    [
        ("containerd github.com/containerd/containerd v1.1.2 468a545b9edcd5932818e", (1, 1, 2)),
        ("containerd github.com/containerd/containerd 1.6.20~ds1 1.6.20~ds1-1+deb12u3", (1, 6, 20)),
        ("containerd containerd.io 1.7.27 05044ec0a9a75232cad458027ca83437aae3f4da", (1, 7, 27)),
        ("containerd github.com/containerd/containerd/v2 v2.1.0-rc.1 061792f0ecf3", (2, 1, 0)),
        ("containerd something else", None),
    ],
)
def test_it_is_asked_which_one_it_is(
    said: str,
    release: tuple[int, int, int] | None,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    program = tmp_path / "containerd"
    program.write_text(f"#!/bin/sh\necho '{said}'\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    assert machine.read(str(tmp_path / "none")).release == release


# --- files of each version ---------------------------------------------------------------------


def containerd_says(*words: str) -> str:
    command = [f"{PROGRAMS}/containerd", *words]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def fragment() -> str:
    """What goes into containerd's configuration, without the drop-in, as `init` prints it."""
    done = command("init", "--containerd", "--config", str(TOP / "config/examples/containerd.yaml"))
    # The offer of a guarded link goes to whoever reads it, not into the file.
    assert (done.returncode, re.sub("(?m)^#.*\n", "", done.stderr)) == (0, "")
    return done.stdout.partition("# /etc/systemd/")[0]


def etc(text: str | None) -> None:
    """An /etc of one's own, in which containerd's configuration says TEXT; and containerd."""
    os.environ["PATH"] = f"{PROGRAMS}:{os.environ['PATH']}"
    mounting.mount("tmpfs", "/etc", "tmpfs", 0, b"mode=0755")
    CONFIG.parent.mkdir()
    if text is not None:
        CONFIG.write_text(text)


@real
@pytest.mark.parametrize(
    "text",
    [
        pytest.param(None, id="no file"),
        pytest.param("", id="empty"),
        pytest.param('disabled_plugins = ["cri"]\n', id="version 1"),
        pytest.param('version = 2\n[plugins."io.containerd.gc.v1.scheduler"]\n', id="version 2"),
    ],
)
@in_a_private_world
def test_what_init_prints_is_taken_by_containerd_itself(text: str | None) -> None:
    """Appended as it stands; a version put before a file of version 1 would have it refused."""
    etc(text)
    printed = fragment()
    CONFIG.write_text((text or "") + printed)
    dumped = tomllib.loads(containerd_says("--config", str(CONFIG), "config", "dump"))
    assert dumped["plugins"][PLUGIN]["root_path"] == "/run/ctrd"
    for asked in (True, False):
        read = machine.read(str(CONFIG), ask=asked)
        assert (read.root_path, read.refused, read.trouble) == ("/run/ctrd", None, None)


@real
@in_a_private_world
def test_a_file_that_has_the_table_is_not_given_another_one() -> None:
    """`containerd config default` writes one; with two of them containerd doesn't start."""
    etc(containerd_says("config", "default"))
    printed = fragment()
    comment, line = printed.strip().split("\n")
    assert f'in its table [plugins."{PLUGIN}"]' in comment
    before, heading, after = CONFIG.read_text().partition(f'[plugins."{PLUGIN}"]\n')
    CONFIG.write_text(before + heading + after.replace('    root_path = ""', line, 1))
    assert machine.read(str(CONFIG)).root_path == "/run/ctrd"


@pytest.mark.parametrize("version", [3, 4])
def test_a_file_of_containerd_2_has_the_same_table(version: int, tmp_path: Path) -> None:
    file = tmp_path / "config.toml"
    file.write_text(f"version = {version}\n")
    empty = machine.read(str(file), ask=False)
    assert (empty.table, empty.has_table) == (f'[plugins."{PLUGIN}"]', False)
    file.write_text(f"version = {version}\n{empty.table}\nroot_path = '/run/ctrd'\n")
    read = machine.read(str(file), ask=False)
    assert (read.root_path, read.has_table, read.trouble) == ("/run/ctrd", True, None)


def test_a_dump_of_containerd_2_is_understood(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is of version 3, or 4, whatever the file is of, and quotes in another way."""
    program = tmp_path / "containerd"
    program.write_text(
        f"""\
#!/bin/sh
case $* in
*dump) printf "version = 3\\nroot = '/data'\\n[plugins.'{PLUGIN}']\\n  root_path = '/run/x'\\n" ;;
*) echo containerd github.com/containerd/containerd/v2 v2.0.0 207ad711eabd375a01713109a8a1
esac
"""
    )
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    (tmp_path / "config.toml").write_text("version = 2\n")
    read = machine.read(str(tmp_path / "config.toml"))
    assert (read.root, read.root_path, read.has_table) == ("/data", "/run/x", False)


@real
@pytest.mark.parametrize(
    ("text", "reason"),
    [
        pytest.param("x = [", "Invalid value (at end of document)", id="broken"),
        pytest.param("version = 7\n[plugins.y]\n", "version 7 is newer than", id="newer"),
        pytest.param("version = true\n[plugins]\noverlayfs = 1\n", "to be tables", id="typed"),
        pytest.param(
            'version = 2\ndisabled_plugins = ["cri"]\n', "invalid disabled plugin URI", id="refused"
        ),
    ],
)
@in_a_private_world
def test_a_file_that_can_t_be_used_is_said_in_one_line(text: str, reason: str) -> None:
    """By doctor, which goes on, and by init, which prints nothing that would not help."""
    etc(text)
    if "newer" in reason:  # than this containerd minds
        os.environ["PATH"] = "/usr/bin:/bin"
    (one,) = containerd.findings(LINKS, [machine.read()])
    assert reason in one.what
    assert "\n" not in one.what
    done = command("init", "--containerd", environment={"PATH": os.environ["PATH"]})
    assert (done.returncode, done.stdout) == (1, "")
    assert reason in done.stderr.partition("\n")[0]
    assert done.stderr.count("\n") == 2, "with its hint"
