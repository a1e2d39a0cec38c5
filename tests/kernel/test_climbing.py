"""Every rung of the ladder on real mounts: each layer counted, in its order, by any name."""

import errno
import itertools
import os
import re
from collections.abc import Callable, Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ovl_linkd.overlay import climbing, diagnosis, ladder, limits, mounting
from ovl_linkd.overlay.context import Context
from ovl_linkd.overlay.options import Malformed, Options, parse
from ovl_linkd.overlay.shorten import Prefix
from tests import older_kernel
from tests.kernel.world import (
    MOUNT_POINT,
    SHORT,
    SNAPSHOTS,
    all_of,
    features,
    in_a_private_world,
    joined,
    look,
    make_layers,
    make_upper,
)

pytestmark = pytest.mark.needs("root")

LIMITS = limits.of_this_kernel(page_size=4096)
FARM = b"/run/f"
LINK = Prefix("ctrdl", SNAPSHOTS, SHORT)

Rungs = Callable[..., object]


def lease(paths: list[bytes]) -> list[Prefix]:
    """A farm without a daemon."""
    os.makedirs(FARM, exist_ok=True)
    found = []
    for path in paths:
        short = b"%b/%d" % (FARM, len(os.listdir(FARM)))
        os.symlink(path, short)
        found.append(Prefix(short.decode(), path, short))
    return found


def never(_paths: list[bytes]) -> list[Prefix]:
    """A farm that is not to be asked."""
    raise AssertionError("leased")


def no_link() -> Sequence[Prefix]:
    return ()


def the_link() -> Sequence[Prefix]:
    os.symlink(SNAPSHOTS, SHORT)
    return [LINK]


def climb(
    options: bytes,
    links: Callable[[], Sequence[Prefix]] = no_link,
    lease: Callable[[list[bytes]], Sequence[Prefix]] = lambda _: (),
    flags: int = 0,
) -> ladder.Rung:
    return climbing.climb(b"overlay", MOUNT_POINT, parse(options), flags, LIMITS, links, lease)


def container(ids: Sequence[int], snapshots: bytes = SNAPSHOTS) -> bytes:
    """Make a container of these layers; return its options."""
    upper, work = make_upper(99_999, snapshots)
    layers = joined(make_layers(ids, snapshots))
    return b"index=off,workdir=%s,upperdir=%s,%s" % (work, upper, layers)


def line() -> str:
    """The last line of mountinfo."""
    with open("/proc/self/mountinfo") as file:
        return file.read().splitlines()[-1]


def one_by_one() -> str:
    """The rung for what fits no page; on a kernel without lowerdir+ the one that is left."""
    return "lowerdir+" if features().one_by_one else "chdir"


@in_a_private_world
def test_500_layers_without_link_or_daemon() -> None:
    """By their true names, absolute, which is what people look for in /proc/mounts."""
    ids = range(999, 499, -1)
    rung = climb(container(ids))

    assert rung.strategy == one_by_one()
    assert look() == all_of(ids)
    names = line().count(f"lowerdir+={os.fsdecode(SNAPSHOTS)}/")
    assert names == (500 if features().one_by_one else 0)
    assert len(line()) < 65_000
    with open(MOUNT_POINT + b"/new", "x"):
        assert os.path.exists(SNAPSHOTS + b"/99999/fs/new")


@in_a_private_world
def test_by_the_link_where_there_is_one() -> None:
    """Shorter in mountinfo, and spelt in the one way that everything reads."""
    ids = range(228, 100, -1)
    rung = climb(container(ids), the_link)

    assert rung.strategy == "link"
    assert look() == all_of(ids)
    assert f"lowerdir={os.fsdecode(SHORT)}/228/fs:" in line()


@in_a_private_world
def test_a_link_that_goes_in_the_last_moment_is_no_reason_to_fail() -> None:
    """Between a look at it and the mount, a cleaner may come."""
    ids = range(228, 100, -1)
    rung = climb(container(ids), lambda: [LINK])

    assert rung.strategy == one_by_one()
    assert look() == all_of(ids)


