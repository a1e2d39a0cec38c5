"""`ovl-linkd init`: what it finds, what it writes, and that it never overwrites."""

import os
import tomllib
from collections.abc import Sequence
from pathlib import Path

import pytest

from ovl_linkd import config_files, published
from ovl_linkd.commands import init, init_config, init_drop_in
from ovl_linkd.config import load
from ovl_linkd.errors import UserError
from ovl_linkd.links.flags import is_append_only
from ovl_linkd.links.link import Link
from ovl_linkd.machine.containerd import PLUGIN, Containerd
from ovl_linkd.overlay import mounting
from tests.daemon.world import command
from tests.kernel.world import in_a_private_world

TOP = Path(__file__).parents[1]
STORE = f"/var/lib/containerd/{PLUGIN}"
NONE = Containerd("its defaults", False)
ROOT = Link("ctrd", "/run/ctrd", STORE)
LAYERS = Link("ctrdl", "/run/ctrdl", f"{STORE}/snapshots")


def loaded(text: str, directory: Path) -> dict[str, tuple[str, str]]:
    """The links of the configuration TEXT, as the daemon would read it."""
    file = directory / "made.yaml"
    file.write_text(text)
    file.chmod(0o644)
    return {link.name: (link.path, link.target) for link in load(str(file)).links}


# --- what is found -----------------------------------------------------------------------------


def test_containerd_gets_both_links(tmp_path: Path) -> None:
    """One for containerd itself, one for what rewrites options: they are not the same directory."""
    assert loaded(init_config.text(NONE, str(tmp_path)), tmp_path) == {
        "ctrd": ("/run/ctrd", STORE),
        "ctrdl": ("/run/ctrdl", f"{STORE}/snapshots"),
    }


def test_a_root_elsewhere_is_followed(tmp_path: Path) -> None:
    its = Containerd("its file", True, root="/data/containerd/")
    links = loaded(init_config.text(its, str(tmp_path)), tmp_path)
    assert links["ctrd"][1] == f"/data/containerd/{PLUGIN}"


@pytest.mark.parametrize("at", ["root", "snapshots"])
def test_a_root_path_that_is_a_link_already_is_seen_through(at: str, tmp_path: Path) -> None:
    """Also one that was set wrongly: the configuration must not lead to itself."""
    store = tmp_path / "store"
    (store / "snapshots").mkdir(parents=True)
    link = tmp_path / "short"
    link.symlink_to(store if at == "root" else store / "snapshots")
    its = Containerd("its file", True, root_path=str(link))

    links = loaded(init_config.text(its, str(tmp_path)), tmp_path)

    assert links["ctrd"][1] == str(store)
    assert links["ctrdl"][1] == f"{store}/snapshots"


def test_a_root_path_to_nowhere_is_not_believed(tmp_path: Path) -> None:
    its = Containerd("its file", True, root_path=str(tmp_path / "none"))
    assert loaded(init_config.text(its, str(tmp_path)), tmp_path)["ctrd"][1] == STORE


def test_other_stores_are_taken_up_where_they_are(tmp_path: Path) -> None:
    for store in ("var/lib/docker/overlay2", "var/lib/containers/storage/overlay"):
        (tmp_path / store).mkdir(parents=True)
    (tmp_path / "var/lib/rancher/k3s/agent/containerd").mkdir(parents=True)
    links = loaded(init_config.text(NONE, str(tmp_path)), tmp_path)
    assert links["dockl"] == ("/run/dockl", "/var/lib/docker/overlay2")
    assert links["podl"] == ("/run/podl", "/var/lib/containers/storage/overlay")
    assert links["k3sl"][1] == f"/var/lib/rancher/k3s/agent/containerd/{PLUGIN}/snapshots"


def test_other_stores_are_where_their_programs_say(tmp_path: Path) -> None:
    (tmp_path / "data/docker/overlay2").mkdir(parents=True)
    (tmp_path / "data/podman/overlay").mkdir(parents=True)
    (tmp_path / "etc/docker").mkdir(parents=True)
    (tmp_path / "etc/docker/daemon.json").write_text('{"data-root": "/data/docker/"}')
    (tmp_path / "etc/containers").mkdir()
    (tmp_path / "etc/containers/storage.conf").write_text('[storage]\ngraphroot = "/data/podman"\n')
    links = loaded(init_config.text(NONE, str(tmp_path)), tmp_path)
    assert links["dockl"][1] == "/data/docker/overlay2"
    assert links["podl"][1] == "/data/podman/overlay"


