"""Configuration: a value to rely on, or everything that is wrong, each with its place."""

import errno
import json
import os
import socket
from itertools import pairwise
from pathlib import Path

import jsonschema
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from ovl_linkd import config_files
from ovl_linkd.config import (
    SCHEMA,
    Config,
    ConfigError,
    Farm,
    Link,
    Problem,
    control_socket,
    load,
)
from ovl_linkd.config.rules import seconds
from tests.bounds import steps, within

ROOT = Path(__file__).parent.parent
TARGET = "/var/lib/containerd/io.containerd.snapshotter.v1.overlayfs/snapshots"


def write(path: Path, text: str | bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o755)
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    path.chmod(0o644)
    return path


def problems(tmp_path: Path, text: str | bytes) -> list[tuple[int, int, str, str]]:
    """What is wrong with TEXT: line, column, what, hint."""
    file = write(tmp_path / "c.yaml", text)
    with pytest.raises(ConfigError) as caught:
        load(str(file))
    assert {problem.file for problem in caught.value.problems} == {str(file)}
    return [problem[1:] for problem in caught.value.problems]


def faults(tmp_path: Path, text: str | bytes) -> list[str]:
    """The same as a person reads it, without the file's name."""
    found = [Problem(str(tmp_path / "c.yaml"), *one) for one in problems(tmp_path, text)]
    return [str(problem).removeprefix(f"{problem.file}:") for problem in found]


class Places:
    """The three places of a machine and the packaged default, in a directory of the test's."""

    def __init__(self, directory: Path) -> None:
        self.etc, self.run, self.usr = (directory / name for name in ("etc", "run", "usr"))
        self.packaged = write(directory / "data" / "config.yaml", "resync-interval: 11s\n")
        self.roots = (str(self.etc), str(self.run), str(self.usr))

    def load(self) -> Config:
        return load(None, self.roots, str(self.packaged))

    def stamp(self) -> list[config_files.Stamp]:
        return config_files.stamp(None, self.roots, str(self.packaged))


@pytest.fixture
def places(tmp_path: Path) -> Places:
    return Places(tmp_path)


# --- what is right ---------------------------------------------------------------------------


def test_every_setting_reaches_its_value(tmp_path: Path) -> None:
    file = write(
        tmp_path / "c.yaml",
        """
        links:
          b: {path: /run/b, target: "/srv/a:b, c\\\\d é", allow-unsafe-parent: yes}
          a: {path: /run/g/a, target: /srv/a, guard: append-only}
        farm: {path: /run/f, keep: 90, max-entries: 7, guard: append-only}
        resync-interval: 1h 30min
        control-socket: /run/x/s
        metrics-file: /run/x/m
        """,
    )
    links = (
        Link("b", "/run/b", "/srv/a:b, c\\d é", allow_unsafe_parent=True),
        Link("a", "/run/g/a", "/srv/a", guard="append-only"),
    )
    farm = Farm("/run/f", 90.0, 7, "append-only")
    assert load(str(file)) == Config(links, farm, 5400.0, "/run/x/s", "/run/x/m", (str(file),))


def test_what_is_not_written_has_the_defaults_of_the_schema(tmp_path: Path) -> None:
    empty = load(str(write(tmp_path / "c.yaml", "# nothing\n")))
    assert empty[:-1] == ((), None, 60.0, "/run/ovl-linkd/control.sock", None)
    farm = load(str(write(tmp_path / "f.yaml", "farm: {path: /run/f}"))).farm
    assert farm == Farm("/run/f", 3600.0, 100_000, "none")


def test_the_packaged_default_keeps_one_link_to_containerds_snapshots() -> None:
    config = load(None, roots=())
    assert config.links == (Link("ctrdl", "/run/ctrdl", TARGET),)
    assert config.files == (config_files.PACKAGED,)


def test_the_packaged_default_says_the_same_as_the_schema() -> None:
    """Two places that state a default: a reader of either must not be misled."""
    properties = json.loads(Path(SCHEMA).read_text())["properties"]
    text = (ROOT / "config/config.yaml").read_text()
    for key in ("resync-interval", "control-socket"):
        assert f"\n{key}: {properties[key]['default']}\n" in text
    for key in ("keep", "max-entries", "guard"):
        assert f"{key}: {properties['farm']['properties'][key]['default']}" in text


@pytest.mark.parametrize("name", sorted(os.listdir(ROOT / "config/examples")))
def test_every_example_is_right(name: str, tmp_path: Path) -> None:
    example = write(tmp_path / name, (ROOT / "config/examples" / name).read_text())
    assert load(str(example)).links
    assert "$schema=../config.schema.json" in example.read_text()


