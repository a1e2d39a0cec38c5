"""`ovl-linkd doctor`: containerd's root_path, and what of it opens an empty store."""

import os
import shutil
from pathlib import Path

import pytest

from ovl_linkd.doctor import containerd
from ovl_linkd.doctor.finding import MAYBE, NOTE, OK, UNKNOWN, WRONG, Finding
from ovl_linkd.links.link import Link
from ovl_linkd.machine import containerd as machine
from ovl_linkd.machine.containerd import PLUGIN


class World:
    """A store, links to it and to its snapshots, and a configuration."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.store = directory / "state" / PLUGIN
        (self.store / "snapshots").mkdir(parents=True)
        self.file = directory / "config.toml"
        self.root = Link("root", str(directory / "r"), str(self.store))
        self.layers = Link("layers", str(directory / "l"), f"{self.store}/snapshots")
        for link in (self.root, self.layers):
            Path(link.path).symlink_to(link.target)

    def says(self, root_path: str | Path | None, more: str = "") -> Finding:
        line = "" if root_path is None else f'root_path = "{root_path}"\n'
        self.file.write_text(
            f'version = 2\nroot = "{self.directory}/state"\n{more}\n[plugins."{PLUGIN}"]\n{line}'
        )
        read = machine.read(str(self.file), ask=False)
        (one,) = containerd.findings([self.root, self.layers], [read])
        return one


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


def test_the_link_to_the_snapshotter_s_root_is_right(world: World) -> None:
    assert world.says(world.root.path).level == OK
    assert world.says(world.root.path + "/").level == OK


def test_the_link_to_the_snapshots_opens_an_empty_store(world: World) -> None:
    """No error: containerd 1.6 makes snapshots/snapshots, and every image seems gone."""
    one = world.says(world.layers.path)
    assert one.level == WRONG
    assert f"{world.store}/snapshots/snapshots" in one.why
    assert f"a link that leads to {world.store}," in one.mend


@pytest.mark.parametrize(
    "how", ["through the kept link", "a link nobody keeps", "by its long name"]
)
def test_the_snapshots_by_any_name(how: str, world: World) -> None:
    (world.store / "metadata.db").touch()
    path = Path(world.directory / "mine")
    path.symlink_to(world.store / "snapshots")
    paths: dict[str, str | Path] = {
        "through the kept link": f"{world.root.path}/snapshots",
        "a link nobody keeps": path,
        "by its long name": world.store / "snapshots",
    }
    one = world.says(paths[how])
    assert one.level == WRONG
    assert "leads to snapshots" in one.what


def test_a_symlink_that_nobody_keeps(world: World) -> None:
    path = world.directory / "mine"
    path.symlink_to(world.store)
    one = world.says(path)
    assert one.level == WRONG
    assert one.mend == f"links: {{ctrd: {{path: {path}, target: {world.store}}}}}"
    aside = world.directory / "a, allow-unsafe-parent: true"
    path.unlink()
    aside.mkdir()
    path.symlink_to(aside)
    assert world.says(path).mend.endswith(f'target: "{aside}"}}}}')


def test_the_kept_link_is_gone(world: World) -> None:
    Path(world.root.path).unlink()
    one = world.says(world.root.path)
    assert one.level == WRONG
    assert "makes a directory there" in one.why


def test_a_directory_has_taken_the_place_of_the_link(world: World) -> None:
    """containerd was started before the link was there."""
    Path(world.root.path).unlink()
    Path(world.root.path).mkdir()
    one = world.says(world.root.path)
    assert one.level == WRONG
    assert "blocked" in one.what


def test_on_a_fresh_node_the_link_dangles(world: World) -> None:
    (world.store / "snapshots").rmdir()
    world.store.rmdir()
    one = world.says(world.root.path)
    assert one.level == WRONG
    assert "starts without its overlayfs snapshotter" in one.why
    assert one.mend == f"mkdir -p -m 0700 -- {world.store}"
    spaced = world.root._replace(target=f"{world.directory}/a; b")
    Path(spaced.path).unlink()
    Path(spaced.path).symlink_to(spaced.target)
    read = machine.read(str(world.file), ask=False)
    assert containerd.findings([spaced], [read])[0].mend.endswith(f"-- '{spaced.target}'")


def test_nothing_at_a_path_in_run(world: World) -> None:
    assert world.says("/run/ovl-linkd-test/none").level == WRONG
    assert world.says(world.directory / "not-yet").level == MAYBE


def test_a_directory_of_one_s_own_choice_is_right(world: World) -> None:
    other = world.directory / "other"
    other.mkdir()
    assert world.says(other).level == OK


def test_without_root_path_it_is_only_told_what_would_help(world: World) -> None:
    assert world.says(None).level == NOTE
    assert world.says("").level == NOTE


def test_no_containerd_at_all(tmp_path: Path) -> None:
    read = machine.read(str(tmp_path / "none"), ask=False)._replace(root=str(tmp_path))
    assert [one.level for one in containerd.findings([], [read])] == [OK]


@pytest.mark.parametrize(
    "text",
    [
        *("version = \n", "plugins = 1\n", "root = 1\n", "imports = 1\nroot = 1\n", "\udcff"),
        pytest.param("x=" + "[" * 100_000, id="deep"),
    ],
)
def test_a_file_that_can_t_be_understood_is_said(text: str, tmp_path: Path) -> None:
    file = tmp_path / "config.toml"
    file.write_bytes(text.encode(errors="surrogateescape"))
    read = machine.read(str(file), ask=False)
    assert read.trouble
    assert [one.level for one in containerd.findings([], [read])] == [UNKNOWN]


def test_an_import_has_the_last_word(world: World) -> None:
    """As where root_path is kept in a file of its own."""
    (world.directory / "conf.d").mkdir()
    (world.directory / "conf.d/a.toml").write_text(
        f'version = 2\n[plugins."{PLUGIN}"]\n  root_path = "{world.layers.path}"\n'
    )
    assert world.says(world.root.path, 'imports = ["conf.d/*.toml"]').level == WRONG


def test_containerd_itself_is_asked_where_it_is_installed(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Only it knows its defaults; where it can't say, its file is read."""
    (world.directory / "bin").mkdir()
    program = world.directory / "bin/containerd"
    program.write_text(
        "#!/bin/sh\n"
        f'[ "$*" = "--config {world.file} config dump" ] || exit 2\n'
        "echo version=2; echo 'root=\"/elsewhere\"'\n"
        f"""echo '[plugins."{PLUGIN}"]'; echo 'root_path="/run/x"'\n"""
    )
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}:/usr/bin:/bin")
    world.says(world.root.path)

    asked = machine.read(str(world.file))
    program.write_text("#!/bin/sh\nexit 1\n")
    unasked = machine.read(str(world.file))

    assert (asked.root, asked.root_path) == ("/elsewhere", "/run/x")
    assert unasked.root_path == world.root.path


