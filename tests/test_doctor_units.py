"""`ovl-linkd doctor`: units that don't wait for the link they need, and a daemon kept from it."""

from pathlib import Path

import pytest

from ovl_linkd.commands import init_drop_in
from ovl_linkd.doctor import units
from ovl_linkd.doctor.finding import MAYBE, NOTE, OK, WRONG, Finding
from ovl_linkd.errors import UserError
from ovl_linkd.links.link import Link
from ovl_linkd.machine.containerd import Containerd
from ovl_linkd.machine.units import load

SHIPPED = Path(__file__).parents[1] / "systemd"
STORE = "/var/lib/containerd/io.containerd.snapshotter.v1.overlayfs"
ROOT = Link("ctrd", "/run/ctrd", STORE)
LAYERS = Link("ctrdl", "/run/ctrdl", f"{STORE}/snapshots")
NONE = Containerd("its defaults", False)
BY_LINK = Containerd("its file", True, root_path="/run/ctrd")


class Tree:
    """A root directory with units in it."""

    def __init__(self, root: Path) -> None:
        self.root = root
        for name in ("ovl-linkd.service", "ovl-linkd-links.service"):
            self.unit(name, (SHIPPED / name).read_text())

    def unit(self, name: str, text: str, directory: str = "usr/lib") -> Path:
        file = self.root / directory / "systemd/system" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
        return file

    def wrong(
        self, *links: Link, containerd: Containerd = NONE, others: tuple[str, ...] = ()
    ) -> list[Finding]:
        found = units.findings(links, others, [containerd], str(self.root))
        return [one for one in found if one.level == WRONG]


@pytest.fixture
def tree(tmp_path: Path) -> Tree:
    return Tree(tmp_path)


def test_containerd_with_a_root_path_needs_the_drop_in(tree: Tree) -> None:
    """Our own unit orders itself before containerd, but nothing has containerd pull it in."""
    tree.unit("containerd.service", "[Service]\nExecStart=/usr/bin/containerd\n")
    assert tree.wrong(ROOT, LAYERS) == [], "without root_path it needs no link"

    (one,) = tree.wrong(ROOT, LAYERS, containerd=BY_LINK)

    assert one.what == (
        "containerd.service mounts through /run/ctrd without Wants=ovl-linkd.service"
    )
    assert one.mend == "ovl-linkd init --drop-in containerd.service --write"


def test_containerd_had_better_test_the_link(tree: Tree) -> None:
    """That ovl-linkd has started is not that the link leads somewhere: it may be blocked."""
    unit = "[Unit]\nWants=ovl-linkd.service\nAfter=ovl-linkd.service\n"
    tree.unit("containerd.service", f"{unit}[Service]\nExecStart=/usr/bin/containerd\n")
    (one,) = units.findings([ROOT], [], [BY_LINK], str(tree.root))
    assert (one.level, one.mend) == (
        MAYBE,
        "ovl-linkd init --drop-in containerd.service --write",
    )
    init_drop_in.write(init_drop_in.for_user("containerd.service", [ROOT]), str(tree.root))
    (one,) = units.findings([ROOT], [], [BY_LINK], str(tree.root))
    assert one.level == OK


def test_k3s_starts_its_own_containerd(tree: Tree) -> None:
    tree.unit("k3s.service", "[Service]\nExecStart=/usr/local/bin/k3s server\n")
    its = BY_LINK._replace(units=("k3s.service",))
    assert "k3s.service mounts through /run/ctrd" in tree.wrong(ROOT, containerd=its)[0].what
    links, others = [ROOT, LAYERS], [NONE, its]
    assert init_drop_in.choose("k3s.service", links, [], others, str(tree.root)) == [ROOT]


def test_what_the_doctor_prescribes_helps(tree: Tree) -> None:
    tree.unit("containerd.service", "[Service]\nExecStart=/usr/bin/containerd\n")
    tree.unit("nspawn-x.service", "[Service]\nExecStart=nspawn --overlay=/run/ctrdl/1/fs::/x\n")
    tree.unit("srv-x.mount", "[Mount]\nWhat=o\nType=overlay\nOptions=lowerdir=/run/ctrdl/1:/b\n")
    found = tree.wrong(ROOT, LAYERS, containerd=BY_LINK)
    assert len(found) == 3

    for one in found:
        unit = one.mend.split()[3]
        chosen = init_drop_in.choose(unit, [ROOT, LAYERS], [], [BY_LINK], str(tree.root))
        init_drop_in.write(init_drop_in.for_user(unit, chosen), str(tree.root))

    assert tree.wrong(ROOT, LAYERS, containerd=BY_LINK) == []


