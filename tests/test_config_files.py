"""Which files make a configuration, whether they may be believed, and when they have changed."""

import json
import os
from itertools import pairwise
from pathlib import Path

import pytest

from ovl_linkd import config_files
from ovl_linkd.config import ConfigError, Link, Problem, load
from tests.configurations import Places, write


@pytest.fixture
def places(tmp_path: Path) -> Places:
    return Places(tmp_path)


# --- places, masks, drop-ins -----------------------------------------------------------------


def test_with_nothing_installed_the_packaged_default_applies(places: Places) -> None:
    assert places.load().resync_interval == 11.0


def test_the_highest_place_takes_the_others_place(places: Places) -> None:
    for number, root in enumerate((places.usr, places.run, places.etc), 1):
        file = write(root / "config.yaml", f"resync-interval: {number}s")
        config = places.load()
        assert (config.resync_interval, config.files) == (number, (str(file),))


@pytest.mark.parametrize("mask", ["empty", "null"])
def test_a_mask_hides_the_lower_file_but_no_drop_in(places: Places, mask: str) -> None:
    """UAPI.6: "If a config file is masked, drop-ins must still be parsed"."""
    write(places.usr / "config.yaml", "links: {a: {path: /run/a, target: /x}}")
    drop_in = write(places.usr / "config.yaml.d/a.yaml", "resync-interval: 5s")
    places.etc.mkdir()
    if mask == "empty":
        write(places.etc / "config.yaml", "")
    else:
        (places.etc / "config.yaml").symlink_to("/dev/null")
    config = places.load()
    assert (config.links, config.resync_interval) == ((), 5.0)
    assert config.files == (str(drop_in),)


def test_drop_ins_apply_by_file_name_whatever_their_place(places: Places) -> None:
    main = write(places.etc / "config.yaml", "resync-interval: 1s\ncontrol-socket: /run/s")
    high = write(places.etc / "config.yaml.d/10.yaml", "resync-interval: 10s\nmetrics-file: /m")
    low = write(places.usr / "config.yaml.d/20.yaml", "resync-interval: 20s")
    write(places.run / "config.yaml.d/10.yaml", "control-socket: /run/masked")
    write(places.run / "config.yaml.d/30.conf", "no: drop-in")
    write(places.run / "config.yaml.d/.30.yaml", "no: drop-in")
    config = places.load()
    assert config[2:5] == (20.0, "/run/s", "/m")
    assert config.files == (str(main), str(high), str(low))


def test_a_drop_in_is_masked_by_its_name(places: Places) -> None:
    write(places.usr / "config.yaml.d/a.yaml", "resync-interval: 5s")
    write(places.etc / "config.yaml.d/a.yaml", "links: {}")
    assert places.load().resync_interval == 11.0


def test_a_drop_in_changes_single_keys_of_a_link(places: Places) -> None:
    write(places.usr / "config.yaml", "links: {a: {path: /run/a, target: /x}}")
    write(places.etc / "config.yaml.d/a.yaml", "links: {a: {target: /y}}")
    assert places.load().links == (Link("a", "/run/a", "/y"),)


def test_null_takes_away(places: Places) -> None:
    write(
        places.usr / "config.yaml",
        "links: {a: {path: /run/a, target: /x}, b: {path: /run/b, target: /x}}\n"
        "farm: {path: /run/f}\nmetrics-file: /m",
    )
    write(places.etc / "config.yaml.d/a.yaml", "links: {a: null}\nfarm: null\nmetrics-file: ~")
    config = places.load()
    assert (config.links, config.farm, config.metrics_file) == (
        (Link("b", "/run/b", "/x"),), None, None,
    )  # fmt: skip


def test_the_counters_are_written_by_default_but_for_a_file_of_its_own(places: Places) -> None:
    """A configuration made by hand masks the packaged one, which names the file.

    Daemons of --config FILE run side by side: by default they'd write over each other's.
    """
    main = write(places.etc / "config.yaml", "links: {}")
    assert places.load().metrics_file == "/run/ovl-linkd/metrics.prom"
    assert load(str(main)).metrics_file is None
    write(places.etc / "config.yaml.d/off.yaml", "metrics-file: null")
    assert places.load().metrics_file is None


