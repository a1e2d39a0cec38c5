"""Any options and any links, for property tests, and what such options mean."""

from hypothesis import assume
from hypothesis import strategies as st

from ovl_linkd.overlay.options import LIST, PATH, RAW, Malformed, parse
from ovl_linkd.overlay.prefixes import Prefix
from tests import kernel_grammar

# Names that nest, begin alike, need escapes or are no text at all.
NAMES = st.sampled_from(
    [b"a", b"ab", b"b", b"a:b", b"c,d", b"e\\f", b'"', b"\xff\xfe", b"..", b" "]
)
PATHS = st.lists(NAMES, min_size=1, max_size=4).map(lambda names: b"/" + b"/".join(names))
# Short paths lie where no target and no layer does, but may nest in each other.
SHORTS = st.sampled_from([b"/s", b"/s/x", b"/s/y", b"/t", b"/run/long/s", b"/s/x/z"])
# And these nest in nothing: of them there may be so many that they aren't tried one by one.
APART = st.sampled_from([b"/%c" % letter for letter in b"ABCDEFGHIJKLMNOPQRSTUVWXYZ"])
LINKS = st.one_of(
    st.lists(st.tuples(PATHS, SHORTS), max_size=6, unique_by=lambda link: link[1]),
    st.lists(st.tuples(PATHS, APART), max_size=20, unique_by=lambda link: link[1]),
    st.lists(st.tuples(PATHS, SHORTS | APART), max_size=20, unique_by=lambda link: link[1]),
).map(lambda links: [Prefix(f"l{at}", old, new) for at, (old, new) in enumerate(links)])


def in_option(path: bytes, kind: int) -> bytes:
    """A path as an option spells it, trailing slashes and all."""
    if kind == RAW:
        return b"relative" if b"," in path or path.endswith(b"\\") else path
    special = b"\\,:" if kind == LIST else b"\\,"
    return b"".join(b"\\%c" % byte if byte in special else b"%c" % byte for byte in path)


@st.composite
def situations(draw: st.DrawFn) -> tuple[bytes, list[Prefix]]:
    """Options of which most paths lie under some link's target, in any spelling."""
    links = draw(LINKS)
    roots = [link.target for link in links] + [b"", b"/a"]
    rest = st.sampled_from([b"", b"/", b"/1/fs", b"//1", b"/../x", b"x", b"/\\q", b"r/1", b"r//2"])
    paths = st.tuples(st.sampled_from(roots), rest).map(b"".join).filter(bool)

    def spelt(kind: int) -> st.SearchStrategy[bytes]:
        return paths.map(lambda path: in_option(path, kind))

    lower = st.lists(spelt(LIST), min_size=1, max_size=6).map(b":".join)
    options = st.one_of(
        lower.map(lambda value: b"lowerdir=" + value),
        spelt(RAW).map(lambda value: b"lowerdir+=" + value),
        spelt(RAW).map(lambda value: b"datadir+=" + value),
        spelt(PATH).map(lambda value: b"upperdir=" + value),
        spelt(PATH).map(lambda value: b"workdir=" + value),
        spelt(PATH).map(lambda value: b"other=" + value),
        st.sampled_from([b"rw", b"", b"lowerdir", b"index=off", b"redirect_dir=on"]),
    )
    text = b",".join(draw(st.lists(options, max_size=6)))
    try:
        parse(text)
    except Malformed:
        assume(False)
    return text, links


def names_a_short_path(text: bytes, links: list[Prefix]) -> bool:
    """Whether a path in TEXT goes by one of LINKS already: then there is no way back to it."""
    mount = kernel_grammar.read(text)
    paths = [*mount.lower, mount.upper or b"", mount.work or b""]
    return any(
        path == link.short or path.startswith(link.short + b"/") for path in paths for link in links
    )


def resolved(text: bytes, links: list[Prefix]) -> kernel_grammar.Mount:
    """The mount, each path with the one link followed through which it goes."""
    mount = kernel_grammar.read(text)

    def follow(path: bytes) -> bytes:
        for link in sorted(links, key=lambda link: -len(link.short)):
            if path == link.short or path.startswith(link.short + b"/"):
                return link.target + path[len(link.short) :]
        return path

    return mount._replace(
        lower=tuple(map(follow, mount.lower)),
        upper=None if mount.upper is None else follow(mount.upper),
        work=None if mount.work is None else follow(mount.work),
    )


def in_shell(value: bytes, quote: str) -> bytes:
    """VALUE as a word of a shell: in quotes of this kind, with escapes if there are none."""
    if quote == "'":
        return b"'" + value.replace(b"'", b"'\\''") + b"'"
    special = b'$`"\\' if quote else b" \t$`\"\\'*?[{~#;&|()<>"
    escaped = b"".join(b"\\%c" % byte if byte in special else b"%c" % byte for byte in value)
    return b'"' + escaped + b'"' if quote or not value else escaped