@pytest.mark.parametrize(
    ("line", "uses"),
    [
        ("ExecStart=/bin/x --layers /run/ctrdl/1/fs:/run/ctrdl/2/fs", True),
        ("ExecStart=/bin/x /run/ctrdl", True),
        ('ExecStart=/bin/x "/run/ctrdl"', True),
        ("Environment=LAYERS=/run/ctrdl", True),
        ("ExecStart=/bin/x /run/ctrdlx", False),
        ("ExecStart=/bin/x /run/ctrdl-old/1", False),
        ("ExecStart=/bin/x /srv/run/ctrdl/1", False),
        ("ReadWritePaths=/run/ctrdl", False),
        ("RequiresMountsFor=/run/ctrdl", False),
        ("Description=Needs /run/ctrdl", False),
        ("ConditionPathExists=/run/ctrdl", False),
        ("#ExecStart=/bin/x /run/ctrdl", False),
        ("ExecStart=/bin/x \\\n# why\n  /run/ctrdl/1", True),
    ],
)
def test_a_unit_that_names_the_link_is_found_by_its_whole_path(
    line: str, uses: bool, tree: Tree
) -> None:
    tree.unit("x.service", f"[Service]\n{line}\n")
    assert bool(tree.wrong(LAYERS)) == uses


def test_a_dependency_may_stand_in_any_of_the_places(tree: Tree) -> None:
    service = "[Service]\nExecStart=/bin/x /run/ctrdl/1\n"
    tree.unit("x.service", service)
    assert tree.wrong(LAYERS)[0].what.endswith(
        "without After=ovl-linkd.service and Wants=ovl-linkd.service"
    )
    tree.unit("x.service.d/10.conf", "[Unit]\nAfter=a.service ovl-linkd.service\n", "etc")
    assert tree.wrong(LAYERS)[0].what.endswith("without Wants=ovl-linkd.service")
    wants = tree.root / "etc/systemd/system/x.service.wants"
    wants.mkdir()
    (wants / "ovl-linkd.service").symlink_to("/usr/lib/systemd/system/ovl-linkd.service")
    assert tree.wrong(LAYERS) == []
    (tree.root / "etc/systemd/system/x.service.d/10.conf").unlink()
    tree.unit("service.d/all.conf", "[Unit]\nAfter=ovl-linkd.service\n", "run")
    assert tree.wrong(LAYERS) == [], "a drop-in for all services"
    (tree.root / "etc/systemd/system/x.service").symlink_to("/dev/null")
    (tree.root / "run/systemd/system/service.d/all.conf").unlink()
    assert tree.wrong(LAYERS) == [], "masked"


def test_a_drop_in_for_the_beginning_of_a_name_counts(tree: Tree) -> None:
    """As foo-.service.d does for foo-bar.service; one of the type's with its name hides nothing."""
    tree.unit("a-b-c.service", "[Service]\nExecStart=/bin/x /run/ctrdl/1\n")
    tree.unit("a-.service.d/10.conf", "[Unit]\nAfter=ovl-linkd.service\n")
    tree.unit("a-b-.service.d/20.conf", "[Unit]\nWants=ovl-linkd.service\n")
    assert tree.wrong(LAYERS) == []
    tree.unit("service.d/10.conf", "[Unit]\n", "etc")
    assert tree.wrong(LAYERS) == []


def test_a_mount_finds_the_early_links_once_they_are_enabled(tree: Tree) -> None:
    """Also one that the generator made of a line in fstab; unless it starts even earlier."""
    mount = "[Mount]\nWhat=o\nWhere=/x\nType=overlay\nOptions=lowerdir=/run/ctrdl/1:/run/ctrdl/2\n"
    tree.unit("x.mount", mount, "run")
    assert len(tree.wrong(LAYERS)) == 1
    wants = tree.root / "etc/systemd/system/sysinit.target.wants"
    wants.mkdir(parents=True)
    (wants / "ovl-linkd-links.service").symlink_to("/usr/lib/systemd/system/x")
    assert tree.wrong(LAYERS) == []
    tree.unit("x.mount", f"[Unit]\nDefaultDependencies=no\n{mount}", "run")
    assert len(tree.wrong(LAYERS)) == 1


