"""Which path goes by which link, and the way back; in a time that many links don't change."""

import pytest

from ovl_linkd.overlay.limits import Limits, of_this_kernel
from ovl_linkd.overlay.options import LIST, PATH, parse
from ovl_linkd.overlay.prefixes import shorten_value
from ovl_linkd.overlay.shorten import (
    Prefix,
    Tables,
    expand,
    layers_to_lease,
    plan,
    shortened,
)
from tests.bounds import steps, within
from tests.planning import LIMITS, LINK, STORE, containerd, decide


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (STORE, b"/run/ctrdl"),
        (STORE + b"/", b"/run/ctrdl/"),
        (STORE + b"2/1/fs", None),
        (STORE[:-1] + b"/1", None),
        (STORE + b"//1", b"/run/ctrdl//1"),
        (STORE + b"/../x", b"/run/ctrdl/../x"),
        (STORE.replace(b"/lib", b"//lib") + b"/1", None),
        (STORE.replace(b"/lib", b"/./lib") + b"/1", None),
        (STORE.replace(b"/lib", b"/\\lib") + b"/1", None),
        (STORE[1:] + b"/1", None),
    ],
)
def test_a_path_is_under_the_target_by_whole_components_as_spelt(
    given: bytes, expected: bytes | None
) -> None:
    for options in (b"lowerdir=%b", b"lowerdir=/a:%b:%b:/b", b"upperdir=%b", b"lowerdir+=%b"):
        fill = options.count(b"%b")
        assert decide(options % ((given,) * fill)).options == options % (
            (expected or given,) * fill
        )


AWKWARD = Prefix("awkward", b"/data/a:b,c\\d", b"/a")


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (rb"lowerdir=/data/a\:b\,c\\d/1:/x", b"lowerdir=/a/1:/x"),
        (rb"upperdir=/data/a:b\,c\\d/1", b"upperdir=/a/1"),
        (rb"workdir=/data/a:b\,c\\d", b"workdir=/a"),
        # Any other spelling of the same path could not be spelt that way again by --expand.
        (rb"lowerdir=/data/a\:b\,c\\\d/1", None),
        (rb"upperdir=/data/a\:b\,c\\d/1", None),
        # In lowerdir+ a backslash is a letter and a comma can't be spelt at all.
        (rb"lowerdir+=/data/a:b\,c\\d/1", None),
    ],
)
def test_a_target_is_found_in_the_one_spelling_that_the_option_calls_for(
    given: bytes, expected: bytes | None
) -> None:
    decided = decide(given, AWKWARD)
    assert decided.options == (expected or given)
    assert expand(decided.options, [AWKWARD]) == given


def test_an_added_layer_is_taken_as_it_stands() -> None:
    backslash = Prefix("b", b"/data/a\\:b", b"/b")
    assert decide(rb"lowerdir+=/data/a\:b/1", backslash).options == b"lowerdir+=/b/1"
    assert decide(rb"lowerdir=/data/a\\\:b/1", backslash).options == b"lowerdir=/b/1"


def test_a_security_context_passes_and_the_layers_beside_it_are_shortened() -> None:
    context = b'context="system_u:object_r:t:s0:c1,c2,%b/1"' % STORE
    given = context + b",lowerdir=%b/1:%b/2" % (STORE, STORE)
    assert decide(given).options == context + b",lowerdir=/run/ctrdl/1:/run/ctrdl/2"


def test_each_path_goes_by_the_link_that_saves_most() -> None:
    root = Prefix("root", b"/var/lib/containerd", b"/c")
    snapshots = Prefix("snapshots", STORE, b"/s")
    for prefixes in ((root, snapshots), (snapshots, root)):
        decided = decide(b"lowerdir=%b/1:/var/lib/containerd/x:/srv" % STORE, *prefixes)
        assert decided.options == b"lowerdir=/s/1:/c/x:/srv"
        assert set(decided.links) == {"root", "snapshots"}


def test_all_layers_under_one_link_still_go_by_the_one_that_saves_most() -> None:
    """All went by the one that was best for the first of them."""
    root = Prefix("root", b"/var/lib/containerd", b"/c")
    snapshots = Prefix("snapshots", STORE, b"/s")
    decided = decide(b"lowerdir=/var/lib/containerd/x:%b/1" % STORE, root, snapshots)
    assert decided.options == b"lowerdir=/c/x:/s/1"


