"""What listings pass over: counted, and for a reason."""

import dataclasses
import json
import os
from pathlib import Path

import pytest
from helpers.stores import memory_store, public_folder, unprivileged

from pipeline.errors import InputError
from pipeline.inputs.find import identify, list_images, require_images, require_listing
from pipeline.inputs.globs import Exclusions, Glob
from pipeline.inputs.passed_over import (
    MOST_SUFFIXES,
    CountPassedOver,
    PassedOver,
    PassedOverTally,
    WhyPassedOver,
    in_words,
)
from pipeline.records import ImageRef


def make(folder, *names):
    """Make empty files below a folder."""
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()


@pytest.fixture(autouse=True)
def _in_an_empty_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def listed(given, **rest):
    """The images, the counts by reason, and the line for the console."""
    tally, images = PassedOverTally(), []
    for one in list_images(identify(str(given), **rest)):
        if isinstance(one, ImageRef):
            images.append(one.uri.removeprefix(f"{Path.cwd()}/"))
        else:
            tally.add(one)
    summary = json.loads(json.dumps(tally.to_json()))
    return sorted(images), summary["passed_over"], in_words(summary)


# Counting


def test_counts_by_reason_and_suffix(tmp_path):
    make(tmp_path, "p/a.jpg", "p/b.XMP", "p/b.xmp", "p/c", "p/._a.jpg", "p/.thumbs/x.jpg")
    make(tmp_path, "p/v1. all", "p/d.x\nerror: e", "p/f.", "p/g.a-part-of-the-name")
    assert listed("p")[1:] == (
        {"other_suffix": 7, "hidden": 2},
        "7 with other suffixes (none 5, .xmp 2), 2 hidden files",
    )


def test_the_counts_of_parts_add_up_and_stay_small():
    names = [f"{n:04}.{n}" for n in range(1000)]
    parts = [PassedOverTally() for _ in range(4)]
    for number, name in enumerate(names):
        parts[number % 4].add(PassedOver(WhyPassedOver.OTHER_SUFFIX, name))
    summary = CountPassedOver().merge_accumulators(parts).to_json()
    assert summary["passed_over"] == {"other_suffix": 1000}
    suffixes = summary["passed_over_suffixes"]["other_suffix"]
    assert len(suffixes) <= MOST_SUFFIXES + 1
    assert sum(suffixes.values()) == 1000
    assert summary["passed_over_examples"] == {"other_suffix": names[:3]}
    assert "more 9" in in_words(summary)


def test_nothing_found_says_what_was_passed_over(tmp_path):
    make(tmp_path, "p/a.CR2", "p/b.cr2", "p/c.JPG", "p/d.Jpg")
    for given, said in (
        ("p/*.jpg", "that the pattern would match in another case (.JPG 1, .Jpg 1)"),
        ("p/[ab]*", "2 camera raw files to convert to JPEG first (.cr2 2)"),
    ):
        with pytest.raises(InputError) as caught:
            require_images(identify(given))
        assert said in str(caught.value)


def test_what_differs_in_case_is_counted_unless_another_input_takes_it(tmp_path):
    make(tmp_path, "p/a.jpg", "p/b.JPG", "p/c.png")
    said = "1 that the pattern would match in another case (.JPG 1)"
    assert listed("p/*.jpg") == (["p/a.jpg"], {"other_case": 1}, said)
    assert listed("p/*.jpg", beside=("p/*.jpg", "q/*.JPG"))[1] == {"other_case": 1}
    assert listed("p/*.jpg", beside=("p/*.jpg", "p/*.JPG"))[1] == {}
    with pytest.raises(InputError, match="this pattern; repeat input, since braces are not"):
        require_images(identify("p/*.{jpg,png}"))
    with pytest.raises(InputError, match="no such file or folder; repeat input, since braces"):
        identify("p/{a,b}.jpg")
    with pytest.raises(InputError, match=r"this pattern; write \[\[\] for a \[ in a name$"):
        require_images(identify("p [2024]/*.jpg"))


# Suffixes


def test_a_folder_takes_every_suffix_of_an_image_that_can_be_read_or_named(tmp_path):
    names = [
        *("a.HIF", "b.MPO", "c.pjpeg", "d.pjp", "e.apng", "f.heics"),
        *("g.avif", "h.tga", "i.ppm", "j.svg", "k.psd", "l.qoi"),
    ]
    make(tmp_path / "p", *names)
    assert listed("p") == ([f"p/{name}" for name in names], {}, "")