@pytest.mark.parametrize("text", ["[]", "{", '{"data-root": 1}', "\xff", '{"data-root": "x"}'])
def test_a_file_of_others_that_makes_no_sense_is_no_obstacle(text: str, tmp_path: Path) -> None:
    for file in ("etc/docker/daemon.json", "etc/containers/storage.conf"):
        (tmp_path / file).parent.mkdir(parents=True)
        (tmp_path / file).write_bytes(text.encode("latin-1"))
    assert list(loaded(init_config.text(NONE, str(tmp_path)), tmp_path)) == ["ctrd", "ctrdl"]


@pytest.mark.parametrize(
    "root", ["/data/a b", "/data/a: b #c", "/data/'\"\\", "/data/é\u2028", "/data/a\tb\nc", "/~"]
)
def test_any_path_is_written_so_that_it_is_read_again(root: str, tmp_path: Path) -> None:
    its = Containerd(f"its file in {root}", True, root=root)
    links = loaded(init_config.text(its, str(tmp_path)), tmp_path)
    assert links["ctrd"][1] == f"{root}/{PLUGIN}"


def test_a_path_that_yaml_can_t_hold_is_refused(tmp_path: Path) -> None:
    its = Containerd("its file", True, root=os.fsdecode(b"/data/\xff"))
    with pytest.raises(UserError, match=r"\\xff"):
        init_config.text(its, str(tmp_path))


# --- what is written ---------------------------------------------------------------------------


@pytest.mark.needs("root")
@in_a_private_world
def test_it_is_written_once_and_never_again() -> None:
    file = Path("/run/etc/config.yaml")

    first = command("init", "--config", file)
    assert (first.returncode, first.stderr) == (0, "")
    assert first.stdout.startswith(f"{file} written\n")
    assert file.stat().st_mode & 0o777 == 0o644
    checked = command("check", "--config", file)
    assert (checked.returncode, checked.stderr) == (0, "")
    assert checked.stdout.startswith(f"ctrd: /run/ctrd -> {STORE}\n")

    file.write_text("mine")
    second = command("init", "--config", file)
    assert (second.returncode, second.stdout, file.read_text()) == (1, "", "mine")
    assert second.stderr == (
        f"ovl-linkd init: {file} is there and is not overwritten\n"
        "  hint: ovl-linkd init --print shows what it would be\n"
    )


@pytest.mark.needs("root")
@in_a_private_world
def test_everybody_may_read_it_whatever_the_umask() -> None:
    """`rewrite` is for everybody, and reads it, too; hardened machines have a umask of 077."""
    os.umask(0o077)
    assert command("init", "--config", "/run/etc/config.yaml").returncode == 0
    assert Path("/run/etc").stat().st_mode & 0o777 == 0o755
    assert Path("/run/etc/config.yaml").stat().st_mode & 0o777 == 0o644


@pytest.mark.needs("root")
@in_a_private_world
def test_what_can_t_be_written_leaves_nothing_and_is_named() -> None:
    Path("/run/file").touch()
    Path("/run/full").mkdir()
    mounting.mount("tmpfs", "/run/full", "tmpfs", 0, b"nr_blocks=1")
    Path("/run/full/rest").write_bytes(bytes(os.sysconf("SC_PAGE_SIZE")))
    for name, said in (("file/x.yaml", "File exists: /run/file"), ("full/x.yaml", "No space")):
        done = command("init", "--config", f"/run/{name}")
        assert (done.returncode, done.stdout) == (1, "")
        assert done.stderr.startswith(f"ovl-linkd init: {said}")
        assert os.listdir("/run/full") == ["rest"]


@pytest.mark.needs("root")
@in_a_private_world
def test_a_symlink_in_its_place_is_not_followed() -> None:
    """It may lead to nothing yet: writing through it would make a file that nobody asked for."""
    Path("/run/config.yaml").symlink_to("/run/elsewhere")
    assert command("init", "--config", "/run/config.yaml").returncode == 1
    assert not os.path.lexists("/run/elsewhere")


def test_printed_it_is_the_same_and_touches_nothing(tmp_path: Path) -> None:
    done = command("init", "--print", "--config", tmp_path / "c.yaml")
    assert (done.returncode, done.stderr) == (0, "")
    assert loaded(done.stdout, tmp_path)["ctrd"][0] == "/run/ctrd"
    assert not (tmp_path / "c.yaml").exists()


# --- what containerd needs ---------------------------------------------------------------------


