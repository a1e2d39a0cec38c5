"""`make install` and `make uninstall`, below a DESTDIR: what is there afterwards, file by file.

That the installed service runs is tests/system's; here it is that an administrator's files survive
and that nothing is left.
"""

import os
import re
import shutil
import stat
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import pytest

from ovl_linkd.dependents import find, remove_farm
from ovl_linkd.links.ledger import Lease, Ledger, Memory
from ovl_linkd.links.link import Link

TOP = Path(__file__).parents[1]
SNAPSHOTS = "/var/lib/containerd/io.containerd.snapshotter.v1.overlayfs/snapshots"
LINK = Link("ctrdl", "/run/ctrdl", SNAPSHOTS)

HELPER = "usr/sbin/mount.overlay"

# What an administrator has there before.
THEIRS = {
    "etc/fstab": "/dev/vda1 / ext4 defaults 0 1\n",
    "etc/ovl-linkd/config.yaml": "resync-interval: 5min\n"
    "links:\n"
    "  mine: {path: /run/mine, target: /srv/layers}\n",
    "etc/tmpfiles.d/ovl-linkd.conf": "L /run/mine - - - - /srv/layers\n",
    "usr/local/bin/other": "#!/bin/sh\n",
    "usr/local/lib/systemd/system/other.service": "[Service]\nExecStart=/usr/local/bin/other\n",
}


class Made(NamedTuple):
    """A file of an installation: its kind and mode, and what it holds or where it leads."""

    mode: int
    content: bytes


def tree(root: Path) -> dict[str, Made]:
    """Everything below ROOT, by path."""
    found = {}
    for directory, directories, files in os.walk(root):
        for name in (*directories, *files):
            path = Path(directory, name)
            status = path.lstat()
            if stat.S_ISLNK(status.st_mode):
                content = os.fsencode(os.readlink(path))
            else:
                content = path.read_bytes() if stat.S_ISREG(status.st_mode) else b""
            found[str(path.relative_to(root))] = Made(status.st_mode, content)
    return found


def make(target: str, root: Path, *more: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["make", "--no-print-directory", target, f"DESTDIR={root}", *more],
        cwd=TOP,
        # pip writes to its cache in HOME, and may warn that it is somebody else's.
        env={key: value for key, value in os.environ.items() if not key.startswith("MAKE")}
        | {"PYTHONPATH": ""},
        capture_output=True,
        text=True,
        check=False,
    )


def environment(root: Path, prefix: str = "usr/local") -> Path:
    return (root / prefix / "lib/ovl-linkd/env").resolve()