def test_a_link_taken_away_does_not_come_back_in_part(places: Places) -> None:
    write(places.usr / "config.yaml", "links: {a: {path: /run/a, target: /x}}")
    write(places.etc / "config.yaml.d/1.yaml", "links: {a: null}")
    last = write(places.etc / "config.yaml.d/2.yaml", "links: {a: {target: /y}}")
    with pytest.raises(ConfigError) as caught:
        places.load()
    assert caught.value.problems == (
        Problem(str(last), 1, 9, "links.a has no path", "add `path:` below it"),
    )


def test_a_faulty_drop_in_does_not_hide_what_lies_below(places: Places) -> None:
    """It said `links: 5`: whoever reads the errors must not be told that link a lacks a path."""
    write(places.usr / "config.yaml", "links: {a: {path: /run/a, target: /x}}")
    faulty = write(places.etc / "config.yaml.d/1.yaml", "links: 5")
    write(places.etc / "config.yaml.d/2.yaml", "links: {a: {target: /y}}")
    with pytest.raises(ConfigError) as caught:
        places.load()
    assert [(one.file, one.what) for one in caught.value.problems] == [
        (str(faulty), "links: YAML reads 5 as a number")
    ]


def test_errors_of_all_files_come_at_once_in_reading_order(places: Places) -> None:
    first = write(places.etc / "config.yaml", "b: 1\na: 1")
    second = write(places.usr / "config.yaml.d/a.yaml", "resync-interval: 1x")
    third = write(places.run / "config.yaml.d/b.yaml", "links: [")
    with pytest.raises(ConfigError) as caught:
        places.load()
    assert [problem.file for problem in caught.value.problems] == [str(third)]
    third.unlink()
    with pytest.raises(ConfigError) as caught:
        places.load()
    assert [(one.file, one.line) for one in caught.value.problems] == [
        (str(first), 1), (str(first), 2), (str(second), 1),
    ]  # fmt: skip


def test_a_named_file_stands_alone(places: Places) -> None:
    file = write(places.etc / "config.yaml", "resync-interval: 2s")
    write(places.etc / "config.yaml.d/a.yaml", "resync-interval: 3s")
    assert load(str(file), places.roots).resync_interval == 2.0


def test_a_relative_name_is_read_and_said_as_a_whole_path(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path / "c.yaml", "")
    monkeypatch.chdir(tmp_path)
    assert load("c.yaml").files == (str(tmp_path / "c.yaml"),)


# --- stamp -----------------------------------------------------------------------------------


def test_a_stamp_outlives_json_and_stays_while_nothing_changes(places: Places) -> None:
    write(places.etc / "config.yaml", "")
    assert json.loads(json.dumps(places.stamp())) == places.stamp()


@pytest.mark.parametrize(
    "name", ["etc/config.yaml", "run/config.yaml", "etc/config.yaml.d/x.yaml", "data/config.yaml"]
)
def test_every_change_that_matters_shows_in_the_stamp(
    places: Places, tmp_path: Path, name: str
) -> None:
    """A command that believes the daemon's old links would write a dead short name down."""
    seen = [places.stamp()]
    file = write(tmp_path / name, "resync-interval: 5s")
    seen.append(places.stamp())
    file.write_text("resync-interval: 55s")
    seen.append(places.stamp())
    replacement = write(tmp_path / "other", "resync-interval: 44s")
    times = file.stat()
    os.utime(replacement, ns=(times.st_atime_ns, times.st_mtime_ns))
    replacement.rename(file)
    seen.append(places.stamp())
    file.unlink()
    seen.append(places.stamp())
    assert all(one != other for one, other in pairwise(seen))


def test_a_stamp_of_a_named_file_minds_that_file_only(tmp_path: Path) -> None:
    file = write(tmp_path / "c.yaml", "")
    before = config_files.stamp(str(file))
    write(tmp_path / "d.yaml", "")
    assert config_files.stamp(str(file)) == before
    file.unlink()
    assert config_files.stamp(str(file)) == [[str(file), None, None, None]]


# --- files that can't be used ----------------------------------------------------------------