OLDER = {
    "no fsopen": older_kernel.without_fsopen,
    "no lowerdir+": older_kernel.without_one_by_one,
}


@pytest.mark.parametrize("older", OLDER)
@in_a_private_world
def test_on_an_older_kernel_by_link_farm_or_working_directory(older: str) -> None:
    """There is no version in it: what is refused is not used."""
    OLDER[older]()
    ids = range(999, 499, -1)
    options = container(ids)

    before = os.getcwd()
    rung = climb(options)
    assert rung.strategy == "chdir"
    assert look() == all_of(ids)
    assert os.getcwd() == before
    assert "lowerdir=999/fs:" in line()
    assert f"upperdir={os.fsdecode(SNAPSHOTS)}/99999/fs" not in line()
    mounting.umount(MOUNT_POINT)

    few = options.replace(b":" + options.split(b":", 250)[-1], b"")
    assert climb(few, no_link, lease).strategy == "farm"
    assert look() == all_of(ids[:250])
    mounting.umount(MOUNT_POINT)

    few = options.replace(b":" + options.split(b":", 200)[-1], b"")
    assert climb(few, the_link, lease).strategy == "link"
    assert look() == all_of(ids[:200])


@in_a_private_world
def test_a_relative_upperdir_is_the_callers_and_no_other_that_is_called_so() -> None:
    """From the layers' common directory `up` was another one: a container wrote into that."""
    older_kernel.without_one_by_one()
    ids = range(160, 100, -1)
    os.chdir("/run")
    for place in (b"/run", SNAPSHOTS):
        os.makedirs(place + b"/up")
        os.mkdir(place + b"/work")
    options = b"upperdir=up,workdir=work," + joined(make_layers(ids))

    with pytest.raises(climbing.CantMount, match="mount\\(2\\) takes 4,095"):
        climb(options)
    assert climb(options, the_link).strategy == "link"
    assert look() == all_of(ids)
    open(MOUNT_POINT + b"/new", "x").close()
    assert os.listdir("/run/up") == ["new"]


@in_a_private_world
def test_on_an_older_kernel_relative_layers_are_seen_from_deeper_down() -> None:
    """As Podman may name them: the caller's directory is not where they have the shortest names."""
    older_kernel.without_one_by_one()
    ids = range(999, 499, -1)
    deep = b"deep/" + b"d" * 60
    options = container(ids, b"/run/" + deep).replace(b"/run/", b"")
    os.chdir("/run")
    rung = climb(options)

    assert (rung.strategy, rung.directory) == ("chdir", deep)
    assert look() == all_of(ids)
    assert os.getcwd() == "/run"
    open(MOUNT_POINT + b"/new", "x").close()
    assert os.listdir(f"/run/{os.fsdecode(deep)}/99999/fs") == ["new"]


@in_a_private_world
def test_on_an_older_kernel_without_any_way_the_cause_is_named() -> None:
    """What the kernel would have done instead: mount other layers, or answer ENOENT."""
    older_kernel.without_fsopen()
    many = [
        layer
        for root in (b"/run/" + b"r" * 80, b"/var/lib/" + b"s" * 80)
        for layer in make_layers(range(30), root)
    ]
    with pytest.raises(climbing.CantMount) as caught:
        climb(joined(many))
    assert not os.path.ismount(MOUNT_POINT)
    assert caught.value.errno == errno.ENOSYS
    assert "mount(2) takes 4,095; " in caught.value.reason
    assert "of 60 layers would fit" in caught.value.reason
    assert caught.value.remedy


