"""Configuration: a value to rely on, or everything that is wrong, each with its place."""

import json
import os
import socket
from pathlib import Path

import jsonschema
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ovl_linkd import config_files
from ovl_linkd.config import SCHEMA, Config, ConfigError, Farm, Link, control_socket, load
from tests.bounds import steps
from tests.configurations import Places, faults, write

ROOT = Path(__file__).parent.parent
TARGET = "/var/lib/containerd/io.containerd.snapshotter.v1.overlayfs/snapshots"


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


# --- what is wrong ---------------------------------------------------------------------------


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


def test_the_control_socket_of_the_standard_places_is_the_highest(tmp_path: Path) -> None:
    places = Places(tmp_path)
    write(places.usr / "config.yaml", "control-socket: /run/low")
    write(places.etc / "config.yaml.d/a.yaml", "control-socket: /run/high\nnonsense: 1\n")
    assert control_socket(None, places.roots, str(places.packaged)) == "/run/high"


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
