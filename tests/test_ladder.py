"""The ladder: which ways there are to mount, in which order, and how long each may be."""

import os
from collections.abc import Sequence

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from ovl_linkd.overlay import line
from ovl_linkd.overlay.ladder import Rung, Setting, common_directory, rungs, settings
from ovl_linkd.overlay.limits import Limits, of_this_kernel
from ovl_linkd.overlay.options import LOWER, parse
from ovl_linkd.overlay.shorten import Prefix
from tests import kernel_grammar
from tests.planning import LINK, STORE, containerd
from tests.situations import names_a_short_path, situations

LIMITS = of_this_kernel(4096)
CALLERS = b"/where/the/caller/is"
TINY = Limits(mount=60, fsconfig=20, layers=500, mountinfo=400)


def climbed(
    options: bytes,
    links: Sequence[Prefix] = (),
    farm: bytes | None = None,
    limits: Limits = LIMITS,
    beside: int = line.REST,
) -> list[Rung]:
    def lease(paths: list[bytes]) -> list[Prefix]:
        if farm is None:
            return []
        names = [b"%b/%x" % (farm, at) for at in range(len(paths))]
        return [Prefix(x.decode(), path, x) for x, path in zip(names, paths, strict=True)]

    return list(rungs(parse(options), limits, lambda: links, lease, beside))


def strategies(found: list[Rung]) -> list[str]:
    return [f"{each.strategy}{'' if each.options else ' by fsconfig'}" for each in found]


def test_short_options_go_as_they_are() -> None:
    (first, *_) = climbed(containerd(40), [LINK])
    assert first == Rung("plain", containerd(40))


def test_nothing_is_asked_for_before_it_is_needed() -> None:
    """Reading the links takes longer than a mount that needs none."""

    def never(*_: object) -> Sequence[Prefix]:
        raise AssertionError("asked")

    assert next(rungs(parse(containerd(40)), LIMITS, never, never)).strategy == "plain"
    # Nor is a layer leased while a link does.
    ladder = rungs(parse(containerd(128)), LIMITS, lambda: [LINK], never)
    assert [next(ladder).strategy, next(ladder).strategy] == ["link", "lowerdir+"]


def test_the_ways_for_128_layers_the_most_readable_first() -> None:
    """A name in /proc/mounts that leads nowhere next week helps nobody who reads it then."""
    assert strategies(climbed(containerd(128), [LINK], farm=b"/run/ctrdf")) == [
        "link",
        "lowerdir+ by fsconfig",
        "farm",
        "farm by fsconfig",
        "chdir",
        "chdir by fsconfig",
    ]
    assert strategies(climbed(containerd(128))) == [
        "lowerdir+ by fsconfig",
        "chdir",
        "chdir by fsconfig",
    ]


def test_a_way_that_changes_nothing_is_no_other_way() -> None:
    ways = ["plain", "lowerdir+ by fsconfig", "chdir", "chdir by fsconfig"]
    assert strategies(climbed(containerd(40))) == ways
    assert strategies(climbed(containerd(40), [Prefix("x", b"/srv/x", b"/x")])) == ways


def test_nothing_is_leased_where_no_layer_is_worth_it() -> None:
    def never(*_: object) -> Sequence[Prefix]:
        raise AssertionError("asked")

    found = rungs(parse(b"lowerdir=/a:/b"), LIMITS, tuple, never)
    assert strategies(list(found)) == ["plain", "lowerdir+ by fsconfig"]


def test_a_layer_that_is_not_leased_goes_by_its_link_beside_the_farm() -> None:
    """It is short enough by the link: /run/ctrdl/1."""
    found = climbed(containerd(250) + b":%b/1" % STORE, [LINK], farm=b"/f")
    (farm,) = (each for each in found if each.strategy == "farm" and each.options)
    assert farm.options.endswith(b":/f/f9:/run/ctrdl/1")