def test_raw_files_do_not_fail_beside_their_jpegs_but_are_counted(tmp_path):
    make(tmp_path, "p/1.JPG", "p/1.CR2", "p/2.DNG", "p/2.NEF", "p/3.ARW", "p/Thumbs.db", "p/n.txt")
    expected = {"unsupported_format": 4, "excluded": 1, "other_suffix": 1}
    assert listed("p")[:2] == listed("p/*")[:2] == (["p/1.JPG"], expected)
    assert listed("p/*.CR2")[:2] == (["p/1.CR2"], {})  # and fails in sight


# Hidden names


@pytest.mark.parametrize(
    ("given", "images", "hidden"),
    [
        ("c/**/*.jpg", ["c/1.jpg", "c/d/2.jpg"], 4),
        ("c/**.jpg", ["c/1.jpg", "c/d/2.jpg"], 4),
        ("c/*.jpg", ["c/1.jpg"], 1),
        ("c/?*.jpg", ["c/1.jpg"], 1),
        ("c/[.]*.jpg", [], 1),
        ("c/*/*.jpg", ["c/d/2.jpg"], 2),
        ("c/._*.jpg", ["c/._1.jpg"], 0),
        ("c/.thumbs/*.jpg", ["c/.thumbs/3.jpg"], 0),
        ("c/**/.thumbs/*.jpg", ["c/.thumbs/3.jpg", "c/d/.thumbs/4.jpg"], 0),
        ("c", ["c/1.jpg", "c/d/2.jpg"], 4),
        ("c/.thumbs", ["c/.thumbs/3.jpg"], 0),
    ],
)
def test_hidden_names_are_taken_only_if_the_dot_is_written(tmp_path, given, images, hidden):
    names = ["1.jpg", "._1.jpg", "d/2.jpg", "d/._2.jpg", ".thumbs/3.jpg", "d/.thumbs/4.jpg"]
    make(tmp_path / "c", *names)
    reasons = {"hidden": hidden} if hidden else {}
    assert listed(given)[:2] == (images, reasons)
    with memory_store({f"mem://b/c/{name}": b"" for name in names} | {"mem://b/c/": b""}):
        in_store, reasons_in_store, _ = listed(f"mem://b/{given}")
    assert ([uri.removeprefix("mem://b/") for uri in in_store], reasons_in_store) == (
        images,
        reasons,
    )


def test_the_sidecars_of_a_mac_beside_photographs(fixtures):
    cases = fixtures.parent / "cases" / "inputs"
    if not cases.is_dir():
        pytest.skip(f"{cases} is not there")
    images, reasons, said = listed(cases / "sidecars" / "*.jpg")
    assert [Path(image).name for image in images] == ["IMG_1.jpg", "IMG_2.jpg", "IMG_3.jpg"]
    assert (reasons, said) == ({"hidden": 3}, "3 hidden files")


def test_a_hidden_folder_that_may_not_be_opened_is_no_failure():
    with public_folder() as folder:
        make(folder, "a.jpg", ".Trash-0/b.jpg", "lost+found/c.jpg")
        for name in (".Trash-0", "lost+found"):
            (folder / name).chmod(0)
        with unprivileged(folder):
            assert listed(folder)[:2] == ([f"{folder}/a.jpg"], {"hidden": 1, "excluded": 1})


# Exclusions


@pytest.mark.parametrize("store", [False, True])
def test_what_systems_leave_in_folders_is_excluded(tmp_path, store):
    names = [
        *("a.jpg", "@eaDir/a.jpg/SYNOPHOTO_THUMB.jpg", "s/@eaDir/b.jpg", "$Recycle.Bin/c.jpg"),
        *("__MACOSX/d.jpg", "System Volume Information/e.jpg", "#recycle/f.jpg", "x.@eaDir.jpg"),
        *("#snapshot/1/a.jpg", "@Recently-Snapshot/1/a.jpg", "~snapshot/a.jpg"),
    ]
    make(tmp_path / "p", *names)
    with memory_store({f"mem://b/p/{name}": b"" for name in names}):
        root = "mem://b/p" if store else "p"
        for given in (root, f"{root}/**/*.jpg"):
            images, reasons, _ = listed(given)
            assert images == [f"{root}/a.jpg", f"{root}/x.@eaDir.jpg"]
            assert reasons == {"excluded": 9}
        assert listed(f"{root}/s/@eaDir")[0] == [f"{root}/s/@eaDir/b.jpg"]