def test_the_schema_is_one_itself() -> None:
    """A keyword that is misspelt would check nothing, silently."""
    schema = json.loads(Path(SCHEMA).read_text())
    jsonschema.Draft202012Validator.check_schema(schema)
    known = {"$schema", "title", "description", "default", "examples", "type", "enum", "pattern"}
    known |= {"minimum", "maximum", "properties", "required"}
    known |= {"additionalProperties", "propertyNames"}

    def look(rule: dict[str, object]) -> None:
        assert set(rule) <= known
        for key in ("additionalProperties", "propertyNames"):
            inner = rule.get(key)
            if isinstance(inner, dict):
                look(inner)
        properties = rule.get("properties", {})
        assert isinstance(properties, dict)
        for inner in properties.values():
            look(inner)

    look(schema)


def test_every_key_of_the_schema_explains_itself() -> None:
    """Editors and the manual page show nothing but what the schema says."""

    def look(key: str, rule: dict[str, object]) -> None:
        assert rule.get("title"), key
        assert len(str(rule.get("description", ""))) > 20, key
        inner = rule.get("properties")
        for name, one in inner.items() if isinstance(inner, dict) else ():
            look(f"{key}.{name}", one)
        more = rule.get("additionalProperties")
        if isinstance(more, dict):
            look(f"{key}.*", more)

    look("", json.loads(Path(SCHEMA).read_text()))