def test_containerd_gets_the_link_to_its_root_and_the_drop_in() -> None:
    done = command("init", "--containerd", "--config", TOP / "config/examples/containerd.yaml")
    assert done.returncode == 0
    fragment, _, drop_in = done.stdout.partition("# /etc/systemd/system/containerd.service.d/")
    assert tomllib.loads(fragment) == {
        "version": 2,
        "plugins": {PLUGIN: {"root_path": "/run/ctrd"}},
    }
    example = (TOP / "systemd/containerd.conf.example").read_text()
    assert drop_in == f"ovl-linkd.conf\n{example}"


@pytest.mark.skipif(is_append_only("/run") is None, reason="needs a /run that may be append-only")
def test_a_guard_is_offered_to_the_link_that_has_none(tmp_path: Path) -> None:
    """Word for word what makes the very same link a guarded one."""
    offered = command("init", "--containerd", "--config", TOP / "config/examples/containerd.yaml")
    (line,) = [line for line in offered.stderr.splitlines() if line.startswith("# links: ")]
    (tmp_path / "config.yaml.d").mkdir()
    (tmp_path / "config.yaml").write_text((TOP / "config/examples/containerd.yaml").read_text())
    (tmp_path / "config.yaml.d/guard.yaml").write_text(line.removeprefix("# "))
    links = load(None, roots=(str(tmp_path),)).links
    assert links[0] == ROOT._replace(path=init.GUARDED, guard="append-only")
    assert links[1] == LAYERS

    guarded = tmp_path / "guarded.yaml"
    guarded.write_text(f"links: {{ctrd: {{path: /run/g/c, target: {STORE}, guard: append-only}}}}")
    done = command("init", "--containerd", "--config", guarded)
    assert (done.returncode, done.stderr) == (0, "")
    assert 'root_path = "/run/g/c"' in done.stdout


def test_without_a_link_to_its_root_it_says_what_is_missing(tmp_path: Path) -> None:
    """With the link to the snapshots alone, which would open an empty store."""
    file = tmp_path / "c.yaml"
    file.write_text(f"links: {{ctrdl: {{path: /run/ctrdl, target: {LAYERS.target}}}}}\n")
    file.chmod(0o644)
    done = command("init", "--containerd", "--config", file)
    assert (done.returncode, done.stdout) == (1, "")
    assert STORE in done.stderr


# --- drop-ins ----------------------------------------------------------------------------------


def choose(unit: str, links: Sequence[Link], *named: str, its: Containerd = NONE) -> list[str]:
    chosen = init_drop_in.choose(unit, links, named, [its], "/nonexistent")
    return [link.name for link in chosen]


def test_a_unit_gets_the_links_it_needs() -> None:
    other = Link("other", "/run/o", "/srv/o")
    assert choose("x.service", [other]) == ["other"]
    assert choose("containerd.service", [LAYERS, other, ROOT]) == ["ctrd"]
    assert choose("containerd.service", [LAYERS, other]) == ["ctrdl"]
    assert choose("x.service", [LAYERS, other], "other") == ["other"]


def test_it_is_not_guessed_which_links_a_unit_needs() -> None:
    """A target made where it doesn't belong may hide that its disk is not mounted."""
    with pytest.raises(UserError, match="can't tell") as caught:
        choose("x.service", [ROOT, LAYERS])
    assert "ctrd, ctrdl" in caught.value.hint
    with pytest.raises(UserError, match="no link is named z"):
        choose("x.service", [ROOT], "z")


def test_a_name_without_a_suffix_is_a_service_s() -> None:
    assert init_drop_in.full_name("containerd") == "containerd.service"
    assert init_drop_in.full_name("srv-x.mount") == "srv-x.mount"
    for name in ("", "a/b", "a\nb"):
        with pytest.raises(UserError):
            init_drop_in.full_name(name)


def test_a_mount_waits_for_the_early_links_and_never_for_the_daemon() -> None:
    """The daemon runs after local-fs.target: waiting for it would be an ordering cycle."""
    text = init_drop_in.for_user("srv-x.mount", [ROOT]).text
    assert "After=ovl-linkd-links.service\n" in text
    assert "ovl-linkd.service" not in text
    assert "ExecStartPre" not in text


def test_only_what_lies_outside_run_needs_a_drop_in_for_the_daemon(tmp_path: Path) -> None:
    file = tmp_path / "c.yaml"
    inside = "links: {a: {path: /run/a, target: /srv}}\n"
    file.write_text(inside)
    file.chmod(0o644)
    done = command("init", "--drop-in", "ovl-linkd", "--config", file)
    assert (done.returncode, done.stdout) == (0, "")
    assert "nothing has to be added" in done.stderr

    file.write_text(inside + "metrics-file: /srv/textfile/o.prom\n")
    done = command("init", "--drop-in", "ovl-linkd.service", "--config", file)
    assert done.stdout.startswith("# /etc/systemd/system/ovl-linkd.service.d/ovl-linkd.conf\n")
    assert "\nRequiresMountsFor=/srv/textfile\n" in done.stdout
    assert "\nReadWritePaths=-/srv/textfile\n" in done.stdout