@pytest.mark.parametrize(
    ("exclude", "left"),
    [
        (["*_thumb.jpg"], ["a.jpg", "raw/c.jpg", "t/raw/d.jpg"]),
        (["raw"], ["a.jpg", "b_thumb.jpg"]),
        (["raw/"], ["a.jpg", "b_thumb.jpg"]),
        (["/raw"], ["a.jpg", "b_thumb.jpg", "t/raw/d.jpg"]),
        (["t/**/d.*"], ["a.jpg", "b_thumb.jpg", "raw/c.jpg"]),
        (["**/raw/*.jpg", "a.*"], ["b_thumb.jpg"]),
        (["{root}/t"], ["a.jpg", "b_thumb.jpg", "raw/c.jpg"]),
        (["{root}/raw/"], ["a.jpg", "b_thumb.jpg", "t/raw/d.jpg"]),
        (["./raw"], ["a.jpg", "b_thumb.jpg", "t/raw/d.jpg"]),
        (["p/raw"], ["a.jpg", "b_thumb.jpg", "t/raw/d.jpg"]),
        (["RAW"], ["a.jpg", "b_thumb.jpg", "raw/c.jpg", "t/raw/d.jpg"]),
    ],
)
def test_exclude(tmp_path, exclude, left):
    names = ["a.jpg", "b_thumb.jpg", "raw/c.jpg", "t/raw/d.jpg"]
    make(tmp_path / "p", *names)
    globs = tuple(glob.format(root=f"{tmp_path}/p") for glob in exclude)
    for given in ("p", "p/**/*.jpg"):
        images, reasons, _ = listed(given, exclude=globs)
        assert images == [f"p/{name}" for name in left]
        assert sum(reasons.values()) == 4 - len(left)


def test_exclude_without_a_folder_or_glob_is_refused(tmp_path):
    make(tmp_path, "a.jpg", "p/b.jpg")
    with pytest.raises(InputError, match=r"^exclude: no input is a folder or glob"):
        require_listing([identify("a.jpg")], ["b*"])
    make(tmp_path, "t/a.csv")
    for given in ("p", "p/*", "t", "t/*.csv"):
        require_listing([identify("a.jpg"), identify(given)], ["b*"])
    require_listing([identify("a.jpg")], [])


def test_the_output_is_not_listed(tmp_path):
    make(tmp_path, "p/a.jpg", "p/out/labels.jsonl", "p/out/thumb.jpg", "q.jpg")
    (tmp_path / "link").symlink_to(tmp_path / "p/out")
    for output in ("p/out", "link", "p/../p/out/"):
        for given, count in (("p", 2), ("p/**/*.*", 2), ("p/**/*.jpg", 1)):
            assert listed(given, output=output)[:2] == (["p/a.jpg"], {"own_output": count})
    assert listed("p", output="p")[0] == ["p/a.jpg", "p/out/thumb.jpg"]
    with memory_store({"mem://b/p/a.jpg": b"", "mem://b/p/out/b.jpg": b""}):
        expected = (["mem://b/p/a.jpg"], {"own_output": 1}, "1 file of the run's own output")
        assert listed("mem://b/p", output="mem://b/p/out/") == expected


# Links


def test_a_folder_behind_several_links_is_listed_once_under_its_own_name(tmp_path):
    make(tmp_path, "p/z/1.jpg", "other/2.jpg", "other/deep/3.jpg")
    for link, target in (("a", "p/z"), ("b", "other"), ("c", "other"), ("d", "other/deep")):
        (tmp_path / "p" / link).symlink_to(tmp_path / target)
    (tmp_path / "other/back").symlink_to(tmp_path / "p")
    expected = (["p/b/2.jpg", "p/b/deep/3.jpg", "p/z/1.jpg"], {"already_listed": 4})
    assert listed("p")[:2] == listed("p/**/*.jpg")[:2] == expected
    # A glob that names a link takes the folder behind it, even if that has another name as well.
    assert listed("p/[ad]/*.jpg")[0] == ["p/a/1.jpg", "p/d/3.jpg"]
    assert listed("p/**/a/*.jpg")[0] == ["p/a/1.jpg"]
    assert listed("p/[az]/*.jpg")[:2] == (["p/z/1.jpg"], {"already_listed": 1})


