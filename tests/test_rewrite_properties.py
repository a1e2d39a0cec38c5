"""What must hold for any options and any links: rewriting never changes which directories meet."""

from hypothesis import assume, example, given
from hypothesis import strategies as st

from ovl_linkd.formats import mount_line
from ovl_linkd.formats.judging import BY_VALUE, MOUNT2, Means
from ovl_linkd.overlay.limits import Limits, of_this_kernel
from ovl_linkd.overlay.options import LIST, SPELLING, Malformed, parse
from ovl_linkd.overlay.prefixes import Prefix, expand_value, shorten_each, shorten_value, table
from ovl_linkd.overlay.shorten import expand, layers_to_lease, plan, shortened
from tests import kernel_grammar
from tests.situations import in_shell, names_a_short_path, resolved, situations

LIMITS = of_this_kernel(4096)
# Small enough that most examples can't fit.
TINY = Limits(mount=60, fsconfig=20, layers=5, mountinfo=65_000)


@given(situations())
def test_expand_undoes_what_shortening_did(situation: tuple[bytes, list[Prefix]]) -> None:
    text, links = situation
    assume(not names_a_short_path(text, links))
    assert expand(shortened(parse(text), links).format(), links) == text


@given(situations())
@example((b"lowerdir=/a/1:/a:/a:/a/2", [Prefix("l", b"/a", b"/")]))
@example((b"lowerdir=/ab/1:/ab:/ab:/ab", [Prefix("l", b"/ab", b"/s")]))
def test_the_same_directories_in_the_same_order(situation: tuple[bytes, list[Prefix]]) -> None:
    text, links = situation
    assume(not names_a_short_path(text, links))
    short = shortened(parse(text), links).format()
    assert resolved(short, links) == kernel_grammar.read(text)
    assert len(short) <= len(text)
    assert parse(short).layers == parse(text).layers


@given(situations())
def test_the_quick_way_and_the_careful_one_agree(situation: tuple[bytes, list[Prefix]]) -> None:
    text, links = situation
    pairs = table(links, LIST)
    options = parse(text)
    for part, (name, value) in zip(options.parts, options.items(), strict=True):
        if name == b"lowerdir" and value:
            quick: dict[str, int] = {}
            careful: dict[str, int] = {}
            short = shorten_value(value, LIST, pairs, quick, options.listed(part))
            assert short == shorten_each(value, pairs, careful)
            assert quick == careful


# Directories in, beside and above each other; of links, too, though most of their paths lie apart.
CLOSE = st.sampled_from(
    [b"/store", b"/store/in", b"/store/in/deep", b"/store/inn", b"/store2", b"/s/in"]
)
CLOSE_LINKS = st.lists(
    st.tuples(CLOSE, st.sampled_from([b"/a", b"/b", b"/c", b"/s", b"/store/in"])),
    min_size=1,
    max_size=4,
    unique_by=lambda link: link[1],
).map(lambda links: [Prefix(f"l{at}", old, new) for at, (old, new) in enumerate(links)])
ENDS = st.sampled_from(
    [*(b"", b"/", b"/1", b"/in/1", b"/deep/1", b"//1", b"/../1", b"/./1", b"/1/", b"n/1", b"/ 1"),
     *(b"/\xff\xc3\xa9", b"/\xed\xb2\x80", rb"/\:1", rb"\/1", b":/1")]
)  # fmt: skip
LAYERS = st.lists(st.tuples(CLOSE, ENDS).map(b"".join), min_size=1, max_size=4)


@given(CLOSE_LINKS, LAYERS, st.sampled_from([0, 499, 500, 501]), st.integers(0, 2))
@example([Prefix("l", b"/store", b"/s")], [b"/store/1", b"/store2/1"], 500, 0)
@example([Prefix("l", b"/store", b"/s")], [b"/store/1", b"/store"], 0, 1)
@example(
    [Prefix("l", b"/store", b"/s"), Prefix("m", b"/store/in", b"/t")],
    [b"/store/1", b"/store/in/1"],
    499,
    0,
)
@example(
    [Prefix("l", b"/store", b"/s"), Prefix("m", b"/s/in", b"/t")],
    [b"/store/in/1", b"/store2"],
    0,
    0,
)
def test_a_list_that_was_split_is_planned_as_if_each_layer_were_looked_at(
    links: list[Prefix], layers: list[bytes], many: int, missing: int
) -> None:
    """Whatever the links and the number of layers, MISSING bytes over the limit."""
    layers = (layers * many)[:many] or layers
    try:
        options = parse(b"lowerdir=" + b":".join(layers))
    except Malformed:
        return
    by_each = options._replace(split=None)
    limit = len(shortened(by_each, links).format()) - missing
    quick = plan(options, links, LIMITS, limit=limit)
    careful = plan(by_each, links, LIMITS, limit=limit)
    assert set(quick.links) == set(careful.links)  # in the order in which they were found
    assert quick._replace(links=()) == careful._replace(links=())