def test_it_is_known_which_ways_go_by_names_that_may_be_gone() -> None:
    """By these another way is worth it where the kernel finds nothing."""
    deep = b"/" + b"d" * 299
    options = b"lowerdir=" + b":".join(b"%b/%04d" % (deep, at) for at in range(180))
    found = climbed(options, [Prefix("d", deep, b"/run/a-link-of-twenty")], farm=b"/f")
    assert {(each.strategy, each.prefixes) for each in found} == {
        *(("descriptors", False), ("link", True), ("farm", True), ("chdir", False)),
    }
    (first, *_) = climbed(containerd(128), [LINK])
    assert (first.strategy, first.prefixes) == ("link", True)


@pytest.mark.parametrize(("more", "plain"), [(0, True), (1, False)])
def test_what_is_as_long_as_may_be_is_a_way(more: int, plain: bool) -> None:
    options = b"lowerdir=/" + b"a" * (LIMITS.mount - 10 + more)
    assert ("plain" in strategies(climbed(options))) == plain
    options, limits = containerd(40), LIMITS._replace(mountinfo=len(containerd(40)) + 1000 - more)
    assert ("plain" in strategies(climbed(options, limits=limits, beside=1000))) == plain
    values = [(each.name, each.value or b"") for each in settings(parse(options))]
    limits = LIMITS._replace(mountinfo=line.of_values(values, 1000) - more)
    by_value = "lowerdir+ by fsconfig"
    assert (by_value in strategies(climbed(options, limits=limits, beside=1000))) == plain


@pytest.mark.parametrize(
    ("options", "strategy"),
    [
        (b"lowerdir=/b:/" + b"a" * 254, "lowerdir+"),
        (b"lowerdir=/b:/" + b"a" * 255, "descriptors"),
        (b'context="' + b"a" * 300 + b'",lowerdir=/a:/b', "lowerdir+"),
    ],
)
def test_only_a_path_over_255_bytes_is_opened(options: bytes, strategy: str) -> None:
    (found,) = (each.strategy for each in climbed(options) if not each.options)
    assert found == strategy


@pytest.mark.parametrize(
    ("options", "relative"),
    [
        (b"lowerdir=/srv/x:/srv/x/2", b"lowerdir=.:2"),
        (b"lowerdir=/srv/x/:/srv/x//2", b"lowerdir=.:2"),
        (
            b"lowerdir=/srv/x/1:/srv/x/2,upperdir=/srv/x-y/u,workdir=/srv/x/w",
            b"lowerdir=1:2,upperdir=/srv/x-y/u,workdir=w",
        ),
        (
            b"x=/srv/x/1,upperdir,lowerdir=/srv/x/1:/srv/x/2",
            b"x=/srv/x/1,upperdir,lowerdir=1:2",
        ),
        # Without what stands before it, /2 would be left.
        (rb"lowerdir=/srv/x/1:/srv/x/\/2", rb"lowerdir=1:/srv/x/\/2"),
    ],
)
def test_a_path_is_relative_to_the_directory_above_all_layers(
    options: bytes, relative: bytes
) -> None:
    (found,) = (each for each in climbed(options) if each.strategy == "chdir" and each.options)
    assert (found.options, found.directory) == (relative, b"/srv/x")


def test_by_the_working_directory_500_layers_fit_on_any_kernel() -> None:
    found = {each.strategy: each for each in climbed(containerd(500)) if each.options}
    chdir = found["chdir"]
    assert chdir.directory == STORE
    assert chdir.options == containerd(500, b"").replace(b"=/", b"=").replace(b":/", b":")
    assert len(chdir.options) <= LIMITS.mount