def test_nothing_is_fetched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A daemon that asks a web server for a schema at boot would hang there."""

    def refuse(*_: object) -> None:
        raise AssertionError("the network was asked")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    assert faults(tmp_path, "links: {a: {path: /run/a, target: /x, $ref: 'http://127.0.0.1/'}}")
    assert '"$ref"' not in Path(SCHEMA).read_text()


def test_aliases_and_merge_keys_save_writing(tmp_path: Path) -> None:
    text = """
    links:
      a: &a {path: &p /run/a, target: &t /srv/x}
      b: {path: /run/b, target: *t}
      c: {<<: {target: /srv/c}, path: /run/c}
    """
    links = load(str(write(tmp_path / "c.yaml", text))).links
    assert [link.target for link in links] == ["/srv/x", "/srv/x", "/srv/c"]


@pytest.mark.parametrize(
    ("text", "length"),
    [
        ("60s", 60), ("1h", 3600), ("100ms", 0.1), ("1h 30min", 5400), ("1h30min", 5400),
        ("2.5 s", 2.5), ("250us", 0.00025), ("1 week 2 days", 777_600), ("20", 20), (" 1m ", 60),
        ("", None), ("s", None), ("1y", None), ("-1s", None), ("1h-", None), ("1 h h", None),
        ("1e3", None), ("٣s", None), ("1s\n", None), ("9" * 10, None), ("1 30min", None),
    ],
)  # fmt: skip
def test_time_spans_are_systemds(text: str, length: float | None) -> None:
    assert seconds(text) == length


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


# --- text that is no YAML, or too much of it -------------------------------------------------


@pytest.mark.parametrize(
    ("text", "place", "what", "hint"),
    [
        (
            "a: b: c", (1, 5),
            "not YAML: mapping values are not allowed in this context",
            "put a text that holds a colon in quotes",
        ),
        (
            "links:\n\ta: 1", (2, 1),
            "not YAML: found character that cannot start any token",
            "indent with spaces, not tabs",
        ),
        ("links: {}\n---\nlinks: {}", (2, 1), "a second document", "keep one; take `---` out"),
        (
            b"links:\n  \xc3\xa4: \xff", (2, 6),
            "the byte 0xff is not UTF-8",
            "save the file as UTF-8",
        ),
        (
            "a: b\nc: \x01", (2, 4),
            'the control character "\\x01"',
            "take it out, or write it as an escape in double quotes",
        ),
        ("links: *x", (1, 8), 'the alias *x has no anchor before it', "write &x first"),
        ("links: &x [*x]", (1, 12), 'the alias *x stands inside itself', "write it out"),
        ("[" * 40, (1, 18), "nested more than 16 deep", "write it flatter"),
    ],
)  # fmt: skip
def test_text_that_is_no_yaml(
    tmp_path: Path, text: str | bytes, place: tuple[int, int], what: str, hint: str
) -> None:
    assert problems(tmp_path, text) == [(*place, what, hint)]


@pytest.mark.parametrize(
    ("text", "place"),
    [("a: b: c", (1, 5)), ("links: {}\n---\n{}", (2, 1)), ("é: '", (1, 5))],
)
def test_without_libyaml_the_places_are_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str, place: tuple[int, int]
) -> None:
    """A PyYAML that was built without the C library words its errors otherwise."""
    (with_it,) = problems(tmp_path, text)
    monkeypatch.delattr(yaml, "CSafeLoader", raising=False)
    (without,) = problems(tmp_path, text)
    assert with_it[:2] == without[:2] == place
    assert len(load(str(write(tmp_path / "d.yaml", GOOD))).links) == 1


def test_deep_nesting_is_refused_before_it_costs_the_stack(tmp_path: Path) -> None:
    """PyYAML's C loader recursed until the process was gone; Debian 13's has a limit of its own."""
    (found,) = faults(tmp_path, "[" * 200_000)
    ours, libyaml_s = "1:18: nested more than 16 deep, write it flatter", "exceeded maximum nesting"
    assert found == ours or libyaml_s in found
    assert faults(tmp_path, "[" * 900) == [ours]


def test_aliases_that_multiply_are_refused_before_they_do(tmp_path: Path) -> None:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 10)}]" for i in range(1, 12)]
    with within(60):
        found = faults(tmp_path, "\n".join(lines))
    assert found[0].endswith(
        "more than 400000 keys and values, aliases count for all that they repeat"
    )


def test_aliases_do_not_get_round_the_depth(tmp_path: Path) -> None:
    lines = ["a0: &a0 [x]"] + [f"a{i}: &a{i} [*a{i - 1}]" for i in range(1, 40)]
    assert "nested more than 16 deep" in faults(tmp_path, "\n".join(lines))[0]


def test_a_file_that_is_too_long_to_be_a_configuration(tmp_path: Path) -> None:
    assert faults(tmp_path, b"#" * (4 << 20) + b"\n") == [
        " more than 4 MiB, is it a configuration?"
    ]


# --- settings that are wrong -----------------------------------------------------------------

GOOD = "links: {a: {path: /run/a, target: /x}}\n"


@pytest.mark.parametrize(
    ("text", "place", "what", "hint"),
    [
        # keys
        (
            "resync_interval: 5s", (1, 1),
            'unknown key "resync_interval"',
            "did you mean resync-interval?",
        ),
        (
            "zzz: 5", (1, 1),
            'unknown key "zzz"',
            "known are links, farm, resync-interval, control-socket, metrics-file",
        ),
        (
            "links:\n  a:\n    path: /run/a\n    target: /x\n    tagret: /y", (5, 5),
            'unknown key "tagret" in links.a',
            "did you mean target?",
        ),
        (
            "farm: {path: /f, guards: none}", (1, 18),
            'unknown key "guards" in farm',
            "did you mean guard?",
        ),
        (
            "farm: {path: /f}\nfarm: {path: /g}", (2, 1),
            'the key "farm" is there twice',
            "take one out; the other is at line 1",
        ),
        (
            "links: {a: {<<: {path: /run/a}, path: /run/b, target: /x}}", (1, 33),
            'the key "path" is there twice',
            "take one out; the other is at line 1",
        ),
        (
            "links: {a: {<<: 5, path: /run/b, target: /x}}", (1, 13),
            "<< takes mappings only",
            "write the keys out",
        ),
        ("[a]: 5", (1, 1), "a key that is no plain text", "write a name"),
        (
            "links:\n  no: {path: /run/a, target: /x}", (2, 3),
            "the key no is read by YAML as false",
            'write it in quotes: "no"',
        ),
        (
            "links: {1: {path: /run/a, target: /x}}", (1, 9),
            "the key 1 is read by YAML as a number",
            'write it in quotes: "1"',
        ),
        (
            "links: {A: {path: /run/a, target: /x}}", (1, 9),
            '"A" can\'t name a link',
            "take lower case letters, digits, - and _, at most 64, first a letter or digit",
        ),
        (
            'links: {"a\\n": {path: /run/a, target: /x}}', (1, 9),
            '"a\\n" can\'t name a link',
            "take lower case letters, digits, - and _, at most 64, first a letter or digit",
        ),
        (
            "links:\n  a:\n    path: /run/a", (2, 3),
            "links.a has no target",
            "add `target:` below it",
        ),
        ("farm: {}", (1, 1), "farm has no path", "add `path:` below it"),
        # types
        (
            "- a", (1, 1),
            "the configuration is a list",
            "write a mapping: lines `key: value` indented below it, or {}",
        ),
        (
            "links:\nfarm: {path: /f}", (1, 7),
            "links is nothing",
            "write a mapping: lines `key: value` indented below it, or {}",
        ),
        (
            "links: {a: /run/a}", (1, 12),
            "links.a is a text",
            "write a mapping: lines `key: value` indented below it, or {}",
        ),
        (
            "links: {a: {path: /run/a, target: 0755}}", (1, 35),
            "links.a.target: YAML reads 0755 as a number in octal",
            'write it in quotes: "0755"',
        ),
        (
            "links: {a: {path: no, target: /x}}", (1, 19),
            "links.a.path: YAML reads no as false",
            'write it in quotes: "no"',
        ),
        (
            "metrics-file: 2026-99-99", (1, 15),
            "metrics-file: YAML reads 2026-99-99 as a date",
            'write it in quotes: "2026-99-99"',
        ),
        (
            "control-socket: !!binary aGk=", (1, 17),
            "control-socket: YAML reads aGk= as binary data",
            'write it in quotes: "aGk="',
        ),
        (
            "control-socket: !x y", (1, 17),
            "control-socket: YAML reads y as a value of the type !x",
            'write it in quotes: "y"',
        ),
        (
            "control-socket: 1:30", (1, 17),
            "control-socket: YAML reads 1:30 as a number to the base 60",
            'write it in quotes: "1:30"',
        ),
        ("control-socket:", (1, 16), "control-socket is nothing", "write a text"),
        (
            "resync-interval: 1:30", (1, 18),
            "resync-interval: YAML reads 1:30 as a number to the base 60",
            "write a time span: 60s",
        ),
        (
            "resync-interval: 1.5", (1, 18),
            "resync-interval: YAML reads 1.5 as a number with a fraction",
            "write a time span: 60s",
        ),
        (
            'links: {a: {path: /run/a, target: /x, allow-unsafe-parent: "yes"}}', (1, 60),
            "links.a.allow-unsafe-parent is a text",
            "write true or false, without quotes",
        ),
        (
            "farm: {path: /f, max-entries: 1_000}", (1, 31),
            "farm.max-entries: YAML reads 1_000 as a number with underscores",
            "write a whole number, without quotes",
        ),
        # ranges
        (
            "farm: {path: /f, max-entries: 0}", (1, 31),
            "farm.max-entries is 0",
            "it must be at least 1",
        ),
        (
            "farm: {path: /f, guard: apend-only}", (1, 25),
            'farm.guard is "apend-only"',
            "did you mean append-only?",
        ),
        ("farm: {path: /f, guard: x}", (1, 25), 'farm.guard is "x"', "write none or append-only"),
        ("resync-interval: 0", (1, 18), "resync-interval is 0", "it must be at least 1"),
        (
            "resync-interval: 500ms", (1, 18),
            'resync-interval: "500ms" is too short',
            "it must be at least 1s",
        ),
        (
            "resync-interval: 999w", (1, 18),
            'resync-interval: "999w" is too long',
            "it must be at most 366d",
        ),
        (
            "farm: {path: /f, keep: 1 fortnight}", (1, 24),
            'farm.keep: "1 fortnight" is no time span',
            "write it like 60s, 1h 30min or 1500ms",
        ),
        # paths
        (
            "links: {a: {path: run/a, target: /x}}", (1, 19),
            'links.a.path: "run/a" is not absolute',
            "write the whole path, from / on",
        ),
        (
            "links: {a: {path: /run/a, target: x}}", (1, 35),
            'links.a.target: "x" is not absolute',
            "write the whole path, from / on",
        ),
        (
            "control-socket: x", (1, 17),
            'control-socket: "x" is not absolute',
            "write the whole path, from / on",
        ),
        (
            "links: {a: {path: /run/a, target: /x/}}", (1, 35),
            'links.a.target: "/x/" is not normalised',
            'write "/x"',
        ),
        (
            "links: {a: {path: //run/a, target: /x}}", (1, 19),
            'links.a.path: "//run/a" is not normalised',
            'write "/run/a"',
        ),
        (
            "links: {a: {path: /run/./a, target: /x}}", (1, 19),
            'links.a.path: "/run/./a" is not normalised',
            'write "/run/a"',
        ),
        (
            "metrics-file: /a/../b", (1, 15),
            'metrics-file: "/a/../b" is not normalised',
            'write "/b", if no directory on the way is a symlink',
        ),
        (
            'links: {a: {path: /run/a, target: "/x\\0"}}', (1, 35),
            'links.a.target: "/x\\x00" holds a NUL byte',
            "take it out; no path can hold one",
        ),
        (
            "links: {a: {path: /, target: /x}}", (1, 19),
            'links.a.path: "/" is the root directory',
            "name a path below it, such as /run/ctrdl",
        ),
        (
            'links: {a: {path: "/run/a:b", target: /x}}', (1, 19),
            'links.a.path: "/run/a:b" holds ":"',
            "mount options give that a meaning: leave it out",
        ),
        (
            'farm: {path: "/f,g"}', (1, 14),
            'farm.path: "/f,g" holds ","',
            "mount options give that a meaning: leave it out",
        ),
        (
            "links: {a: {path: '/run/a\\b', target: /x}}", (1, 19),
            'links.a.path: "/run/a\\b" holds "\\"',
            "mount options give that a meaning: leave it out",
        ),
        (
            "links: {a: {path: /run/a b, target: /x}}", (1, 19),
            'links.a.path: "/run/a b" holds " "',
            "take white space and control characters out",
        ),
        (
            'links: {a: {path: "/run/\\e", target: /x}}', (1, 19),
            'links.a.path: "/run/\\x1b" holds "\\x1b"',
            "take white space and control characters out",
        ),
        (
            "control-socket: /run/" + "s/" * 52 + "s", (1, 17),
            'control-socket: "/run/' + "s/" * 17 + "s…" + "/s" * 20 + '" is 110 bytes long',
            "at most 103 are taken",
        ),
    ],
)  # fmt: skip
def test_each_mistake_has_its_place_and_its_hint(
    tmp_path: Path, text: str, place: tuple[int, int], what: str, hint: str
) -> None:
    assert problems(tmp_path, text) == [(*place, what, hint)]


def test_lengths_are_counted_in_bytes(tmp_path: Path) -> None:
    """255 characters may be 510 bytes, which no file system takes."""
    load(str(write(tmp_path / "c.yaml", f"metrics-file: /{'é' * 127}")))
    assert "has a component that is too long, at most 255 bytes" in "".join(
        faults(tmp_path, f"metrics-file: /{'é' * 128}")
    )
    assert "is 4096 bytes long, at most 4095 are taken" in "".join(
        faults(tmp_path, f"metrics-file: {'/' + 'x' * 63}" + ("/" + "x" * 63) * 63)
    )


def through_itself(target: str) -> tuple[str, str]:
    what = f'links.a.target: the target "{target}" leads through the link itself'
    return what, "point it elsewhere"


def inside(name: str, path: str, target: str) -> tuple[str, str]:
    what = f'links.{name}.target: the link "{path}" lies inside its own target "{target}"'
    return what, "move the link out of it: whoever walks the target would walk in a circle"


def circle(name: str, names: str) -> tuple[str, str]:
    what = f"links.{name}.target: the links {names} lead in a circle"
    return what, "let one of them point at a real directory"


@pytest.mark.parametrize(
    ("links", "wanted"),
    [
        ("a: {path: /run/a, target: /run/a}", [(35, through_itself("/run/a"))]),
        ("a: {path: /run/a, target: /run/a/b}", [(35, through_itself("/run/a/b"))]),
        ("a: {path: /srv/x/a, target: /srv}", [(37, inside("a", "/srv/x/a", "/srv"))]),
        ("a: {path: /run/a, target: /}", [(35, inside("a", "/run/a", "/"))]),
        (
            "a: {path: /run/a, target: /srv}, b: {path: /run/a/b, target: /srv}",
            [(70, inside("b", "/run/a/b", "/srv"))],
        ),
        (
            "a: {path: /run/a, target: /run/b}, b: {path: /run/b, target: /run/a}",
            [(35, circle("a", "a, b")), (70, circle("b", "b, a"))],
        ),
        (
            "a: {path: /run/a, target: /run/b/x}, b: {path: /run/b, target: /run/a/y}",
            [(35, circle("a", "a, b")), (72, circle("b", "b, a"))],
        ),
    ],
)
def test_links_that_lead_into_themselves(
    tmp_path: Path, links: str, wanted: list[tuple[int, tuple[str, str]]]
) -> None:
    found = problems(tmp_path, f"links: {{{links}}}")
    assert found == [(1, column, *fault) for column, fault in wanted]


def test_links_may_lead_through_one_another(tmp_path: Path) -> None:
    """`/run/ab` isn't under `/run/a`; and a way that ends is no circle."""
    text = """
    links:
      a: {path: /run/a, target: /run/ab/x}
      ab: {path: /run/ab, target: /srv/ab}
      c: {path: /run/c, target: /run/a}
    """
    assert len(load(str(write(tmp_path / "c.yaml", text))).links) == 3