@in_a_private_world
def test_single_paths_longer_than_a_value() -> None:
    """fsconfig(2) takes 255 bytes as one, and says EINVAL without a word past them."""
    deep = b"/var/lib/" + b"/".join([b"d" * 200] * 5)
    ids = range(30, 0, -1)
    rung = climb(container(ids, deep))

    assert look() == all_of(ids)
    if features().descriptors:
        assert rung.strategy == "descriptors"
        assert line().count("lowerdir+=" + os.fsdecode(deep)) == 30
        assert f"upperdir={os.fsdecode(deep)}/99999/fs" in line()
    else:
        assert rung.strategy == "chdir"
    mounting.umount(MOUNT_POINT)

    older_kernel.without_descriptors()
    other = deep + b"2"
    options = container(range(999, 700, -1), other)
    assert climb(options).strategy == "chdir"
    assert look() == all_of(range(999, 700, -1))
    mounting.umount(MOUNT_POINT)
    os.symlink(other, "/run/a-link-of-nineteen")
    link = Prefix("l", other, b"/run/a-link-of-nineteen")
    by_link = climb(options, lambda: [link])
    assert look() == all_of(range(999, 700, -1))
    if features().one_by_one:
        assert by_link.strategy == "link"
        assert line().count("lowerdir+=/run/a-link-of-nineteen/") == 299
    else:
        assert by_link.strategy == "chdir"


@in_a_private_world
def test_a_descriptor_is_shown_by_where_it_lies_and_that_counts() -> None:
    """60 short names of 1,200 bytes each: a line that runc could not read. By other names then."""
    deep = b"/var/lib/" + b"/".join([b"d" * 200] * 6)
    ids = range(60, 0, -1)
    make_layers(ids, deep)
    os.makedirs("/run/" + "n" * 200)
    near = b"/run/" + b"n" * 200 + b"/" + b"m" * 60
    os.symlink(deep, near)
    rung = climb(joined([b"%b/%d/fs" % (near, number) for number in ids]))

    assert rung.strategy == "chdir"
    assert look() == all_of(ids)
    assert len(line()) < 65_000


@in_a_private_world
def test_data_only_layers_stay_data_only() -> None:
    """Their files are seen through a redirect alone: none of them may turn up in the tree."""
    regular = make_layers(range(300, 200, -1))
    data = make_layers(range(50), SNAPSHOTS + b"/data")
    options = b"metacopy=on,redirect_dir=on,%b::%b" % (joined(regular), b"::".join(data))
    if not features().one_by_one:
        unknown = "^data-only layers are not known to this kernel: |mount\\(2\\) takes 4,095"
        with pytest.raises(climbing.CantMount, match=unknown):
            climb(options)
        assert not os.path.ismount(MOUNT_POINT)
        return
    rung = climb(options)

    assert rung.strategy == "lowerdir+"
    assert look() == all_of(range(300, 200, -1))
    assert line().count("datadir+=") == 50


FLAGS = {
    mounting.MS_RDONLY: "ro",
    mounting.MS_NOSUID: "nosuid",
    mounting.MS_NODEV: "nodev",
    mounting.MS_NOEXEC: "noexec",
    mounting.MS_NOATIME: "noatime",
    mounting.MS_NODIRATIME: "nodiratime",
    mounting.MS_NOSYMFOLLOW: "nosymfollow",
    mounting.MS_SYNCHRONOUS: "sync",
    mounting.MS_DIRSYNC: "dirsync",
    mounting.MS_MANDLOCK: "mand",
    mounting.MS_LAZYTIME: "lazytime",
}


@pytest.mark.parametrize("count", [10, 100])
@in_a_private_world
def test_flags_mean_the_same_by_mount_and_by_fsconfig(count: int) -> None:
    """`nosuid` that is lost on the way is a hole, `ro` that is lost is data."""
    options = container(range(100 + count, 100, -1))
    for flag, name in FLAGS.items():
        assert climb(options, flags=flag).strategy == ("plain" if count == 10 else one_by_one())
        fields = line().split()
        assert name in f"{fields[5]},{fields[-1]}".split(","), line()
        mounting.umount(MOUNT_POINT)
    # mount(2) takes the stricter of the two; fsmount(2) refused them, and names became relative.
    for flags in (mounting.MS_STRICTATIME, mounting.MS_STRICTATIME | mounting.MS_NOATIME):
        assert climb(options, flags=flags).strategy == ("plain" if count == 10 else one_by_one())
        assert "atime" not in line().split()[5]
        mounting.umount(MOUNT_POINT)