def test_the_longer_target_loses_where_its_link_saves_less() -> None:
    outer = Prefix("outer", b"/var/lib/containerd", b"/c")
    inner = Prefix("inner", b"/var/lib/containerd/in", b"/run/a-rather-long-link")
    assert decide(b"lowerdir=/var/lib/containerd/in/1", outer, inner).options == b"lowerdir=/c/in/1"


def test_a_link_that_saves_nothing_is_not_used() -> None:
    longer = Prefix("longer", b"/srv", b"/run/longer")
    decided = decide(b"lowerdir=/srv/1", longer, Prefix("same", b"/srv", b"/run"))
    assert (decided.strategy, decided.options, decided.links) == ("plain", b"lowerdir=/srv/1", ())


def test_a_target_that_saves_only_where_it_needs_escapes_is_used_there_alone() -> None:
    colon = Prefix("colon", b"/s:v", b"/abc")
    assert decide(rb"lowerdir=/s\:v/1,upperdir=/s:v/2", colon).options == (
        b"lowerdir=/abc/1,upperdir=/s:v/2"
    )


def test_links_that_nest_are_used_only_where_expand_finds_the_way_back() -> None:
    """/run/c/x/1 could stand for /srv/one/x/1 or /srv/two/1."""
    one, two = Prefix("one", b"/srv/one", b"/run/c"), Prefix("two", b"/srv/two", b"/run/c/x")
    one_ = one._replace(target=b"/srv/the/first/one")
    given = b"lowerdir=/srv/the/first/one/x/1:/srv/the/first/one/y"
    # However many there are, and in whatever order.
    others = [Prefix(name, b"/" + name.encode() * 9, b"/" + name.encode()) for name in "as"]
    for links in ((one_, two), (two, *others, one_)):
        decided = decide(given, *links)
        assert decided.options == b"lowerdir=/srv/the/first/one/x/1:/run/c/y"
        assert expand(decided.options, links) == given


def test_a_short_path_is_not_shortened_again_by_another_link() -> None:
    """/data/x -> /run/a -> /r/a would need two steps back."""
    first = Prefix("first", b"/data/long/x", b"/run/a")
    second = Prefix("second", b"/run", b"/r")
    for more in (b"", b":/b"):
        decided = decide(b"lowerdir=/data/long/x/1" + more, first, second)
        assert decided.options == b"lowerdir=/run/a/1" + more


def test_a_short_path_above_another_link_s_target_is_not_shortened_again_either() -> None:
    """The way back from /c would have ended at /a/b."""
    first, second = Prefix("first", b"/long/data", b"/a"), Prefix("second", b"/a/b", b"/c")
    given = b"lowerdir=/long/data/b/1:/x"
    decided = decide(given, first, second)
    assert decided.options == b"lowerdir=/a/b/1:/x"
    assert expand(decided.options, [first, second]) == given


@pytest.mark.parametrize("target", [b"/", b"", b"relative/path", b"/nul\0byte", b"//"])
def test_a_prefix_that_names_no_directory_below_the_root_is_left_out(target: bytes) -> None:
    given = b"lowerdir=/var/lib/x:relative/path/1"
    assert decide(given, Prefix("odd", target, b"/r")).options == given
    assert expand(given, [Prefix("odd", target, b"/r")]) == given


@pytest.mark.parametrize("short", [b"/", b"r", b"/r\0", b"/a,b"])
def test_a_short_name_that_an_added_layer_can_t_hold_is_left_out(short: bytes) -> None:
    given = b"lowerdir+=/var/lib/x/1"
    assert decide(given, Prefix("odd", b"/var/lib/x", short)).options == given


def test_an_option_without_a_value_is_no_path() -> None:
    given = b"upperdir,lowerdir=/run/ctrdl/1,comment=/run/ctrdl/2,/run/ctrdl=/run/ctrdl/3"
    long = b"upperdir,lowerdir=%b/1,comment=/run/ctrdl/2,/run/ctrdl=/run/ctrdl/3" % STORE
    assert expand(given, [LINK]) == long
    assert decide(long).options == given
    assert layers_to_lease(b"lowerdir," + long, []) == [STORE + b"/1"]


def test_a_colon_in_a_single_path_divides_nothing() -> None:
    given = b"lowerdir=/a,upperdir=/x:/run/ctrdl/1,lowerdir+=/x:/run/ctrdl/1"
    assert expand(given, [LINK]) == given