def test_two_at_one_path(tmp_path: Path) -> None:
    text = "links:\n  a: {path: /run/a, target: /x}\n  b: {path: /run/a, target: /y}\n"
    text += "farm: {path: /run/a}\n"
    where = f"give one another path; the other is at {tmp_path}/c.yaml:2"
    assert faults(tmp_path, text) == [
        f'3:13: links.b.path and links.a.path are both "/run/a", {where}',
        f'4:14: farm.path and links.a.path are both "/run/a", {where}',
    ]


def test_two_at_one_place_through_a_symlink(tmp_path: Path) -> None:
    """Two names of one link: the daemon would put each right by breaking the other."""
    (tmp_path / "r").mkdir()
    (tmp_path / "rr").symlink_to("r")
    (found, *more) = [
        what
        for _, _, what, _ in problems(
            tmp_path,
            f"""links:
  a: {{path: {tmp_path}/r/x, target: /s/y, allow-unsafe-parent: true}}
  b: {{path: {tmp_path}/rr/x, target: /s/z, allow-unsafe-parent: true}}
""",
        )
    ]
    assert found.startswith("links.b.path: ")
    assert "through a symlink, links.a.path" in found
    assert more == []


def test_two_at_one_place_through_a_link_of_ours(tmp_path: Path) -> None:
    text = "links:\n  a: {path: /run/a, target: /srv/a}\n"
    text += "  b: {path: /run/a/x, target: /s/y}\n  c: {path: /srv/a/x, target: /s/z}\n"
    whats = [what for _, _, what, _ in problems(tmp_path, text)]
    assert any(what.startswith("links.c.path: ") and "links.b.path" in what for what in whats)