def test_what_lies_elsewhere_stays_absolute_beside_relative_layers() -> None:
    """Or goes by its link: containerd leaves it long, and ends at fewer layers for it."""
    far = b"/srv/a/rather/long/directory/for/what/is/written"
    options = b"upperdir=%b/u,workdir=%b/w,volatile," % (far, far) + containerd(500).split(b",")[3]
    (chdir,) = (each for each in climbed(options) if each.strategy == "chdir" and each.options)
    assert chdir.options.startswith(
        b"upperdir=%b/u,workdir=%b/w,volatile,lowerdir=100/fs:" % (far, far)
    )
    link = Prefix("far", far, b"/f")
    (chdir,) = (
        each for each in climbed(options, [link]) if each.strategy == "chdir" and each.options
    )
    assert chdir.options.startswith(b"upperdir=/f/u,workdir=/f/w,volatile,lowerdir=100/fs:")


@pytest.mark.parametrize(
    ("lower", "directory"),
    [
        (b"/a/b/1:/a/b/2", b"/a/b"),
        (b"/a/b:/a/b/2", b"/a/b"),
        (b"/a/b:/ab", None),
        # In the order of their bytes /a/b-c stands between the other two.
        (b"/a/b:/a/b-c:/a/b/c", b"/a"),
        (b"/a/1:b/2", None),
        # As components these would be in another order.
        (b"/a//c/1:/a/bb/1:/a/c/1", b"/a"),
        (b"/a//c/1:/a//c//2", b"/a//c"),
        (b"//1:/2", None),
        (b"a/b/1:a/b/2", b"a/b"),
        (b"1:2", None),
        (rb"/a\:b/1:/a\:b/2::/a\:b/3", b"/a:b"),
    ],
)
def test_the_common_directory_is_above_every_layer(lower: bytes, directory: bytes | None) -> None:
    assert common_directory(parse(b"lowerdir=" + lower)) == directory


def test_a_relative_upperdir_leads_nowhere_else() -> None:
    """From the layers' directory it was another one, and the container wrote there."""
    options = b"upperdir=up,workdir=work," + containerd(500).split(b",")[3]
    assert strategies(climbed(options)) == ["lowerdir+ by fsconfig"]


@pytest.mark.parametrize(
    ("options", "directory", "seen"),
    [
        (b"lowerdir=s/x/1:s/x/2", b"s/x", b"lowerdir=1:2"),
        (b"lowerdir=../s/1:../s,upperdir=/u,workdir=../s/w", b"../s", b"lowerdir=1:.,upperdir=/u"),
        (rb"lowerdir=s\:x/1:s\:x/2,upperdir=s:x/u", b"s:x", b"lowerdir=1:2,upperdir=u"),
        (b"lowerdir+=s:x/1,lowerdir+=s:x/2", b"s:x", b"lowerdir+=1,lowerdir+=2"),
        (b"lowerdir=s/x/1:s//x/2", b"s", b"lowerdir=x/1:x/2"),
        (b"lowerdir=./s//x/1:./s//x/2/", b"./s//x", b"lowerdir=1:2/"),
    ],
)
def test_relative_layers_are_seen_from_deeper_down(
    options: bytes, directory: bytes, seen: bytes
) -> None:
    """Podman names them so: before lowerdir+, 500 of them had no way."""
    (chdir,) = (each for each in climbed(options) if each.strategy == "chdir" and each.options)
    assert chdir.directory == directory
    assert chdir.options.startswith(seen)


@pytest.mark.parametrize(
    "options",
    [
        b"lowerdir=s/1:s/2,upperdir=u,workdir=s/w",
        b"lowerdir=s/1:./s/2",
        rb"lowerdir=ss/1:\ss/2",
        rb"lowerdir=s/1:s/\/2",
        b"lowerdir=t/1:t/2,lowerdir=s/1:s/2",
    ],
)
def test_relative_layers_that_would_lead_elsewhere_from_there_have_no_such_way(
    options: bytes,
) -> None:
    """A spelling that isn't recognized was left as it stood: there it is another directory."""
    assert "chdir" not in strategies(climbed(options))


