"""Where links, the farm and files may lie and lead, one beside the other and on the disk."""

import errno
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ovl_linkd.config import ConfigError, load
from tests.configurations import GOOD, faults, problems, write


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


def test_what_the_daemon_writes_has_a_path_of_its_own(tmp_path: Path) -> None:
    text = "links:\n  a: {path: /run/a, target: /x}\n  b: {path: /run/b, target: /y}\n"
    text += "control-socket: /run/a\nmetrics-file: /run/b\n"
    whats = [what for _, _, what, _ in problems(tmp_path, text)]
    assert whats == [
        'control-socket and links.a.path are both "/run/a"',
        'metrics-file and links.b.path are both "/run/b"',
    ]


def test_a_path_may_be_as_long_as_the_kernel_takes(tmp_path: Path) -> None:
    longest = "/run" + "/a" * 2045
    part, socket = "/run/" + "a" * 255, "/run/" + "s" * 98
    assert (len(longest) + 1, len(socket)) == (4095, 103)
    text = f"links: {{l: {{path: {part}, target: {longest}b}}}}\ncontrol-socket: {socket}\n"
    assert load(str(write(tmp_path / "c.yaml", text))).links[0].path == part
    for longer in (text.replace("b}}", "bb}}"), text.replace(part, part + "a"), text[:-1] + "s"):
        assert len(problems(tmp_path, longer)) == 1


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


def test_a_link_among_the_farms_names(tmp_path: Path) -> None:
    text = GOOD.replace("/run/a", "/run/f/a") + "farm: {path: /run/f}"
    assert faults(tmp_path, text) == [
        '1:19: links.a.path: "/run/f/a" lies in the farm, its names are the farm\'s: move it out'
    ]


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