@pytest.mark.parametrize(
    ("path", "target", "what"),
    [
        ("real/x", "alias", "inside its own target"),
        ("alias/x", "real", "inside its own target"),
        ("real/x", "alias/x/y", "leads, through a symlink, through the link itself"),
    ],
)
def test_a_link_that_leads_into_itself_through_a_symlink(
    tmp_path: Path, path: str, target: str, what: str
) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "alias").symlink_to("real")
    link = f"path: {tmp_path}/{path}, target: {tmp_path}/{target}, allow-unsafe-parent: true"
    ((_, _, said, _),) = problems(tmp_path, f"links: {{a: {{{link}}}}}")
    assert said.startswith("links.a.target: ")
    assert what in said


def test_a_link_beside_a_symlink_to_its_target_is_right(tmp_path: Path) -> None:
    (tmp_path / "real/t").mkdir(parents=True)
    (tmp_path / "alias").symlink_to("real")
    text = f"path: {tmp_path}/x, target: {tmp_path}/alias/t, allow-unsafe-parent: true"
    assert load(str(write(tmp_path / "c.yaml", f"links: {{a: {{{text}}}}}"))).links


@pytest.mark.parametrize("key", ["control-socket", "metrics-file"])
def test_what_root_writes_lies_where_only_root_may_write(tmp_path: Path, key: str) -> None:
    """In /tmp anybody could put a socket of his own there first, or a symlink."""
    sticky = tmp_path / "tmp"
    sticky.mkdir()
    sticky.chmod(0o1777)
    (found,) = faults(tmp_path, f"{key}: {sticky}/x")
    assert found.startswith(f"1:{len(key) + 3}: {key}: {tmp_path.parents[-2]}")
    assert found.endswith("is writable by everybody, move it below a directory of root's")