@pytest.mark.needs("root")
def test_other_containerds_are_looked_at_too(world: World) -> None:
    """k3s brings its own, and one may run by any file; those without root_path are passed over."""
    k3s = world.directory / "var/lib/rancher/k3s/agent/etc/containerd/config.toml"
    k3s.parent.mkdir(parents=True)
    table = f'version = 2\n[plugins."{PLUGIN}"]\n'
    k3s.write_text(f'{table}root_path = "{world.layers.path}"\n')
    mine, plain = world.directory / "mine.toml", world.directory / "plain.toml"
    mine.write_text(f'{table}root_path = "{world.root.path}"\n')
    plain.write_text(table)
    proc = world.directory / "proc"
    for pid, words in {
        "7": ("/usr/local/bin/containerd", "--config", str(mine), "--log-level", "debug"),
        "8": ("containerd", f"-c={plain}"),
        "9": ("containerd-shim", "-c", "/etc/passwd"),
        "10": ("containerd", "--config"),
        "11": ("",),
    }.items():
        process(proc / pid, words)

    others = machine.others(str(world.directory), str(proc))
    own = machine.read(str(world.directory / "none"))._replace(root=str(world.directory))
    found = containerd.findings([world.root, world.layers], [own, *others])

    assert [one.root_path for one in others] == [world.layers.path, world.root.path, None]
    assert others[0].root == "/var/lib/rancher/k3s/agent/containerd"
    assert [one.level for one in found] == [OK, WRONG, OK]