# Before Linux 6.5 the overlay itself looks at the names of options.
OLD_WORDS = "unrecognized mount option"
WORDS = {
    "an option that no overlay has": (
        b"lowerdir=/run/a:/run/b,nonsense=1",
        ("Unknown parameter 'nonsense'", OLD_WORDS + ' "nonsense=1"'),
    ),
    "a value that it has not": (
        b"lowerdir=/run/a:/run/b,index=perhaps",
        ("Bad value for 'index'", OLD_WORDS + ' "index=perhaps"'),
    ),
    # Found by looking: the kernel doesn't say which.
    "one layer inside another": (
        b"lowerdir=/run/a:/run/a/in",
        (
            "lower layer 2 of 2 lies inside lower layer 1 of 2: /run/a/in",
            "lower layer 62 of 62 lies inside lower layer 61 of 62: /run/a/in",
        ),
    ),
    "workdir inside upperdir": (
        b"lowerdir=/run/b,upperdir=/run/a,workdir=/run/a/in",
        ("workdir and upperdir must be separate subtrees",),
    ),
}


@pytest.mark.parametrize("length", ["short", "long"])
@pytest.mark.parametrize("case", WORDS)
@in_a_private_world
def test_what_the_kernel_says_is_what_the_person_reads(case: str, length: str) -> None:
    """mount(2) says EINVAL, and mount(8) then guesses at a bad superblock."""
    os.makedirs("/run/a/in")
    os.mkdir("/run/b")
    text, words = WORDS[case]
    if length == "long":
        text = b"lowerdir=%b:" % b":".join(make_layers(range(60))) + text.removeprefix(b"lowerdir=")
    with pytest.raises(climbing.CantMount) as caught:
        climb(text, the_link)
    assert caught.value.reason.startswith(words)
    assert not os.path.ismount(MOUNT_POINT)


@in_a_private_world
def test_what_the_kernel_refuses_by_any_name_is_not_leased() -> None:
    """500 names were leased for a mount whose workdir was wrong."""
    os.makedirs("/run/a/in")
    paths = b"upperdir=/run/a,workdir=/run/a/in"
    with pytest.raises(climbing.CantMount, match="separate subtrees"):
        climb(b"%b,%b" % (joined(make_layers(range(60))), paths), no_link, never)


