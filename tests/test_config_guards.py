"""A guard takes a directory of its own."""

from pathlib import Path

import pytest

from ovl_linkd.config import load
from tests.configurations import faults, write

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