def test_a_folder_that_two_parts_of_a_glob_reach_gives_each_file_once(tmp_path):
    make(tmp_path, "p/q/x/1.jpg")
    (tmp_path / "p/q/y").symlink_to(tmp_path / "p/q/x")
    (tmp_path / "p/x").symlink_to(tmp_path / "p/q/x")
    for given in ("p/**/x/*.jpg", "p/**/*.jpg", "p/**"):
        assert listed(given)[0] == ["p/q/x/1.jpg"]
    assert listed("p/**/y/*.jpg")[0] == ["p/q/y/1.jpg"]


def test_a_link_to_the_parent_lists_what_is_beside(tmp_path):
    make(tmp_path, "p/1.jpg", "side/2.jpg")
    (tmp_path / "p/up").symlink_to(tmp_path)
    assert listed("p")[0] == ["p/1.jpg", "p/up/side/2.jpg"]


def test_folders_that_are_deeper_than_calls_may_be(tmp_path, monkeypatch):
    make(tmp_path, "keep")
    for _ in range(1050):
        Path("d").mkdir()
        monkeypatch.chdir("d")
    Path("x.jpg").touch()
    deepest = Path.cwd()
    monkeypatch.chdir(tmp_path)
    assert len(listed("d")[0]) == 1
    (deepest / "x.jpg").unlink()
    os.removedirs(deepest)  # for pytest, which would call itself for each


@pytest.mark.parametrize("store", [False, True])
def test_folders_that_a_glob_matches_are_counted_once(tmp_path, store):
    names = [
        "1.jpg",
        "a/2.jpg",
        "a/deep/3.jpg",
        "a/deep/4.jpg",
        "b/5.jpg",
        "@eaDir/6.jpg",
        ".h/7.jpg",
    ]
    make(tmp_path / "p", *names)
    with memory_store({f"mem://b/p/{name}": b"" for name in names}):
        root = "mem://b/p" if store else "p"
        assert listed(f"{root}/*")[:2] == ([f"{root}/1.jpg"], {"folder": 2, "excluded": 1})
        with pytest.raises(InputError, match="2 folders that the pattern does not enter"):
            require_images(identify(f"{root}/[ab]"))
        assert listed(f"{root}/*.jpg")[1] == {}


# Globs themselves


@pytest.mark.parametrize(
    ("glob", "path", "matches"),
    [
        ("**/*.jpg", "a.jpg", True),
        ("**/*.jpg", "x/y/a.jpg", True),
        ("a**b.jpg", "ab.jpg", True),
        ("a**b.jpg", "ax/y/zb.jpg", True),
        ("a**b.jpg", "x/ab.jpg", False),
        ("**a**/b", "x/ya/z/b", True),
        ("x/**", "x/y/z", True),
        ("x/**", "x", False),
        ("**/x/**/y", "x/y", True),
        ("***.jpg", "x/a.jpg", True),
        ("?.jpg", "/.jpg", False),
        ("*.jpg", "a\\b\n.jpg", True),
        ("[]a].jpg", "].jpg", True),
        ("[!]a].jpg", "b.jpg", True),
        ("[!]a].jpg", "].jpg", False),
        ("[a-c&&~]", "&", True),
        ("[^]a].jpg", "b.jpg", True),
        ("[^a]", "a", False),
        ("[^]", "[^]", False),
        ("[]", "[]", True),
        ("[!]", "[!]", False),
        ("[a", "[a", True),
        ("a+(b).jpg", "a+(b).jpg", True),
    ],
)
def test_what_globs_match(glob, path, matches):
    assert Glob(glob).covers(path) is matches


def test_exclusions_have_no_root_of_their_own():
    assert Exclusions("", ["a*"]).cover("ab", "/x/ab")
    assert not Exclusions("/x", ["a*"]).cover("ba", "/x/ba")


def test_an_input_carries_what_it_excludes():
    source = dataclasses.replace(identify("."), exclude=("*.jpg",))
    make(Path.cwd(), "a.jpg", "b.png")
    assert [ref.uri for ref in list_images(source) if isinstance(ref, ImageRef)] == [
        f"{Path.cwd()}/b.png"
    ]


# The documentation


def test_the_documentation_has_every_reason():
    documented = (Path(__file__).parents[2] / "docs" / "labeling.md").read_text()
    assert all(f"| `{reason.value}` |" in documented for reason in WhyPassedOver)