@pytest.mark.parametrize(
    "directory", ["/mnt", "/mnt/a b", '/srv/100%$"q"', "/etc/x", "/run/user/1"]
)
def test_a_link_that_the_sandbox_keeps_out_of_reach(directory: str, tree: Tree) -> None:
    link = Link("far", f"{directory}/l", "/t")

    (one,) = tree.wrong(LAYERS, link)

    assert one.what == f"link far: ovl-linkd.service may not write {directory}"
    assert one.mend == "ovl-linkd init --drop-in ovl-linkd.service --write"
    init_drop_in.write(init_drop_in.for_daemon([directory]), str(tree.root))
    assert tree.wrong(LAYERS, link) == []


def test_a_metrics_file_out_of_reach_is_named(tree: Tree) -> None:
    metrics = "/var/lib/node_exporter/textfile/ovl.prom"
    (one,) = tree.wrong(LAYERS, others=("/run/ovl-linkd/control.sock", metrics))
    assert one.what.startswith(f"{metrics}: ")


def test_a_unit_without_a_sandbox_may_write_anywhere(tree: Tree) -> None:
    tree.unit("ovl-linkd.service", "[Service]\nExecStart=/usr/bin/ovl-linkd run\n")
    assert tree.wrong(Link("far", "/mnt/l", "/t")) == []
    tree.unit("ovl-linkd.service.d/x.conf", "[Service]\nProtectSystem=full\n", "etc")
    assert tree.wrong(Link("far", "/mnt/l", "/t")) == []
    assert len(tree.wrong(Link("far", "/usr/l", "/t"))) == 1


def test_an_empty_assignment_takes_back_what_stood_before(tree: Tree) -> None:
    tree.unit("ovl-linkd.service.d/x.conf", "[Service]\nReadWritePaths=\n", "etc")
    assert len(tree.wrong(LAYERS)) == 1


def test_nothing_installed_is_a_note(tmp_path: Path) -> None:
    (one,) = units.findings([LAYERS], [], [NONE], str(tmp_path))
    assert (one.level, one.mend) == (NOTE, "make install")


def test_all_is_well_as_shipped(tree: Tree) -> None:
    (one,) = units.findings([LAYERS], ["/run/ovl-linkd/metrics.prom"], [NONE], str(tree.root))
    assert one.level == OK


def test_quoted_paths_are_read_as_systemd_does(tree: Tree) -> None:
    text = '[Service]\nReadWritePaths=-/a "-/b c" +\'/d e\' /100%% "/q\\"\\\\"\n'
    tree.unit("x.service", text)
    unit = load("x.service", str(tree.root))
    assert unit is not None
    assert unit.paths("ReadWritePaths") == ["/a", "/b c", "/d e", "/100%", '/q"\\']


@pytest.mark.parametrize("early", ["", "[Unit]\nWants={0}\nAfter={0}\n"])
def test_the_early_links_are_those_below_run_only(early: str, tree: Tree) -> None:
    """A link in /tmp is made after local-fs.target: too late for a mount, whatever it waits for."""
    far = Link("far", "/tmp/l", "/t")
    tree.unit("ovl-linkd.service", "[Service]\nExecStart=/usr/bin/ovl-linkd run\n")
    wants = tree.root / "etc/systemd/system/sysinit.target.wants"
    wants.mkdir(parents=True)
    (wants / "ovl-linkd-links.service").symlink_to("/usr/lib/systemd/system/x")
    mount = "[Mount]\nWhat=o\nWhere=/x\nType=overlay\nOptions=lowerdir=/run/ctrdl/1:/tmp/l/2\n"
    tree.unit("x.mount", early.format(units.EARLY) + mount, "run")

    (one,) = tree.wrong(LAYERS, far)

    assert "/tmp/l is not" in one.why
    assert "ordering cycle" in one.why
    assert one.mend == "", "a drop-in would not help"
    with pytest.raises(UserError, match="/tmp/l is not made in time") as caught:
        init_drop_in.for_user("x.mount", [LAYERS, far])
    assert "needs a link below /run" in caught.value.hint


def test_a_unit_s_name_is_one_word_of_the_command(tree: Tree) -> None:
    tree.unit("a\\x2db.service", "[Service]\nExecStart=/bin/x /run/ctrdl/1\n")
    (one,) = tree.wrong(LAYERS)
    assert one.mend == "ovl-linkd init --drop-in 'a\\x2db.service' --write"
