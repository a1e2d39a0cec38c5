"""Text that is YAML, that is none, and that is too much of it."""

from pathlib import Path

import pytest
import yaml

from ovl_linkd.config import load
from tests.bounds import within
from tests.configurations import GOOD, faults, problems, write


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


def test_aliases_and_merge_keys_save_writing(tmp_path: Path) -> None:
    text = """
    links:
      a: &a {path: &p /run/a, target: &t /srv/x}
      b: {path: /run/b, target: *t}
      c: {<<: {target: /srv/c}, path: /run/c}
    """
    links = load(str(write(tmp_path / "c.yaml", text))).links
    assert [link.target for link in links] == ["/srv/x", "/srv/x", "/srv/c"]