# --- the control socket of a configuration that is faulty otherwise ---------------------------


@pytest.mark.parametrize("more", ["nonsense: 1", "links: 7", "resync-interval: soon", ""])
def test_the_control_socket_is_known_though_the_rest_is_faulty(tmp_path: Path, more: str) -> None:
    file = write(tmp_path / "c.yaml", f"control-socket: /run/x/s\n{more}\n")
    assert control_socket(str(file)) == "/run/x/s"


def test_the_control_socket_is_known_though_others_may_write_the_file(tmp_path: Path) -> None:
    file = write(tmp_path / "c.yaml", "control-socket: /run/x/s\n")
    file.chmod(0o666)
    assert control_socket(str(file)) == "/run/x/s"


@pytest.mark.parametrize("text", ["nonsense: 1", "control-socket: null", ""])
def test_a_control_socket_that_is_not_written_is_the_default(tmp_path: Path, text: str) -> None:
    file = write(tmp_path / "c.yaml", text)
    assert control_socket(str(file)) == "/run/ovl-linkd/control.sock"


@pytest.mark.parametrize("text", ["links: [", "control-socket: 7", "control-socket: x"])
def test_a_control_socket_that_can_t_be_known_is_an_error(tmp_path: Path, text: str) -> None:
    with pytest.raises(ConfigError):
        control_socket(str(write(tmp_path / "c.yaml", text)))


def test_the_control_socket_of_the_standard_places_is_the_highest(places: Places) -> None:
    write(places.usr / "config.yaml", "control-socket: /run/low")
    write(places.etc / "config.yaml.d/a.yaml", "control-socket: /run/high\nnonsense: 1\n")
    assert control_socket(None, places.roots, str(places.packaged)) == "/run/high"