def test_each_layer_becomes_a_value_of_its_own() -> None:
    """lowerdir+ takes a path as it stands: what mount(2)'s text needed goes, its backslashes."""
    given = parse(
        rb"ro,lowerdir=/a\:b:/c\,d:/e\\f::/g::/h,upperdir=/u\,u,workdir=/w:w,index=off,,=x"
    )
    assert settings(given) == (
        Setting(b"ro", None),
        Setting(b"lowerdir+", b"/a:b", b"/a:b"),
        Setting(b"lowerdir+", b"/c,d", b"/c,d"),
        Setting(b"lowerdir+", b"/e\\f", b"/e\\f"),
        Setting(b"datadir+", b"/g", b"/g"),
        Setting(b"datadir+", b"/h", b"/h"),
        # These the kernel unescapes by itself; opened, their paths are without escapes.
        Setting(b"upperdir", rb"/u\,u", b"/u,u"),
        Setting(b"workdir", b"/w:w", b"/w:w"),
        Setting(b"index", b"off"),
    )


def test_a_security_context_is_one_value_without_its_quotes() -> None:
    """They keep its commas together in mount(2)'s text; fsconfig would take them for its own."""
    given = parse(b'context="system_u:object_r:t:s0:c1,c2",lowerdir=/a:/b')
    assert settings(given)[0] == Setting(b"context", b"system_u:object_r:t:s0:c1,c2")
    assert settings(parse(b'xcontext="a",lowerdir=/a'))[0] == Setting(b"xcontext", b'"a"')


def test_what_a_value_says_is_what_would_be_opened() -> None:
    """In lowerdir+ a backslash is a letter; a list is no directory, nor is what has no value."""
    assert settings(parse(rb"upperdir,lowerdir=/a\:")) == (
        *(Setting(b"upperdir", None), Setting(b"lowerdir+", b"/a:", b"/a:")),
    )
    assert settings(parse(rb"lowerdir+=/a\:b")) == (Setting(b"lowerdir+", rb"/a\:b", rb"/a\:b"),)
    given = parse(b"lowerdir=/a:/b,lowerdir+=/c")
    assert settings(given)[0] == Setting(b"lowerdir", b"/a:/b", None)


def test_the_last_of_several_lists_wins_as_in_the_kernel() -> None:
    given = parse(b"lowerdir=/a:/b,xino=off,lowerdir=/c:/d")
    assert [each.value for each in settings(given)] == [b"off", b"/c", b"/d"]


@pytest.mark.parametrize(
    "text",
    [
        b"lowerdir=/a:/b,lowerdir+=/c",
        b"lowerdir=/a:/b,datadir+=/c",
        b"lowerdir=/a:/b,lowerdir+=/c,lowerdir=/d:/e",
        b"datadir+=/a,lowerdir+=/b,lowerdir=/d:/e",
        b"lowerdir,lowerdir=/d:/e",
        b"lowerdir=,lowerdir+=/c",
    ],
)
def test_what_the_kernel_refuses_is_not_made_to_work(text: bytes) -> None:
    """lowerdir+ after a lowerdir is EINVAL: two programs would else mount different things."""
    given = parse(text)
    assert [(each.name, each.value) for each in settings(given)] == list(given.items())


def test_single_paths_over_255_bytes_are_opened() -> None:
    deep = b"/" + b"d" * 299
    options = b"lowerdir=" + b":".join(b"%b/%d" % (deep, at) for at in range(60))
    found = climbed(options)
    assert [each.strategy for each in found] == ["descriptors", "chdir", "chdir"]
    assert found[0].settings[0] == Setting(b"lowerdir+", deep + b"/0", deep + b"/0")


def test_where_single_paths_are_too_long_a_link_makes_values_of_them() -> None:
    """For the kernels between 6.7 and 6.13, and for lines that descriptors would make too long."""
    deep = b"/" + b"d" * 299
    options = b"lowerdir=" + b":".join(b"%b/%04d" % (deep, at) for at in range(180))
    found = climbed(options, [Prefix("d", deep, b"/run/a-link-of-twenty")])
    assert strategies(found)[:2] == ["descriptors by fsconfig", "link by fsconfig"]
    assert found[1].settings[0] == Setting(b"lowerdir+", *[b"/run/a-link-of-twenty/0000"] * 2)