def process(entry: Path, words: tuple[str, ...], namespace: str = "") -> None:
    """An ENTRY in a /proc: a process of this user, that was started by WORDS."""
    (entry / "ns").mkdir(parents=True)
    (entry / "ns/mnt").symlink_to(namespace or os.readlink("/proc/self/ns/mnt"))
    (entry / "cmdline").write_text("\0".join(words) + "\0")


@pytest.mark.needs("root")
def test_who_calls_itself_containerd_is_not_believed(world: World) -> None:
    """A user's process, and a container's: neither has root open a file of its choice."""
    world.file.write_text("version = 2\n")
    words = ("/x/containerd", "--config", str(world.file))
    proc = world.directory / "proc"
    process(proc / "7", words)
    assert len(machine.others(str(world.directory), str(proc))) == 1
    os.chown(proc / "7", 65534, 65534)
    assert machine.others(str(world.directory), str(proc)) == []
    process(proc / "8", words, "mnt:[1]")
    assert machine.others(str(world.directory), str(proc)) == []


@pytest.mark.needs("root")
def test_a_running_containerd_s_file_is_read_here_and_handed_to_no_program(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = world.directory / "bin/containerd"
    program.parent.mkdir()
    program.write_text(f"#!/bin/sh\ntouch {world.directory}/ran\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}:/usr/bin:/bin")
    world.file.write_text("version = 2\n")
    process(world.directory / "proc/7", ("containerd", "-c", str(world.file)))
    assert len(machine.others(str(world.directory), str(world.directory / "proc"))) == 1
    assert not (world.directory / "ran").exists()


@pytest.mark.parametrize("imported", [False, True])
@pytest.mark.parametrize("kind", ["FIFO", "device", "long", "anybody's", "a group's", "a user's"])
def test_a_file_that_is_not_root_s_alone_is_said_and_not_read(
    kind: str, imported: bool, world: World
) -> None:
    """open(2) of a FIFO waits for ever, /dev/zero has no end, a user's file says what they like."""
    file = world.directory / "bad"
    file.write_text("version = 2\n")
    if kind == "FIFO":
        file.unlink()
        os.mkfifo(file)
    elif kind == "device":
        file.unlink()
        file.symlink_to("/dev/zero")
    elif kind == "long":
        file.write_text("#" * (1 << 20) + "\n")
    elif kind == "anybody's":
        file.chmod(0o646)
    elif os.geteuid():
        pytest.skip("needs root")
    elif kind == "a group's":
        shutil.chown(file, group=65534)
        file.chmod(0o664)
    else:
        os.chown(file, 65534, 0)
    if imported:
        world.file.write_text('imports = ["bad"]\n')
    read = machine.read(str(world.file if imported else file), ask=False)
    assert read.trouble
    (one,) = containerd.findings([], [read])
    assert one.level == UNKNOWN
    assert one.mend == ("run it as root" if os.geteuid() else ""), "root can't do more"


@pytest.mark.needs("root")
def test_a_file_of_root_s_group_is_root_s(world: World) -> None:
    world.file.write_text("version = 2\n")
    world.file.chmod(0o664)
    os.chown(world.file, 0, 0)
    assert machine.read(str(world.file), ask=False).trouble is None