@pytest.fixture(scope="module")
def before(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("before")
    for name, content in THEIRS.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
        path.chmod(0o644)
    return root


@pytest.fixture(scope="module")
def installed_once(before: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("installed") / "root"
    shutil.copytree(before, root)
    done = make("install", root)
    assert done.returncode == 0, done.stderr
    return root


@pytest.fixture
def installed(installed_once: Path, tmp_path: Path) -> Path:
    """An installation of one's own, with an administrator's files around it."""
    return Path(shutil.copytree(installed_once, tmp_path / "root", symlinks=True))


def test_only_what_belongs_to_it_is_put_there(before: Path, installed_once: Path) -> None:
    theirs, now = tree(before), tree(installed_once)
    assert {path: now[path] for path in theirs} == theirs
    new = {path for path in now.keys() - theirs.keys() if not stat.S_ISDIR(now[path].mode)}
    library = {path for path in new if path.startswith("usr/local/lib/ovl-linkd/")}
    share = "usr/local/share"
    assert new - library == {
        "usr/local/bin/ovl-linkd",
        "usr/local/bin/ovl-linkd-runc",
        *(f"usr/local/lib/systemd/system/{unit.name}" for unit in TOP.glob("systemd/*.s[eo]*")),
        *(f"usr/local/lib/systemd/catalog/{each.name}" for each in TOP.glob("systemd/*.catalog")),
        "usr/local/lib/tmpfiles.d/ovl-linkd.conf",
        f"{share}/man/man8/ovl-linkd.8",
        f"{share}/man/man8/mount.overlay.8",
        f"{share}/man/man8/ovl-linkd-runc.8",
        f"{share}/man/man5/ovl-linkd.yaml.5",
        f"{share}/man/man7/ovl-linkd.control.7",
        f"{share}/bash-completion/completions/ovl-linkd",
        f"{share}/zsh/site-functions/_ovl-linkd",
        f"{share}/fish/vendor_completions.d/ovl-linkd.fish",
        f"{share}/ovl-linkd/config.schema.json",
        f"{share}/ovl-linkd/config.yaml",
        *(f"{share}/ovl-linkd/examples/{each.name}" for each in TOP.glob("config/examples/*")),
        *(f"{share}/doc/ovl-linkd/{each}" for each in ("LICENSE", "README.md", "CHANGELOG.md")),
        f"{share}/doc/ovl-linkd/SECURITY.md",
        *(f"{share}/doc/ovl-linkd/{each.name}" for each in TOP.glob("docs/*.example.yml")),
    }
    assert not [path for path in now if "pip" in Path(path).name or "setuptools" in path]
    writable = [path for path, made in now.items() if not stat.S_ISLNK(made.mode)]
    assert not [path for path in writable if now[path].mode & 0o022]


def test_what_is_installed_runs_and_names_the_place_it_will_be_in(installed_once: Path) -> None:
    """DESTDIR is where a package is put together: nothing in it may remember that place."""
    root = installed_once
    program = environment(root) / "bin/ovl-linkd"
    assert (root / "usr/local/bin/ovl-linkd").resolve() == program
    interpreter = program.read_text().splitlines()[0].removeprefix("#!").removesuffix(" -I")
    assert interpreter == f"/usr/local/lib/ovl-linkd/{environment(root).name}/bin/python"
    done = subprocess.run(
        [f"{root}{interpreter}", "-I", program, "check"], capture_output=True, text=True, check=True
    )
    assert str(environment(root)) in done.stdout
    runtime = environment(root) / "bin/ovl-linkd-runc"
    assert (root / "usr/local/bin/ovl-linkd-runc").resolve() == runtime
    said = subprocess.run(
        [f"{root}{interpreter}", "-I", runtime, "--ovl-linkd-runtime=/bin/echo", "it", "runs"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert said.stdout == "it runs\n"
    unit = (root / "usr/local/lib/systemd/system/ovl-linkd.service").read_text()
    assert set(re.findall(r"=[-+]*(/\S*ovl-linkd) ", unit)) == {"/usr/local/bin/ovl-linkd"}
    remembering = [path for path, made in tree(root).items() if os.fsencode(root) in made.content]
    assert remembering == []


def test_an_upgrade_leaves_a_running_program_the_code_it_started_with(installed: Path) -> None:
    """An upgrade took a running daemon's files away, and its next import failed.

    So did that of a mount.overlay which had just started: it runs for 20 ms, under the system's
    Python, and nobody can tell in time that it uses what is about to be replaced.
    """

    def steady(found: dict[str, Made]) -> dict[str, Made]:
        ours = re.compile(r"usr/local/lib/ovl-linkd/env")
        return {path: made for path, made in found.items() if not ours.match(path)}

    assert make("install-mount-helper", installed).returncode == 0
    first, was = tree(installed), environment(installed)
    older = shutil.copytree(was, was.with_name("env.older"), symlinks=True)
    oldest = shutil.copytree(was, was.with_name("env.oldest"), symlinks=True)
    (installed / HELPER).write_text("#!/bin/sh\n# of the version before\n")
    gone = "/usr/local/share/man/man8/ovl-linkd-gone.8"
    Path(f"{installed}{gone}").write_text("a page that only the version before had\n")
    manifest = installed / "usr/local/lib/ovl-linkd/manifest"
    manifest.write_text(f"{manifest.read_text()}{gone}\n")
    code = (
        "import sys, ovl_linkd.cli; print('up', flush=True); sys.stdin.read();"
        "import ovl_linkd.commands.demo; print(ovl_linkd.commands.demo.__file__)"
    )
    with subprocess.Popen(
        [older / "bin/python", "-I", "-c", code],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as running:
        assert running.stdout is not None
        assert running.stdout.readline() == "up\n"
        done = make("install", installed)
        assert done.returncode == 0, done.stderr
        assert "systemctl restart ovl-linkd" in done.stdout
        new = environment(installed)
        assert new != was
        imported, _ = running.communicate()
    assert imported.startswith(str(older))
    assert was.exists(), "who used it when it was replaced may import from it yet"
    assert not oldest.exists()
    assert steady(tree(installed)) == steady(first)

    assert make("install", installed).returncode == 0
    assert set(was.parent.glob("env.*")) == {new, environment(installed)}
    assert steady(tree(installed)) == steady(first)


def test_the_mount_helper_is_there_only_for_who_asks(before: Path, installed: Path) -> None:
    """It changes what mount(8) does: nobody gets that with an `install`."""
    assert not (installed / HELPER).exists()
    for _ in range(2):
        done = make("install-mount-helper", installed)
        assert done.returncode == 0, done.stderr
    manifest = (installed / "usr/local/lib/ovl-linkd/manifest").read_text().splitlines()
    assert manifest.count(f"/{HELPER}") == 1
    assert stat.S_IMODE((installed / HELPER).stat().st_mode) == 0o755
    assert make("uninstall", installed).returncode == 0
    assert tree(installed) == tree(before)


def test_the_helper_survives_the_python_that_it_was_installed_for(installed: Path) -> None:
    """An environment dies with its minor version; what mounts at boot must not die with it."""
    front = (installed / "usr/local/lib/ovl-linkd/mount.overlay").read_text()
    (library,) = re.findall(r"(?m)^library=(\S+)$", front)
    assert "python3" not in library
    script = "import sys; sys.path.insert(0, sys.argv[1]); import ovl_linkd.commands.mount_overlay"
    code = f"{installed}{library}"
    subprocess.run(["/usr/bin/python3", "-ISB", "-c", script, code], check=True)
    assert re.search(r"(?m)^python=/usr/bin/python3$", front)


def test_the_helper_has_all_its_code_from_one_version(tmp_path: Path) -> None:
    """`make install` may lead the name to the next version between two imports."""
    name, front = tmp_path / "env", tmp_path / "mount.overlay"
    text = (TOP / "daemon/mount-helper/mount.overlay").read_text()
    front.write_text(re.sub(r"(?m)^library=.*", f"library={name}", text))
    for version in ("old", "new"):
        code = tmp_path / version / "ovl_linkd/commands"
        code.mkdir(parents=True)
        (code / "late.py").write_text(f"version = {version!r}\n")
        (code / "mount_overlay.py").write_text(
            f"import os; os.unlink({str(name)!r}); os.symlink('new', {str(name)!r})\n"
            "from ovl_linkd.commands.late import version\n"
            "def script(): print(version)\n"
        )
    name.symlink_to("old")
    long = ["-o", f"lowerdir=/{'x' * 300}:/y"]
    done = subprocess.run(
        ["sh", front, "overlay", "/", *long], capture_output=True, text=True, check=True
    )
    assert (done.stdout, os.readlink(name)) == ("old\n", "new")


def test_somebody_elses_helper_is_left_alone(installed: Path) -> None:
    (installed / HELPER).parent.mkdir(parents=True, exist_ok=True)
    (installed / HELPER).write_text("#!/bin/sh\n# another's\n")
    done = make("install-mount-helper", installed)
    assert done.returncode != 0
    assert f"{HELPER} is somebody else's" in done.stderr
    assert make("uninstall", installed).returncode == 0
    assert "another's" in (installed / HELPER).read_text()


def test_without_an_installation_there_is_no_helper_to_install(tmp_path: Path) -> None:
    done = make("install-mount-helper", tmp_path / "empty")
    assert done.returncode != 0
    assert "first 'make install'" in done.stderr


def test_uninstalling_leaves_what_was_there_before(before: Path, installed: Path) -> None:
    done = make("uninstall", installed)
    assert done.returncode == 0, done.stderr
    assert tree(installed) == tree(before)
    assert f"{installed}/etc/ovl-linkd is yours and stays" in done.stdout
    assert make("uninstall", installed).returncode == 0


@pytest.mark.parametrize("where", ["made", "put in place"])
def test_an_install_that_ended_half_way_can_be_undone_and_done_again(
    where: str, before: Path, tmp_path: Path
) -> None:
    root, empty = tmp_path / "root", tmp_path / "empty"
    shutil.copytree(before, root, symlinks=True)
    empty.mkdir()
    obstacle = root / "usr/local/share"
    for then in "uninstall", "install":
        if where == "made":
            assert make("install", root, f"OVL_LINKD_BUILT={empty}").returncode != 0
        else:
            obstacle.touch()
            assert make("install", root).returncode != 0
            obstacle.unlink()
        assert (root / "usr/local/lib/ovl-linkd").exists(), "it had begun"
        done = make(then, root)
        assert done.returncode == 0, done.stderr
        if then == "install":
            assert make("uninstall", root).returncode == 0
        assert tree(root) == tree(before)


def test_uninstalling_takes_along_what_the_service_wrote(before: Path, installed: Path) -> None:
    lines = installed / "etc/tmpfiles.d/ovl-linkd.conf"
    lines.write_text("# Written by ovl-linkd tmpfiles --write; remove this line …\n")
    drop_in = installed / "etc/systemd/system/ovl-linkd.service.d/ovl-linkd.conf"
    drop_in.parent.mkdir(parents=True)
    drop_in.write_text("# Written by ovl-linkd init; remove this line to keep your changes.\n")
    for name in ("tmpfiles.d", "extensions"):
        (installed / "run" / name).mkdir(parents=True)
    run = installed / "run/ovl-linkd"
    run.mkdir()
    (run / "config.yaml.d").mkdir()
    (run / "published.json").write_text("{}")
    (run / "metrics.prom").write_text("# EOF\n")
    right, other = installed / "run/mine", installed / "run/ctrdl"
    right.symlink_to("/srv/layers")
    other.symlink_to("/somewhere/else")
    assert make("uninstall", installed).returncode == 0
    theirs = tree(before).keys() - {"etc/tmpfiles.d/ovl-linkd.conf"}
    left = {"run", "run/ctrdl", "run/ovl-linkd", "run/ovl-linkd/config.yaml.d"}
    assert tree(installed).keys() - theirs == left | {"etc/systemd", "etc/systemd/system"}


@pytest.mark.parametrize("prefix", ["relative", "/opt/with space", "/opt/$(id)", "/opt/../x", "/"])
def test_a_prefix_that_would_end_in_scripts_is_refused(prefix: str, tmp_path: Path) -> None:
    done = make("install", tmp_path, f"PREFIX={prefix}")
    assert done.returncode != 0
    assert list(tmp_path.iterdir()) == []


def test_what_another_has_installed_is_not_overwritten(tmp_path: Path) -> None:
    program = tmp_path / "usr/bin/ovl-linkd"
    program.parent.mkdir(parents=True)
    program.write_text("a package's\n")
    done = make("install", tmp_path, "PREFIX=/usr")
    assert done.returncode != 0
    assert "not by 'make install'" in done.stderr
    assert program.read_text() == "a package's\n"


# --- who would miss it -------------------------------------------------------------------------


def test_uninstalling_is_refused_while_something_needs_the_link(installed: Path) -> None:
    now = tree(installed)
    fstab = installed / "etc/fstab"
    fstab.write_text("overlay /mnt overlay ro,lowerdir=/run/mine/1:/run/mine/2 0 0\n")
    done = make("uninstall", installed)
    assert done.returncode != 0
    assert f"{fstab}:1: /run/mine: overlay /mnt" in done.stderr
    assert "FORCE=1" in done.stderr
    assert tree(installed).keys() == now.keys()
    done = make("uninstall", installed, "FORCE=1")
    assert done.returncode == 0, done.stderr
    assert not (installed / "usr/local/lib/ovl-linkd").exists()


def test_after_an_upgrade_of_the_distribution_it_says_what_to_do(installed_once: Path) -> None:
    """And the service is not started over and over: of this nothing is mended by itself."""
    (library,) = (environment(installed_once) / "lib").iterdir()
    gone = library.rename(library.with_name("python3.1"))
    try:
        program = environment(installed_once) / "bin/ovl-linkd"
        done = subprocess.run(
            [program.parent / "python", "-I", program, "run"],
            capture_output=True,
            text=True,
            check=False,
        )
    finally:
        gone.rename(library)
    assert done.returncode == 78
    assert done.stderr.startswith("ovl-linkd: it was installed for another Python (python3.")
    assert "make install it again" in done.stderr
    assert "Traceback" not in done.stderr


def test_uninstalling_what_cant_be_asked_any_more_says_so(installed: Path) -> None:
    """After an upgrade of the distribution the environment is that of a Python which is gone."""
    shutil.rmtree(environment(installed) / "lib")
    now = tree(installed).keys()
    done = make("uninstall", installed)
    assert done.returncode != 0
    assert "can't tell what depends on ovl-linkd" in done.stderr
    assert "No module named 'ovl_linkd'" in done.stderr
    assert "Traceback" not in done.stderr
    assert tree(installed).keys() == now
    assert make("uninstall", installed, "FORCE=1").returncode == 0
    assert not (installed / "usr/local/lib/ovl-linkd").exists()


@pytest.mark.parametrize(
    ("name", "text", "what"),
    [
        ("etc/fstab", "overlay /m overlay lowerdir=/run/ctrdl/1/fs:/a 0 0", "/run/ctrdl"),
        ("etc/containerd/config.toml", '  root_path = "/run/ctrdl"', "/run/ctrdl"),
        ("etc/containerd/conf.d/a.toml", "root_path='/run/ctrdl/'", "/run/ctrdl"),
        (
            "var/lib/rancher/k3s/agent/etc/containerd/config.toml.tmpl",
            'root_path = "/run/ctrdl/x"',
            "/run/ctrdl",
        ),
        ("etc/systemd/system/a.service", "After=ovl-linkd.service", "ovl-linkd"),
        ("etc/systemd/system/containerd.service.d/x.conf", "Wants=ovl-linkd.service", "ovl-linkd"),
        ("usr/lib/systemd/system/m.mount", "Options=ro,lowerdir=/run/ctrdl/1:/b", "/run/ctrdl"),
        ("run/systemd/system/a.service", "ExecStart=/usr/bin/ovl-linkd rewrite x", "ovl-linkd"),
        ("etc/docker/daemon.json", '{"data-root": "/run/ctrdl/x"}', "/run/ctrdl"),
        ("etc/containers/containers.conf", 'x = ["/usr/local/bin/ovl-linkd-runc"]', "ovl-linkd"),
    ],
)
def test_what_depends_on_a_link_is_found(name: str, text: str, what: str, tmp_path: Path) -> None:
    file = tmp_path / name
    file.parent.mkdir(parents=True)
    file.write_text(f"# a comment about ovl-linkd and /run/ctrdl\n{text}\n")
    (found,) = find([LINK], str(tmp_path))
    assert (found.file, found.line, found.what) == (str(file), 2, what)
    assert text.strip() in str(found)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("etc/fstab", "overlay /m overlay lowerdir=/run/ctrdl2/1:/run/ctrdl-b:/srv/run/ctrdl 0 0"),
        ("etc/fstab", "  # overlay /m overlay lowerdir=/run/ctrdl/1 0 0"),
        ("etc/systemd/system/ovl-linkd.service.d/paths.conf", "ReadWritePaths=/run/ctrdl"),
        ("usr/local/lib/systemd/system/ovl-linkd.service", "ExecStart=/usr/bin/ovl-linkd run"),
        ("etc/systemd/system/a.service", "After=my-ovl-linkd-like.service"),
        ("etc/systemd/system/b.service", "; After=ovl-linkd.service"),
    ],
)
def test_what_only_looks_like_it_does_not_count(name: str, text: str, tmp_path: Path) -> None:
    file = tmp_path / name
    file.parent.mkdir(parents=True)
    file.write_text(f"{text}\n")
    assert find([LINK], str(tmp_path)) == []


def test_overlays_that_only_the_helper_carries_are_found_where_it_is_there(tmp_path: Path) -> None:
    """They would fail at the next boot; where it was never switched on they need none."""
    long = "lowerdir=" + ":".join(f"/srv/layers/{number}/fs" for number in range(20))
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc/fstab").write_text(
        f"overlay /a overlay {long} 0 0\noverlay /b overlay lowerdir=/c:/d 0 0\n"
    )
    assert find([], str(tmp_path)) == []
    (tmp_path / HELPER).parent.mkdir(parents=True)
    shutil.copy(TOP / "daemon/mount-helper/mount.overlay", tmp_path / HELPER)
    (found,) = find([], str(tmp_path))
    assert (found.line, found.what) == (1, "mount.overlay")


def test_what_depends_on_the_farm_is_found_and_the_farm_is_taken_away(tmp_path: Path) -> None:
    """With what its ledger knows, and only then: `make uninstall` leaves no trace."""
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc/fstab").write_text("overlay /m overlay lowerdir=/run/ctrdf/1:/b 0 0\n")
    (found,) = find([], str(tmp_path), "/run/ctrdf")
    assert found.what == "/run/ctrdf"
    run = tmp_path / "run"
    (run / "ctrdf").mkdir(parents=True)
    for name, target in {"1": "/a", "2": "/b", "3": "/c", "mine": "/d"}.items():
        (run / "ctrdf" / name).symlink_to(target)
    ledger = Ledger(str(run / ".ctrdf.ovl-linkd-farm"))
    remove_farm("/run/ctrdf", str(tmp_path))
    assert len(os.listdir(run / "ctrdf")) == 4, "without a ledger nothing is known"
    with ledger.locked():
        entries = [("1", "/a"), ("2", "/elsewhere"), ("3", "/c")]
        ledger.rewrite(Memory("b", 128, [Lease(name, to, 1.0) for name, to in entries]))
    remove_farm("/run/ctrdf", str(tmp_path))
    assert sorted(os.listdir(run / "ctrdf")) == ["2", "mine"]
    for name in ("2", "mine"):
        (run / "ctrdf" / name).unlink()
    remove_farm("/run/ctrdf", str(tmp_path))
    assert os.listdir(run) == []


def test_files_that_cant_be_read_as_text_are_no_obstacle(tmp_path: Path) -> None:
    units = tmp_path / "etc/systemd/system"
    units.mkdir(parents=True)
    (units / "latin.service").write_bytes(b"Description=caf\xe9\nAfter=ovl-linkd.service\n")
    (units / "masked.service").symlink_to("/dev/null")
    (units / "gone.service").symlink_to("/nowhere")
    (units / "a-directory.service").mkdir()
    assert [each.line for each in find([LINK], str(tmp_path))] == [2]


def test_a_broken_configuration_does_not_hold_up_the_question(tmp_path: Path) -> None:
    """The links of the last good one are known from what the daemon published, or not at all."""
    (tmp_path / "etc/ovl-linkd").mkdir(parents=True)
    (tmp_path / "etc/ovl-linkd/config.yaml").write_text("linkz: {}\n")
    (tmp_path / "etc/fstab").write_text("x-systemd.requires=ovl-linkd.service\n")
    done = subprocess.run(
        [sys.executable, "-m", "ovl_linkd.dependents", "--root", tmp_path],
        env=os.environ | {"PYTHONPATH": str(TOP / "daemon")},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 3
    assert "fstab:1: ovl-linkd:" in done.stdout
    assert "linkz" in done.stderr