def test_a_line_that_go_programs_can_not_read_is_made_by_no_rung() -> None:
    """500 layers of 136 bytes: as they are, a line of 74,000 bytes."""
    root = b"/var/lib/" + b"r" * 120
    options = containerd(500, root)
    assert strategies(climbed(options)) == ["chdir", "chdir by fsconfig"]
    link = Prefix("r", root, b"/run/a-link-of-twenty")
    assert strategies(climbed(options, [link]))[0] == "link by fsconfig"
    farm = climbed(options, farm=b"/run/ctrdf")
    assert strategies(farm)[0] == "farm by fsconfig"


def test_the_mount_point_and_its_escapes_count_as_well() -> None:
    """A line is the options and all that stands beside them, four bytes for each blank."""
    options = containerd(400)
    assert strategies(climbed(options, beside=line.of_names(b"overlay", b"/mnt")))[0].startswith(
        "low"
    )
    beside = line.of_names(b"overlay", b"/mnt/" + b" " * 4000)
    assert beside > 16_000
    assert not strategies(climbed(options + b",x=" + b" " * 4000, beside=beside))[0].startswith(
        "low"
    )


@given(situations(), st.sampled_from([LIMITS, TINY]))
def test_every_rung_mounts_what_was_asked_for(
    situation: tuple[bytes, list[Prefix]], limits: Limits
) -> None:
    """Whichever the kernel takes: the same directories in the same order, none of them cut."""
    text, links = situation
    names = [name for name, value in parse(text).items() if name in LOWER and value]
    # What the kernel refuses is no rung's business.
    assume(not names_a_short_path(text, links) and b"lowerdir" not in parse(text).parts)
    assume(b"lowerdir" not in names or set(names) == {b"lowerdir"})
    leased: list[Prefix] = []

    def lease(paths: list[bytes]) -> list[Prefix]:
        leased.extend(Prefix(f"/f/{at}", each, b"/f/%d" % at) for at, each in enumerate(paths))
        return leased

    for rung in rungs(parse(text), limits, lambda: links, lease):
        if rung.options:
            assert len(rung.options) <= limits.mount
            mount = kernel_grammar.read(rung.options)
        else:
            values = [(each.name, each.value or b"") for each in rung.settings]
            assert line.of_values(values) <= limits.mountinfo
            mount = by_values(rung)
        there = os.path.join(CALLERS, rung.directory or b"")
        assert meant(mount, there, [*links, *leased]) == meant(
            kernel_grammar.read(text), CALLERS, []
        )
        short = names_a_short_path(rung.options, [*links, *leased]) if rung.options else False
        assert rung.prefixes or not short or rung.strategy == "chdir"


def by_values(rung: Rung) -> kernel_grammar.Mount:
    """What fsconfig(2) makes of the values of RUNG."""
    lower = [each.value for each in rung.settings if each.name in LOWER and each.value]
    last = {each.name: each.path for each in rung.settings}
    return kernel_grammar.Mount(tuple(lower), last.get(b"upperdir"), last.get(b"workdir"), ())


def meant(
    mount: kernel_grammar.Mount, directory: bytes, prefixes: list[Prefix]
) -> list[bytes | None]:
    """The directories of a mount from DIRECTORY, from the top, by names that can be compared."""

    def follow(path: bytes | None) -> bytes | None:
        if path is None:
            return None
        path = os.path.join(directory, path)
        for prefix in sorted(prefixes, key=lambda prefix: -len(prefix.short)):
            if path == prefix.short or path.startswith(prefix.short + b"/"):
                path = prefix.target + path[len(prefix.short) :]
                break
        return os.path.normpath(path)

    return [follow(path) for path in (mount.upper, mount.work, *mount.lower)]
