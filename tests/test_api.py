"""The Python API, as a program that mounts by itself uses it."""

import os
from pathlib import Path

import pytest

import ovl_linkd
from ovl_linkd import published
from ovl_linkd.errors import UserError
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