def test_a_link_among_the_farms_names(tmp_path: Path) -> None:
    text = GOOD.replace("/run/a", "/run/f/a") + "farm: {path: /run/f}"
    assert faults(tmp_path, text) == [
        '1:19: links.a.path: "/run/f/a" lies in the farm, its names are the farm\'s: move it out'
    ]


OWN = "give guarded links a directory of their own: path: /run/ov/a"
GUARDED = "links:\n  a: {path: %s, target: /x, guard: append-only}\n"


@pytest.mark.parametrize("directory", ["", "/run", "/srv", "/var/lib", "/etc", "/run/ovl-linkd"])
def test_a_guard_of_a_directory_that_is_others(directory: str, tmp_path: Path) -> None:
    found = faults(tmp_path, GUARDED % f"{directory}/a")
    shown = directory or "/"
    assert [fault.partition(": ")[2] for fault in found] == [
        f'links.a.guard: "{shown}" is others\' to write, {OWN}'
    ]


@pytest.mark.parametrize(
    ("more", "label"),
    [
        ("  b: {path: /run/g/b, target: /x}", "links.b"),
        ("  b: {path: /run/g/d/b, target: /x}", "links.b"),
        ("  b: {path: /run/g/d/b, target: /x, guard: append-only}", "links.b"),
        ("farm: {path: /run/g/f}", "farm.path"),
        ("control-socket: /run/g/s", "control-socket"),
        ("metrics-file: /run/g/m", "metrics-file"),
    ],
)
def test_a_guard_of_a_directory_that_holds_more(more: str, label: str, tmp_path: Path) -> None:
    """Whatever is replaced there could not be any more; a farm's ledger lies beside it."""
    (found,) = faults(tmp_path, GUARDED % "/run/g/a" + more)
    assert found.partition(": ")[2].startswith(f"links.a.guard: {label} at ")
    assert found.endswith(f':3 lies in "/run/g", too, and is no guarded link of it, {OWN}')


def test_a_guard_where_others_may_write(tmp_path: Path) -> None:
    text = (GUARDED % "/run/g/a").replace("guard:", "allow-unsafe-parent: true, guard:")
    (found,) = faults(tmp_path, text)
    assert "others may write there, by allow-unsafe-parent, take one of the two out" in found


def test_guarded_links_share_a_directory(tmp_path: Path) -> None:
    text = GUARDED % "/run/g/a" + "  b: {path: /run/g/b, target: /x, guard: append-only}"
    links = load(str(write(tmp_path / "c.yaml", text))).links
    assert [link.guard for link in links] == ["append-only"] * 2


def test_a_parent_that_others_may_write(tmp_path: Path) -> None:
    """Whoever may write there could point the link elsewhere, and root would mount that."""
    tmp_path.chmod(0o755)
    open_to_all = tmp_path / "open"
    open_to_all.mkdir()
    open_to_all.chmod(0o777)
    text = f"links:\n  a:\n    path: {open_to_all}/a\n    target: /x\n"
    (found,) = faults(tmp_path, text)
    assert found.startswith("3:11: links.a.path: /")
    assert found.endswith("everybody, move it below a directory of root's, "
                          "or set allow-unsafe-parent: true")  # fmt: skip
    file = write(tmp_path / "c.yaml", text + "    allow-unsafe-parent: true\n")
    assert load(str(file)).links[0].allow_unsafe_parent


def test_a_parent_that_is_missing_is_waited_for(tmp_path: Path) -> None:
    file = write(tmp_path / "c.yaml", GOOD.replace("/run/a", "/run/not/there/a"))
    assert load(str(file)).links[0].path == "/run/not/there/a"


def test_all_mistakes_come_at_once(tmp_path: Path) -> None:
    text = """\
links:
  no: {path: /run/a, target: /x}
  a: {path: run/a, target: /x, target: /y}
  b: {path: /run/b}
  c: {path: /run/c, target: /run/c}
resync-interval: 10ms
farm: {path: /f, guard: 5, keep: []}
fram: 1
"""
    places = [line.split(" ", 1)[0] for line in faults(tmp_path, text)]
    assert places == ["2:3:", "3:13:", "3:32:", "4:3:", "5:29:", "6:18:", "7:25:", "7:34:", "8:1:"]


def test_a_mistake_is_one_line_whatever_the_text_holds(tmp_path: Path) -> None:
    for problem in faults(tmp_path, '"a\\nb\\e[31m\\u2028": 1\n"\\u202e": 1\n? "\\x85"\n: 1'):
        assert problem.isprintable()