def test_a_drop_in_is_written_and_written_anew_but_never_over_somebody_s_own(
    tmp_path: Path,
) -> None:
    first = init_drop_in.for_user("x.service", [ROOT])
    second = init_drop_in.for_user("x.service", [ROOT, LAYERS])
    file = tmp_path / "etc/systemd/system/x.service.d/ovl-linkd.conf"

    assert "daemon-reload" in init_drop_in.write(first, str(tmp_path))
    assert file.read_text() == first.text
    assert "already" in init_drop_in.write(first, str(tmp_path))
    init_drop_in.write(second, str(tmp_path))
    assert file.read_text() == second.text

    file.write_text(first.text.removeprefix(init_drop_in.MARK))
    with pytest.raises(UserError, match="left alone"):
        init_drop_in.write(second, str(tmp_path))
    file.unlink()
    file.symlink_to("/dev/null")
    with pytest.raises(UserError, match="left alone"):
        init_drop_in.write(second, str(tmp_path))
    assert os.listdir(file.parent) == ["ovl-linkd.conf"]


@pytest.mark.needs("root")
def test_who_can_t_write_a_drop_in_is_sent_to_root_only_where_that_helps(tmp_path: Path) -> None:
    drop_in = init_drop_in.for_user("x.service", [ROOT])
    (tmp_path / "etc").touch()
    with pytest.raises(UserError, match="Not a directory") as raised:
        init_drop_in.write(drop_in, str(tmp_path))
    assert raised.value.hint == "see what is wrong with the directory, and the disk"
    os.seteuid(65534)
    try:
        with pytest.raises(UserError, match="Permission denied") as raised:
            init_drop_in.write(drop_in)
    finally:
        os.seteuid(0)
    assert raised.value.hint == "run it as root"


def test_options_that_don_t_go_together() -> None:
    for words in (("--write",), ("--print", "--containerd"), ("--containerd", "--link", "x")):
        done = command("init", *words)
        assert (done.returncode, done.stdout) == (2, "")


@pytest.mark.needs("root")
@in_a_private_world
def test_a_unit_without_a_name_is_refused() -> None:
    """`--drop-in "$UNIT"`, and there is no UNIT: the configuration was written instead."""
    mounting.mount("tmpfs", "/etc", "tmpfs", 0, b"mode=0755")
    for more in ((), ("--write",), ("--link", "x")):
        done = command("init", "--drop-in", "", *more)
        assert (done.returncode, done.stdout) == (2, "")
        assert "'' is no name of a unit" in done.stderr
    assert not os.path.lexists(init.FILE)


@pytest.mark.needs("root")
@pytest.mark.parametrize("what", [("--drop-in", "x.service"), ("--containerd",)])
@in_a_private_world
def test_units_are_made_from_the_configuration_not_from_what_the_daemon_says(
    what: tuple[str, ...],
) -> None:
    """The daemon may write its own file; what root runs at each start must not come from there."""
    directory = Path("/etc/ovl-linkd")
    mounting.mount("tmpfs", "/etc", "tmpfs", 0, b"mode=0755")
    directory.mkdir()
    (directory / "config.yaml").write_text(
        f"links: {{ctrd: {{path: /run/ctrd, target: {STORE}}}}}\n"
    )
    (directory / "config.yaml").chmod(0o644)
    hostile = Link("ctrd", "/run/hostile", STORE)
    published.write(published.Published((hostile,), "/run/s", config_files.stamp(None)))
    assert published.known(None).links == (hostile,)

    done = command("init", *what)

    assert done.returncode == 0, done.stderr
    assert "/run/ctrd" in done.stdout
    assert "hostile" not in done.stdout


def test_a_faulty_configuration_makes_no_unit(tmp_path: Path) -> None:
    file = tmp_path / "c.yaml"
    file.write_text("links: 1\n")
    file.chmod(0o644)
    for what in (("--drop-in", "x"), ("--containerd",)):
        done = command("init", *what, "--config", file)
        assert (done.returncode, done.stdout) == (1, "")
        assert f"hint: ovl-linkd check --config {file}\n" in done.stderr
