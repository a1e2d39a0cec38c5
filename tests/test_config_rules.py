"""A setting that is wrong has its place and a hint."""

from pathlib import Path

import pytest

from ovl_linkd.config import load
from ovl_linkd.config.rules import seconds
from tests.bounds import within
from tests.configurations import faults, problems, write


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


def test_no_text_makes_the_patterns_run_for_ever(tmp_path: Path) -> None:
    """`([0-9]+ *[a-z]* *)+` tries every way to cut a row of digits: 30 of them took minutes."""
    for text in ("1" * 60 + "!", "1s" * 60 + "!", "1 " * 60, "1s" + " " * 2_000 + "!"):
        with within(60):
            (found,) = faults(tmp_path, f'resync-interval: "{text}"')
        assert "is no time span" in found
