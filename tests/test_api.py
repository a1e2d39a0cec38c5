"""The Python API, as a program that mounts by itself uses it."""

import ast
import doctest
import os
import re
from pathlib import Path
from types import ModuleType

import pytest

import ovl_linkd
from ovl_linkd import api, overlay, published
from ovl_linkd.errors import UserError
from ovl_linkd.formats.table import FORMATS
from ovl_linkd.links.link import Link
from ovl_linkd.overlay.options import Malformed


def test_links_that_are_given_are_used_whatever_is_on_disk() -> None:
    links = {"/run/l": "/very/long"}
    plan = ovl_linkd.shorten("lowerdir=/very/long/1/fs:/very/long/2/fs", links)
    assert (plan.options, plan.fits) == (b"lowerdir=/run/l/1/fs:/run/l/2/fs", True)
    assert ovl_linkd.expand(plan.options, links) == b"lowerdir=/very/long/1/fs:/very/long/2/fs"


def test_what_does_not_fit_is_not_handed_out() -> None:
    plan = ovl_linkd.shorten(b"lowerdir=/l/1:/l/2", {}, limit=10)
    assert (plan.options, plan.fits) == (b"", False)


def test_options_that_no_kernel_takes_raise() -> None:
    with pytest.raises(Malformed):
        ovl_linkd.shorten("lowerdir=/a:", {})


def test_text_that_has_no_bytes_is_malformed() -> None:
    """A lone surrogate raised UnicodeEncodeError, which nobody was told of."""
    for call in (ovl_linkd.shorten, ovl_linkd.expand):
        with pytest.raises(ovl_linkd.Malformed, match="ud800") as caught:
            call("lowerdir=/a\ud800", {})
        assert caught.value.hint
    # What os.fsdecode() makes of any bytes is text that has bytes.
    assert ovl_linkd.shorten("lowerdir=/\udcff", {}).options == b"lowerdir=/\xff"


def test_what_the_api_raises_can_be_named_by_its_callers() -> None:
    assert ovl_linkd.Malformed is Malformed
    assert ovl_linkd.UserError is UserError
    assert {"Malformed", "Plan", "UserError", "expand", "shorten"} <= set(ovl_linkd.__all__)
    assert all(hasattr(ovl_linkd, name) for name in ovl_linkd.__all__)


def test_the_daemon_s_links_are_used_only_while_they_are_well(
    scratch: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A link that leads elsewhere would mount other layers than were asked for."""
    target, path = scratch / "a-long-name-of-a-target", scratch / "l"
    target.mkdir()
    link = Link("one", str(path), str(target))
    known = published.Published((link,), "", [])
    monkeypatch.setattr(published, "known", lambda _: known)
    options = f"lowerdir={target}/1:{target}/2"

    path.symlink_to("/elsewhere")
    assert ovl_linkd.shorten(options).options == os.fsencode(options)
    path.unlink()
    path.symlink_to(target)
    plan = ovl_linkd.shorten(options)
    assert plan.options == os.fsencode(f"lowerdir={path}/1:{path}/2")
    path.unlink()
    assert ovl_linkd.expand(plan.options) == os.fsencode(options)


def test_what_others_mount_is_rewritten_in_its_own_format() -> None:
    links = {"/run/l": "/very/long"}
    text = (
        '{"mounts": [{"type": "overlay", "options": ["ro", "lowerdir=/very/long/1:/b"]}], "x": 1.0}'
    )
    made = ovl_linkd.rewrite(text, links, format="oci")
    assert made.text.decode() == text.replace("/very/long", "/run/l")
    assert [plan.options for plan in made.plans] == [b"lowerdir=/run/l/1:/b"]
    assert ovl_linkd.expand(made.text, links, format="oci") == text.encode()
    assert ovl_linkd.rewrite("lowerdir=/very/long/1", links).text == b"lowerdir=/run/l/1"
    line = b"41 29 0:38 / /m rw - overlay o rw,lowerdir=/run/l/2:/run/l/1\n"
    assert ovl_linkd.expand(line, links, format="mountinfo") == line.replace(
        b"/run/l", b"/very/long"
    )


def test_every_format_but_mountinfo_is_rewritten() -> None:
    for name, form in FORMATS.items():
        text = "{}" if name in ("oci", "containerd") else ""
        assert ovl_linkd.expand(text, {}, format=name) == text.encode()
        if form.shortened:
            assert ovl_linkd.rewrite(text, {}, format=name).text == text.encode()
    for name in ("mountinfo", "toml"):
        with pytest.raises(ValueError, match="none of raw, mount, fstab"):
            ovl_linkd.rewrite("", {}, format=name)
    with pytest.raises(ValueError, match="none of"):
        ovl_linkd.expand("", {}, format="toml")
    with pytest.raises(Malformed, match="line 1, column 1"):
        ovl_linkd.rewrite("", {}, format="oci")


def test_the_example_of_the_readme_is_true() -> None:
    readme = (Path(__file__).parents[1] / "README.md").read_text()
    (example,) = re.findall(r"(?ms)^```python\n(.*?)^```", readme)
    names: dict[str, object] = {}
    for line in example.splitlines():
        code, _, comment = line.partition("  # ")
        if comment:
            assert eval(code, names) == ast.literal_eval(comment), code
        else:
            exec(code, names)  # noqa: S102


@pytest.mark.parametrize("module", [api, overlay], ids=["api", "overlay"])
def test_the_story_that_a_module_tells_is_true(module: ModuleType) -> None:
    told = doctest.testmod(module)
    assert told.failed == 0
    assert told.attempted > 5


def test_names_of_the_farm_are_expanded_while_they_lead_somewhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "1").symlink_to("/layers/one")
    known = published.Published((), "", [], str(tmp_path))
    monkeypatch.setattr(published, "known", lambda _: known)
    said = ovl_linkd.expand(f"lowerdir={tmp_path}/1:{tmp_path}/2")
    assert said == os.fsencode(f"lowerdir=/layers/one:{tmp_path}/2")
    assert ovl_linkd.expand(f"lowerdir={tmp_path}/1", {}) == os.fsencode(f"lowerdir={tmp_path}/1")