@given(situations())
def test_a_prefix_is_found_as_if_each_had_been_tried(
    situation: tuple[bytes, list[Prefix]],
) -> None:
    """However many there are, the one that saves most is taken; the way back by the longest."""
    text, links = situation
    for name, value in parse(text).items():
        if name not in SPELLING or not value or SPELLING[name] == LIST:
            continue
        pairs = table(links, SPELLING[name])
        under = [p for p in pairs.forth if (value + b"/").startswith(p.old + b"/")]
        if pairs.independent:
            expected = under[0].new + value[len(under[0].old) :] if under else value
            assert shorten_value(value, SPELLING[name], pairs, {}) == expected
        back = [p for p in pairs.back if (value + b"/").startswith(p.old + b"/")]
        back.sort(key=lambda p: -len(p.old))
        expected = back[0].new + value[len(back[0].old) :] if back else value
        assert expand_value(value, SPELLING[name], pairs) == expected


@given(situations(), st.sampled_from(["always", "needed"]), st.sampled_from([LIMITS, TINY]))
def test_nothing_that_is_too_long_is_handed_out(
    situation: tuple[bytes, list[Prefix]], when: str, limits: Limits
) -> None:
    text, links = situation
    decided = plan(text, links, limits, when)
    assert len(decided.options) <= limits.mount
    assert decided.before == len(text)
    if decided.fits:
        assert decided.after == len(decided.options) <= decided.limit
        assert decided.layers <= limits.layers
        assert decided.reason is decided.remedy is None
        assert (decided.strategy == "link") == bool(decided.links) == (decided.options != text)
    else:
        assert decided.options == b""
        assert decided.reason
        assert decided.remedy
    if when == "needed" and len(text) <= limits.mount and decided.fits:
        assert decided.options == text


@given(situations(), st.sampled_from(["always", "needed"]), st.sampled_from([LIMITS, TINY]))
def test_the_farm_changes_no_mount_and_is_the_last_resort(
    situation: tuple[bytes, list[Prefix]], when: str, limits: Limits
) -> None:
    """Whatever is leased, the same directories meet in the same order, and only layers go by it."""
    text, links = situation
    assume(not names_a_short_path(text, links))
    paths = layers_to_lease(text, links, b"/f")
    assert len(paths) == len(set(paths))
    assert all(path.startswith(b"/") for path in paths)
    farm = [Prefix(f"/f/{at}", path, b"/f/%d" % at) for at, path in enumerate(paths)]
    without, decided = plan(text, links, limits, when), plan(text, links, limits, when, farm=farm)
    if without.fits:
        assert decided == without
    if decided.fits:
        assert decided.strategy == "farm" or decided == without
        assert resolved(decided.options, [*links, *farm]) == kernel_grammar.read(text)
        assert expand(decided.options, [*links, *farm]) == text
        mount = kernel_grammar.read(decided.options)
        assert not any((path or b"").startswith(b"/f/") for path in (mount.upper, mount.work))


@given(situations())
def test_the_order_of_the_links_decides_nothing_but_ties(
    situation: tuple[bytes, list[Prefix]],
) -> None:
    text, links = situation
    once = shortened(parse(text), links).format()
    assert once == shortened(parse(text), links).format()
    assume(len({link.target for link in links}) == len(links))
    assert len(once) == len(shortened(parse(text), links[::-1]).format())


@given(situations(), st.sampled_from(["'", '"', ""]), st.sampled_from([MOUNT2, BY_VALUE]))
def test_a_mount_line_says_the_same_as_its_options(
    situation: tuple[bytes, list[Prefix]], quote: str, way: str
) -> None:
    """Through any quoting, the shell hands mount(8) what plan() would have handed to mount(2)."""
    text, links = situation
    assume(not names_a_short_path(text, links) and text.count(b'"') % 2 == 0)
    line = b"mount -t overlay overlay -o " + in_shell(text, quote) + b" /target # kept\n"
    rewritten = mount_line.rewrite(line, Means(links, LIMITS, way=way))
    assert rewritten.plans[0].options == shortened(parse(text), links).format()
    words = words_of(rewritten.text)
    assert words[4:] == [b"-o", rewritten.plans[0].options, b"/target"]
    assert rewritten.text.endswith(b" /target # kept\n")
    assert words_of(mount_line.expand(rewritten.text, links))[5] == text


def words_of(line: bytes) -> list[bytes]:
    """Split as a shell does: Python's own reader, on the one-to-one characters of Latin-1."""
    import shlex

    return [word.encode("latin-1") for word in shlex.split(line.decode("latin-1"), comments=True)]