@pytest.mark.parametrize(
    "words",
    [
        "VFS: Legacy: Cumulative options too large",
        "Unknown parameter 'lowerdir+'",
        "Unknown parameter 'datadir+'",
        'unrecognized mount option "lowerdir+=/a" or missing value',
        "Bad value for 'lowerdir+'",
        "Bad value for 'upperdir'",
    ],
)
def test_an_older_kernels_complaint_is_no_reason_to_give_up(
    words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is about the way in which it was asked, which is not the last one."""
    monkeypatch.setattr(diagnosis, "kernels_words", lambda _: words)
    assert climbing._words(parse(b"lowerdir=/a:/b")) is None


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        (b"lowerdir=/a::/b", "data-only layers are not known to this kernel"),
        (b"lowerdir=%b::/d::/e" % b":".join([b"/" + b"a" * 90] * 60), "data-only layers are not"),
        (b"lowerdir+=/a,lowerdir+=/b", "lowerdir\\+ and datadir\\+ are not known to this kernel"),
    ],
)
def test_a_layer_of_a_kind_that_an_older_kernel_has_not_is_named(
    options: bytes, reason: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Linux 6.1 says "empty lowerdir" of ``::``; of a long list nothing was said but its number."""

    def words(asked: Options) -> str | None:
        if b"lowerdir+=" in asked.format() or len(asked.format()) > 255:
            return 'unrecognized mount option "lowerdir+=/a" or missing value'
        return "empty lowerdir" if b"::" in asked.format() else None

    monkeypatch.setattr(diagnosis, "kernels_words", words)
    assert re.match(reason, climbing._words(parse(options)) or "")


class Older(Context):
    """Of a kernel that knows no lowerdir+."""

    refused = False

    @classmethod
    def take_the_place(cls, monkeypatch: pytest.MonkeyPatch) -> None:
        """From now on that kernel is asked."""
        for module in ("diagnosis", "climbing"):
            monkeypatch.setattr(f"ovl_linkd.overlay.{module}.Context", cls)

    def set_string(self, name: bytes, value: bytes) -> None:
        self.refused = name == b"lowerdir+"
        if self.refused:
            raise OSError(errno.EINVAL, "")
        super().set_string(name, value)

    def said(self) -> list[str]:
        return ["Unknown parameter 'lowerdir+'"] if self.refused else super().said()


@pytest.mark.parametrize(
    ("padding", "reason"),
    [(b"", "maximum fs stacking depth exceeded"), (b"/" * 300, "Invalid argument")],
)
@in_a_private_world
def test_an_older_kernels_complaint_is_not_told_of_options_that_were_spelt_otherwise(
    padding: bytes, reason: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    Older.take_the_place(monkeypatch)
    for name in ("a", "b", "one", "two"):
        os.mkdir(f"/run/{name}")
    mounting.mount_overlay("overlay", "/run/one", b"lowerdir=/run/a:/run/b")
    mounting.mount_overlay("overlay", "/run/two", b"lowerdir=/run/one:/run/b")
    with pytest.raises(climbing.CantMount, match=f"^{reason}$"):
        climb(b"lowerdir=/run/two:/run/a" + padding)


@in_a_private_world
def test_an_older_kernel_is_asked_about_the_topmost_of_many_layers(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Of all one by one it would say only that it doesn't know that; names were leased in vain."""
    Older.take_the_place(monkeypatch)
    os.makedirs("/run/a/in")
    paths = b"upperdir=/run/a,workdir=/run/a/in"
    with pytest.raises(climbing.CantMount, match="separate subtrees"):
        climb(b"%b,%b" % (joined(make_layers(range(60))), paths), no_link, never)


@in_a_private_world
def test_too_many_layers_are_not_even_tried() -> None:
    with pytest.raises(
        climbing.CantMount, match=r"^501 lower layers, the kernel takes 500$"
    ) as caught:
        climb(b"lowerdir=" + b":".join(b"/%d" % at for at in range(501)))
    assert caught.value.errno is None


@pytest.mark.parametrize("layers", [3, 60])
@in_a_private_world
def test_without_the_privilege_it_is_the_privilege_that_is_named(layers: int) -> None:
    options = joined(make_layers(range(layers)))
    os.setuid(65534)
    with pytest.raises(climbing.CantMount) as caught:
        climb(options)
    assert caught.value.errno == errno.EPERM
    assert caught.value.remedy == "only root may mount; use sudo"


# --- whatever the layers, by whatever rung -----------------------------------------------------

NAMES = st.text(st.sampled_from("ab:,\\ \n\té\udcff\"'=+"), min_size=1, max_size=12).filter(
    lambda name: name not in (".", "..")
)


def escaped(path: bytes, special: bytes = b"\\:,") -> bytes:
    return b"".join(b"\\%c" % byte if byte in special else b"%c" % byte for byte in path)


@in_a_private_world
def test_whatever_the_layers_each_rung_shows_the_same_tree() -> None:
    """Mounted plainly, by link, farm, lowerdir+, descriptor and working directory."""
    mounts, known = 0, features()
    stores = itertools.count(100_000_000)

    @settings(max_examples=60)
    @given(st.lists(NAMES, min_size=2, max_size=6, unique=True), st.booleans(), st.data())
    def check(names: list[str], writable: bool, data: st.DataObject) -> None:
        nonlocal mounts
        store = b"/var/lib/%d" % next(stores)
        os.mkdir(store)
        roots = data.draw(
            st.lists(st.sampled_from([b"/1", b"/2/3"]), min_size=len(names), max_size=len(names))
        )
        layers = [
            store + root + b"/" + os.fsencode(name) for root, name in zip(roots, names, strict=True)
        ]
        for number, layer in enumerate(layers):
            os.makedirs(layer)
            for file in {number, number // 2, 7}:
                with open(b"%b/%d" % (layer, file), "w") as handle:
                    handle.write(str(number))
        text = b"lowerdir=" + b":".join(map(escaped, layers))
        if writable:
            os.makedirs(store + b"/u,p/w\\k")
            os.mkdir(store + b"/u,p/up")
            base = escaped(store + b"/u,p", b"\\,")
            text += b",upperdir=%b/up,workdir=%b/w\\\\k" % (base, base)
        short = limits.Limits(mount=4095, fsconfig=12, layers=500, mountinfo=65_000)
        link = Prefix("l", store, b"/run/%d" % next(stores))
        os.symlink(store, link.short)
        seen = {}
        for most in (LIMITS, short):
            for rung in ladder.rungs(parse(text), most, lambda: [link], lease):
                if not rung.options and not (
                    known.one_by_one if most is LIMITS else known.descriptors
                ):
                    continue
                climbing.mount_by(rung, b"overlay", MOUNT_POINT, 0, most)
                mounts += 1
                seen[f"{rung.strategy} {bool(rung.options)}"] = tree()
                mounting.umount(MOUNT_POINT)
        assert len(seen) >= (6 if known.descriptors else 3)
        assert len(set(map(tuple, seen.values()))) == 1, seen

    check()
    assert mounts > (400 if known.descriptors else 200)


LAYERS = st.sampled_from([b"/run/a", b"/run/./b", rb"/run/x\,y", rb"/run/p\:q", b"/run/c//"])
LISTS = st.builds(
    lambda layers, between: b"lowerdir=" + between.join([b":".join(layers[:-1]), layers[-1]]),
    st.lists(LAYERS, min_size=2, max_size=4, unique=True),
    st.sampled_from([b":", b"::"]),
)
OPTIONS = st.one_of(
    LISTS,
    LISTS,
    LISTS,
    st.sampled_from([b"", b"=x", b"index=on", b"metacopy=on", b"workdir=/run/w"]),
    st.just(rb"upperdir=/run/\u,workdir=/run/w"),
    st.sampled_from([b"lowerdir+=/run/a", b"lowerdir+=/run/b", b"datadir+=/run/p:q"]),
    st.sampled_from([b"lowerdir", b"lowerdir=", b"upperdir=/run/u"]),
)


def mounted(mount: Callable[[], None]) -> tuple[list[bytes], list[str]] | None:
    """What is to be seen after MOUNT, and by which other options; None where it is refused."""
    try:
        mount()
    except OSError:
        return None
    # Which uuid depends on whether the upperdir has been mounted before.
    others = [x for x in line().split()[-1].split(",") if "dir" not in x and "uuid" not in x]
    found = sorted(os.listdir(MOUNT_POINT)), others
    mounting.umount(MOUNT_POINT)
    return found


@pytest.mark.needs("lowerdir+")
@in_a_private_world
def test_value_by_value_the_kernel_takes_what_it_takes_as_a_text() -> None:
    """The same tree by the same options; and what it refuses as a text it refuses so, too."""
    for name in ("a", "b", "c", "x,y", "p:q", "u"):
        os.makedirs(f"/run/{name}/only-{name}")
    os.mkdir("/run/w")
    taken = 0

    @settings(max_examples=200)
    @given(st.lists(OPTIONS, min_size=1, max_size=4).map(b",".join))
    def check(text: bytes) -> None:
        nonlocal taken
        as_text = mounted(lambda: mounting.mount_overlay("overlay", MOUNT_POINT, text))
        taken += as_text is not None
        try:
            values = ladder.settings(parse(text))
        except Malformed:
            assert as_text is None
            return
        rung = ladder.Rung("lowerdir+", b"", values)
        by_value = mounted(lambda: climbing.mount_by(rung, b"overlay", MOUNT_POINT, 0, LIMITS))
        assert by_value == as_text

    check()
    assert taken > 15


def tree() -> list[tuple[bytes, bytes]]:
    """Each file that is to be seen at the mount point, with its content."""
    found = []
    for directory, _, names in os.walk(MOUNT_POINT):
        for name in names:
            path = os.path.join(directory, name)
            with open(path, "rb") as file:
                found.append((path, file.read()))
    return sorted(found)