def test_it_is_counted_for_how_many_paths_each_link_is_used() -> None:
    """From that a refusal reckons how short the link would have to be."""
    uses: dict[str, int] = {}
    tables = Tables([LINK])
    for value, count in (
        (STORE + b"/1:" + STORE + b"/2", 2),
        (b"/a:%b/1:/b:%b/2" % (STORE, STORE), 4),
        (STORE + b"/1:" + STORE + b"/2", 6),
        (b"/a:" + STORE + b"/1", 7),
    ):
        shorten_value(value, LIST, tables.of(LIST), uses)
        assert uses == {"ctrdl": count}
    for count in (8, 9):
        shorten_value(STORE + b"/1", PATH, tables.of(PATH), uses)
        assert uses == {"ctrdl": count}


def test_a_long_target_with_a_comma_is_left_out_at_once() -> None:
    """No added layer can spell it. To find that out took twice as long with each byte before it."""
    link = Prefix("comma", b"/" + b"x" * 3_000 + b",y", b"/l")
    assert shortened(parse(b"lowerdir+=/x,lowerdir+=/y"), [link]).layers == 2


def test_slashes_at_the_end_of_a_target_or_link_mean_nothing() -> None:
    decided = decide(b"lowerdir=/srv/data/1", Prefix("s", b"/srv/data/", b"/s/"))
    assert decided.options == b"lowerdir=/s/1"


MANY = [
    LINK,
    *(Prefix(f"l{at}", b"/srv/stores/%d/of/many" % at, b"/run/l%d" % at) for at in range(5000)),
]


def test_the_number_of_links_costs_a_plan_next_to_nothing() -> None:
    """500 layers took 300 ms with 10,000 links: each layer was compared with each."""
    large, usual = of_this_kernel(65536), containerd(500)
    tables = Tables(MANY)
    assert plan(usual, tables, large).options == containerd(500, b"/run/ctrdl")
    apart = b"lowerdir=" + b":".join(b"/srv/stores/%d/of/many/1" % at for at in range(500))
    decided = plan(apart, tables, large)
    assert decided.options == b"lowerdir=" + b":".join(b"/run/l%d/1" % at for at in range(500))
    assert len(decided.links) == 500
    assert expand(decided.options, tables) == apart
    few = Tables(MANY[:501])
    for given in (usual, apart):
        assert work(given, tables, large) < 1.5 * work(given, few, large)


def work(given: bytes, tables: Tables, limits: Limits) -> int:
    """The steps of a plan, once the tables are complete."""
    plan(b"lowerdir=/a", tables, limits)
    return steps(lambda: plan(given, tables, limits))


def test_tables_for_ten_times_the_links_take_ten_times_as_long() -> None:
    """For one plan by a command they are made anew: were it by comparing them, a hundred times."""
    some = steps(lambda: plan(containerd(100), MANY[:500], LIMITS))
    assert steps(lambda: plan(containerd(100), MANY[:5000], LIMITS)) < 15 * some


@pytest.mark.parametrize(
    "given",
    [
        b"lowerdir=" + b"a:" * 200_000 + b"a",
        b"upperdir=a," * 10_000,
        b"lowerdir=" + b"/a" * 100_000,
        b"lowerdir=%b,lowerdir=/a"
        % b":".join(b"/srv/stores/%d/of/many/1" % (at % 5000) for at in range(10_000)),
    ],
)
def test_no_text_takes_longer_however_many_the_links(given: bytes) -> None:
    """200,000 empty layers took 10 s with 5,000 links."""
    tables = Tables(MANY)
    with within(60):
        assert work(given, tables, LIMITS) < 2 * work(given, Tables(MANY[:51]), LIMITS)
        assert not plan(given, tables, LIMITS).fits


def test_of_many_links_each_path_goes_by_the_one_that_saves_most() -> None:
    """More links than are tried one by one; the deepest target isn't always the best."""
    inner = Prefix("inner", STORE + b"/1", b"/run/a-link-that-is-longer-than-the-outer-one")
    deep = Prefix("deep", STORE + b"/2", b"/run/2")
    given = b"lowerdir=%b/1/fs:%b/2/fs:%b" % (STORE, STORE, STORE)
    decided = decide(given, *MANY, inner, deep)
    assert decided.options == b"lowerdir=/run/ctrdl/1/fs:/run/2/fs:/run/ctrdl"
    assert set(decided.links) == {"ctrdl", "deep"}