def test_no_text_makes_the_patterns_run_for_ever(tmp_path: Path) -> None:
    """`([0-9]+ *[a-z]* *)+` tries every way to cut a row of digits: 30 of them took minutes."""
    for text in ("1" * 60 + "!", "1s" * 60 + "!", "1 " * 60, "1s" + " " * 2_000 + "!"):
        with within(60):
            (found,) = faults(tmp_path, f'resync-interval: "{text}"')
        assert "is no time span" in found


def test_a_mistake_of_any_length_is_still_a_line(tmp_path: Path) -> None:
    long = "9" * 300_000
    text = f"? {long}\n: 1\n? k{long}\n: 1\nresync-interval: {long}\ncontrol-socket: !t{long} x\n"
    text += f"links:\n  ? l{long}\n  : {{path: /{long}, target: {long}, a: 1}}\n"
    found = faults(tmp_path, text)
    assert len(found) == 8
    assert max(map(len, found)) < 400


def test_ten_times_the_links_take_ten_times_as_long_to_read(tmp_path: Path) -> None:
    """Compared with each other, or looked for line by line, it would be a hundred times."""

    def work(count: int) -> int:
        lines = [f"  l{i}: {{path: /run/l/{i}, target: /srv/layers/{i}}}" for i in range(count)]
        file = write(tmp_path / "c.yaml", "\n".join(["links:", *lines]))
        assert len(load(str(file)).links) == count
        return steps(lambda: load(str(file)))

    assert work(500) < 15 * work(50)


# --- whatever comes --------------------------------------------------------------------------

_scalars = st.one_of(
    st.sampled_from([
        "no", "~", "0755", "1:30", "1.5", "2026-11-23", "<<", "=", "/run/a", "/run/a/b", "/",
        "60s", '"\\ud800"', "!!int x", "!!float y", "!!timestamp z", "!!set {a}", "&a b", "*a",
        "9" * 5000, "!!bool 5", "!!null x", "!!str 5", "{}", "[]", "links", "path", "target",
    ]),
    st.text(max_size=6),
)  # fmt: skip
_flow = st.recursive(
    _scalars,
    lambda inner: (
        st.lists(inner, max_size=3).map(lambda one: f"[{', '.join(one)}]")
        | st.lists(st.tuples(inner, inner), max_size=3).map(
            lambda one: "{" + ", ".join(f"{key}: {value}" for key, value in one) + "}"
        )
    ),
    max_leaves=12,
)
_settings = st.lists(
    st.tuples(
        st.sampled_from(["links", "farm", "resync-interval", "control-socket", "metrics-file"]),
        _flow | st.builds("{{a: {}, b: {{path: {}, target: {}}}}}".format, _flow, _flow, _flow),
    ),
    max_size=4,
).map(lambda one: "\n".join(f"{key}: {value}" for key, value in one).encode("utf-8", "replace"))


def usable(config: Config) -> bool:
    normal = all(os.path.normpath(link.path) == link.path != link.target for link in config.links)
    return normal and config.resync_interval >= 1


@given(content=st.one_of(st.binary(max_size=200), _settings), drop_in=_settings)
def test_whatever_the_files_hold_is_a_configuration_or_errors(
    tmp_path_factory: pytest.TempPathFactory, content: bytes, drop_in: bytes
) -> None:
    places = Places(tmp_path_factory.mktemp("any"))
    write(places.etc / "config.yaml", content)
    write(places.etc / "config.yaml.d/a.yaml", drop_in)
    try:
        config = places.load()
    except ConfigError as error:
        found = error.problems
    else:
        found = ()
        assert usable(config)
    assert all(str(problem).isprintable() for problem in found)


@given(
    aims=st.lists(
        st.sampled_from(["a", "b", "c/y", "d", "e", "a/x", "f/x/y"]), min_size=1, max_size=5
    )
)
def test_a_circle_is_what_the_kernel_calls_one(
    tmp_path_factory: pytest.TempPathFactory, aims: list[str]
) -> None:
    """Links a, b, c … at their names, each made for real: ELOOP decides who is right."""
    directory = tmp_path_factory.mktemp("loop")
    lines = ["links:"]
    looping = []
    for name, aim in zip("abcde", aims, strict=False):
        (directory / name).symlink_to(directory / aim)
        lines.append(
            f"  {name}: {{path: {directory}/{name}, target: {directory}/{aim}, "
            "allow-unsafe-parent: true}"
        )
    for line, name in enumerate("abcde"[: len(aims)], 2):
        try:
            (directory / name).stat()
        except OSError as error:
            looping += [line] if error.errno == errno.ELOOP else []
    file = write(directory / "c.yaml", "\n".join(lines))
    try:
        load(str(file))
        refused = []
    except ConfigError as error:
        refused = [problem.line for problem in error.problems]
    assert refused == looping