def test_a_named_file_that_is_missing(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        load(str(tmp_path / "c.yaml"))
    assert str(caught.value) == (
        f"{tmp_path}/c.yaml: No such file or directory, "
        "name a file that exists, or leave the option out"
    )


def test_a_symlink_to_nothing_does_not_let_the_lower_file_through(places: Places) -> None:
    places.etc.mkdir()
    (places.etc / "config.yaml").symlink_to("gone")
    with pytest.raises(ConfigError, match="it is a symlink to nothing: mend or remove it"):
        places.load()


@pytest.mark.parametrize("kind", ["directory", "fifo"])
def test_what_is_no_file_is_said_and_never_waited_for(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "c.yaml"
    path.mkdir() if kind == "directory" else os.mkfifo(path)
    with pytest.raises(ConfigError, match="not a regular file, put a file of YAML text there"):
        load(str(path))


def test_an_unreadable_directory_is_not_taken_for_an_empty_one(
    places: Places, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Falling back on the packaged default would be another configuration, silently.

    The call is replaced, because nothing is unreadable to root.
    """
    real = os.lstat

    def lstat(path: str) -> os.stat_result:
        if path.startswith(str(places.etc)):
            raise PermissionError(13, "Permission denied", path)
        return real(path)

    monkeypatch.setattr(os, "lstat", lstat)
    with pytest.raises(ConfigError, match="Permission denied, run as root"):
        places.load()


@pytest.mark.needs("root")
@pytest.mark.parametrize(
    ("mode", "owner", "group", "what"),
    [
        (0o666, 0, 0, "is writable by everybody, chmod o-w"),
        (0o664, 0, 12, "is writable by group 12, chmod g-w"),
        (0o644, 1234, 0, "belongs to user 1234, chown root"),
    ],
)
@pytest.mark.parametrize("whose", ["file", "directory"])
def test_a_configuration_that_others_may_write_is_refused(
    tmp_path: Path, whose: str, mode: int, owner: int, group: int, what: str
) -> None:
    file = write(tmp_path / "d/c.yaml", "b: 1")
    subject = file if whose == "file" else file.parent
    os.chown(subject, owner, group)
    subject.chmod(mode | (0o111 if whose == "directory" else 0))
    with pytest.raises(ConfigError) as caught:
        load(str(file))
    name = "the file" if whose == "file" else f"its directory {file.parent}"
    assert str(caught.value.problems[0]) == f"{file}: {name} {what} {subject}"
    assert caught.value.problems[1].what == 'unknown key "b"', "the text is still looked at"


@pytest.mark.needs("root")
def test_a_symlink_out_of_etc_is_judged_by_where_it_leads(tmp_path: Path) -> None:
    real = write(tmp_path / "home/c.yaml", "")
    os.chown(real.parent, 1234, 0)
    (tmp_path / "c.yaml").symlink_to(real)
    with pytest.raises(ConfigError, match=f"its directory {real.parent} belongs to user 1234"):
        load(str(tmp_path / "c.yaml"))


@pytest.mark.needs("root")
def test_who_may_write_further_up_decides_as_well(tmp_path: Path) -> None:
    """The directory of the drop-ins can be renamed there, and everything in it is gone."""
    write(tmp_path / "etc/config.yaml.d/a.yaml", "links: {}")
    (tmp_path / "etc").chmod(0o777)
    said = f"its directory {tmp_path}/etc is writable by everybody, chmod o-w {tmp_path}/etc"
    with pytest.raises(ConfigError, match=said):
        load(roots=(str(tmp_path / "etc"),))


@pytest.mark.needs("root")
def test_a_symlink_of_others_is_refused_wherever_it_leads(tmp_path: Path) -> None:
    """Who made it chose the file, one of root's that says something else perhaps."""
    write(tmp_path / "root/c.yaml", "")
    (tmp_path / "t").mkdir()
    (tmp_path / "t").chmod(0o1777)
    way = tmp_path / "t/way"
    for aim, path in (("../root/c.yaml", way), ("../root", way / "c.yaml")):
        way.symlink_to(aim)
        assert load(str(path)).links == ()
        os.chown(way, 1234, 0, follow_symlinks=False)
        with pytest.raises(ConfigError, match=f"the symlink {way} belongs to user 1234, chown -h"):
            load(str(path))
        way.unlink()


def test_a_sticky_directory_is_no_danger_to_ones_own_file(tmp_path: Path) -> None:
    """`--config /tmp/x.yaml`: nobody else can replace it there."""
    file = write(tmp_path / "t/c.yaml", "")
    file.parent.chmod(0o1777)
    assert load(str(file)).links == ()
