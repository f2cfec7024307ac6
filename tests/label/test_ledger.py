"""What earlier runs have done, in a compact form."""

import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from helpers.models import image_file
from helpers.runs import nights, run, summary
from helpers.stores import memory_store

from pipeline.errors import RunError, StoreError
from pipeline.label import entries, ledger, notes
from pipeline.label.entries import Gather, Gathered, Reader, Seen, bucket_of, merge_files, seen_of
from pipeline.records import Failure, Labeled


def gathered(folder, seen):
    """What was seen of images, in one file."""
    some = Gathered(str(folder))
    for name, one in seen:
        some.add(name, one)
    some.save()
    return some.files


def look_up(files, versions):
    """What files have seen of each image, sorted."""
    reader = Reader(files)
    found = {}
    for bucket in sorted(set(map(bucket_of, versions))):
        inside = {name: known for name, known in versions.items() if bucket_of(name) == bucket}
        found |= dict(reader.look_up(bucket, inside))
    return {name: sorted(seen) for name, seen in found.items()}


@pytest.fixture(params=[False, True])
def large(request, monkeypatch):
    """Whether files are too large to be kept in memory."""
    if request.param:
        monkeypatch.setattr(entries, "_KEPT_BYTES", 0)


def test_what_is_written_is_found(tmp_path, large):
    seen = {f"gs://b/{n}": Seen(f"r{n % 7}", f"v{n}", n % 3) for n in range(200)}
    files = gathered(tmp_path, seen.items())
    assert files[0].size == Path(files[0].path).stat().st_size
    assert files[0].size < 200 * 30
    found = look_up(files, {name: [one.version] for name, one in seen.items()})
    assert found == {name: [one] for name, one in seen.items()}
    assert look_up(files, {"gs://b/200": ["v"]}) == {}
    [(changed,)] = look_up(files, {"gs://b/1": ["v2"]}).values()
    assert changed.version not in ("v1", "v2")


def test_files_are_merged_and_the_last_row_of_a_version_counts(tmp_path, large):
    rng = np.random.default_rng(0)
    files, last = [], {}
    for night in range(9):
        rows = {f"{rng.integers(200)}": night % 2 for _ in range(50)}
        files += gathered(
            tmp_path, ((name, Seen(f"r{night}", "v", verdict)) for name, verdict in rows.items())
        )
        last |= {name: Seen(f"r{night}", "v", verdict) for name, verdict in rows.items()}
    versions = {str(n): ["v"] for n in range(200)}
    assert {name: max(seen) for name, seen in look_up(files, versions).items()} == last
    [merged] = merge_files(str(tmp_path), files)
    assert merged.entries == len(last)
    assert look_up([merged], versions) == {name: [seen] for name, seen in last.items()}
    both = gathered(tmp_path, [("0", Seen("r9", "w", 1)), ("0", Seen("r8", "v", 1))])
    assert look_up(both, {"0": ["v", "w"]}) == {"0": [Seen("r8", "v", 1), Seen("r9", "w", 1)]}


def test_a_file_that_has_changed_is_told(tmp_path, large):
    """Else images would be skipped or labeled again, and nobody would see it."""
    names = [str(n) for n in range(50)]
    files = gathered(tmp_path, ((name, Seen("r", "v", 1)) for name in names))
    path = Path(files[0].path)
    content = path.read_bytes()
    for at in (0, 16, 27, 50 * 28 - 1, 50 * 28, len(content) - 1):
        changed = bytearray(content)
        changed[at] ^= 1
        for damaged in (changed, bytes(len(content))):
            path.write_bytes(damaged)
            with pytest.raises(RunError, match=r"\.bin is damaged; delete it, and run"):
                look_up(files, {name: ["v"] for name in names})
            with pytest.raises(RunError, match=r"\.bin is damaged"):
                merge_files(str(tmp_path), files)
    path.write_bytes(content)
    assert len(look_up(files, {name: ["v"] for name in names})) == 50


def test_what_is_too_much_for_the_memory_goes_into_files(tmp_path, monkeypatch):
    monkeypatch.setattr(entries, "_GATHERED_BYTES", 2500)
    gather = Gather(str(tmp_path))
    parts = []
    for start in range(0, 1000, 50):
        part = gather.create_accumulator()
        for n in range(start, start + 50):
            part = gather.add_input(part, (str(n), Seen("r1", "v", 1)))
        parts.append(part)
    whole = gather.merge_accumulators(parts)
    assert len(whole.files) > 5
    assert sum(map(len, whole.rows.values())) <= 2500
    whole.save()
    assert len(look_up(whole.files, {str(n): ["v"] for n in range(1000)})) == 1000


def test_verdicts():
    def failed(reason):
        return seen_of(Failure("a", "read", reason, "why", "r1", "v1"))

    labeled = seen_of(Labeled("a", "dog", 0, 1.0, (), 1, 1, "m", "f", "r1", "t", "v1"))
    assert labeled == Seen("r1", "v1", 1)
    assert [labeled.holds(frozenset()), failed("corrupt").holds(frozenset())] == [True, True]
    assert not failed("timeout").holds(frozenset(["r1"]))
    unsupported = failed("unsupported_format")
    assert [unsupported.holds(frozenset(ids)) for ids in ([], ["r1"])] == [False, True]


# Parts


def make_night(output, day, count=20):
    """A run that has ended, with rows of images of its own."""
    folder = output / f"run=2026-01-{day:02}T02-00-00Z"
    folder.mkdir(parents=True)
    (folder / "labels-00000-of-00001.jsonl").write_text("x" * count)
    note = {"run_id": f"r{day}", "started_at": f"2026-01-{day:02}T02:00:00Z", "settings": {}}
    (folder / "summary.json").write_text(json.dumps(note | {"labeled": count, "failed": 0}))
    return folder


def go(output, images, counts=None):
    """Survey an output, gather what is left, update; return what the next run knows."""
    whole = notes.read_all(str(output), "summary.json")
    counts = {path: note for path, note in whole.items() if counts is None or counts(path)}
    known = ledger.survey(str(output), whole, counts)
    some = Gathered(known.folder)
    for path in known.rest:
        day = int(path.rpartition("-01-")[2][:2])
        for name in images(day):
            some.add(name, Seen(f"r{day:02}", f"v{day}", 1))
    ledger.update(known, some)
    return ledger.survey(str(output), whole, counts)


def names_in(output):
    return sorted(path.suffix for path in (output / ".ledger").iterdir())


def own(day):
    return [f"{day}-{n}" for n in range(20)]


def test_parts_cover_the_nights_and_are_merged(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(ledger, "LEAST_ROWS", 20)
    for day in range(1, 29):
        make_night(tmp_path, day)
        known = go(tmp_path, own)
        assert not known.rest
        assert not known.has_stale
        assert len(known.parts) <= 2 * (ledger.FAN - 1)
    found = look_up(known.files, {name: ["v1"] for day in range(1, 29) for name in own(day)})
    assert len(found) == 28 * 20
    assert len(known.parts) == 28 % 8 + 28 // 8
    assert names_in(tmp_path) == [".bin"] * len(known.parts) + [".json"] * len(known.parts)
    assert capsys.readouterr().err == ""


def test_a_night_that_is_gone_or_has_changed(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(ledger, "LEAST_ROWS", 20)
    folders = [make_night(tmp_path, day) for day in range(1, 13)]
    known = go(tmp_path, own)
    assert len(known.parts) == 1
    shutil.rmtree(folders[3])
    whole = notes.read_all(str(tmp_path), "summary.json")
    known = ledger.survey(str(tmp_path), whole, whole)
    assert (len(known.rest), known.parts, known.has_stale) == (11, (), True)
    assert "the ledger of 12 earlier runs is left aside, and their rows are read again: " in (
        capsys.readouterr().err
    )
    known = go(tmp_path, own)
    assert capsys.readouterr().err.count("left aside") == 1  # and then it is deleted
    assert look_up(known.files, {"4-0": ["v4"]}) == {}
    assert len(look_up(known.files, {"5-0": ["v5"]})) == 1
    (folders[5] / "labels-00000-of-00001.jsonl").unlink()
    assert not go(tmp_path, own).rest
    assert "run=2026-01-06T02-00-00Z has changed or is gone" in capsys.readouterr().err


def test_runs_that_do_not_count_keep_their_part(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(ledger, "LEAST_ROWS", 20)
    make_night(tmp_path, 1)
    make_night(tmp_path, 2)
    first = go(tmp_path, own)
    make_night(tmp_path, 3)
    other = go(tmp_path, own, counts=lambda path: "-03T" in path)
    assert [list(part.runs) for part in other.parts] == [["run=2026-01-03T02-00-00Z"]]
    again = go(tmp_path, own)
    assert len(again.parts) == 2
    assert again.parts[0] == first.parts[0]
    assert not go(tmp_path, own, counts=lambda path: "-02T" in path).rest
    assert capsys.readouterr().err == ""


def test_a_ledger_that_is_damaged(tmp_path, monkeypatch):
    monkeypatch.setattr(ledger, "LEAST_ROWS", 20)
    for day in range(1, 8):
        make_night(tmp_path, day)
        go(tmp_path, own)
    [file, *_] = sorted((tmp_path / ".ledger").glob("*.bin"))
    file.write_bytes(file.read_bytes()[:-1])
    (tmp_path / ".ledger" / "entries-orphan.bin").touch()
    [*_, part] = sorted((tmp_path / ".ledger").glob("*.json"))
    part.write_text("{")
    known = go(tmp_path, own)
    assert not known.rest
    assert not known.has_stale
    found = look_up(known.files, {name: [f"v{day}"] for day in range(1, 8) for name in own(day)})
    assert len(found) == 7 * 20


def test_a_part_that_is_damaged(tmp_path, monkeypatch):
    monkeypatch.setattr(ledger, "LEAST_ROWS", 20)
    make_night(tmp_path, 1)
    go(tmp_path, own)
    [part] = (tmp_path / ".ledger").glob("*.json")
    content = json.loads(part.read_text())
    for place, wrong in ((1, "20"), (1, None), (2, "4"), (2, -1), (3, 5)):
        file = [*content["files"][0]]
        file[place] = wrong
        part.write_text(json.dumps(content | {"files": [file]}))
        known = go(tmp_path, own)
        assert (len(known.parts), known.rest, known.has_stale) == (1, frozenset(), False)


def test_a_run_that_is_broken_off_while_it_writes(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(ledger, "LEAST_ROWS", 20)
    for day in range(1, 8):
        make_night(tmp_path, day)
        assert len(go(tmp_path, own).parts) == day
    make_night(tmp_path, 8)
    with monkeypatch.context() as patch:  # it dies before it deletes what it has merged
        patch.setattr(ledger.storage, "delete", lambda paths: None)
        known = go(tmp_path, own)
    assert (len(known.parts), known.has_stale, len(names_in(tmp_path))) == (1, True, 18)
    assert not go(tmp_path, own).has_stale
    assert names_in(tmp_path) == [".bin", ".json"]
    make_night(tmp_path, 9)
    with monkeypatch.context() as patch:  # what cannot be written is no reason to fail
        patch.setattr(ledger.storage, "write_file", fail)
        assert len(go(tmp_path, own).rest) == 1
    assert "cannot be written: full" in capsys.readouterr().err
    assert not go(tmp_path, own).rest
    make_night(tmp_path, 10)
    with monkeypatch.context() as patch:
        patch.setattr(ledger, "FAN", 2)
        for file in (tmp_path / ".ledger").glob("*.bin"):
            file.write_bytes(bytes(file.stat().st_size))
        go(tmp_path, own)
    assert ".bin is damaged; delete it" in capsys.readouterr().err


def fail(*_):
    raise StoreError("unavailable", "full")


def test_a_ledger_in_a_bucket(large, monkeypatch):
    monkeypatch.setattr(ledger, "LEAST_ROWS", 2)
    monkeypatch.setattr(ledger, "FAN", 3)
    output = "mem://bucket/out"
    with memory_store({}) as objects:
        for day in range(1, 6):
            run_folder = f"{output}/run=2026-01-{day:02}T02-00-00Z"
            note = {"run_id": f"r{day}", "started_at": "2026-01-01T02:00:00Z", "settings": {}}
            objects[f"{run_folder}/summary.json"] = json.dumps(note | {"labeled": 2}).encode()
            objects[f"{run_folder}/labels-00000-of-00001.jsonl"] = b"rows"
            known = go(output, lambda day: [f"{day}-0", f"{day}-1"])
            assert not known.rest
            assert not known.has_stale
        assert len(known.parts) == 3
        names = {f"{day}-{n}": [f"v{day}"] for day in range(1, 6) for n in (0, 1)}
        assert look_up(known.files, names).keys() == names.keys()
        del objects[f"{output}/run=2026-01-02T02-00-00Z/labels-00000-of-00001.jsonl"]
        whole = notes.read_all(output, "summary.json")
        assert len(ledger.survey(output, whole, whole).rest) == 3


# Runs


def test_nights_with_a_ledger(tmp_path, flags, photos, monkeypatch, capsys):
    monkeypatch.setattr(ledger, "LEAST_ROWS", 1)
    output = Path(flags["output"])
    folder = output / ".ledger"

    def labeled_and_skipped(**changed):
        assert run("--incremental", **flags | changed) == 0
        last = summary(nights(output)[-1])
        return last["labeled"], last["skipped"]

    assert labeled_and_skipped() == (9, 0)
    assert not folder.exists()
    (Path(photos) / "new.png").write_bytes(image_file("red"))
    (Path(photos) / "blue-2.png").write_bytes(image_file("green"))
    assert labeled_and_skipped() == (2, 10)
    assert folder.exists()
    first = nights(output)[0] / "labels-00000-of-00001.jsonl"
    content, mode = first.read_bytes(), first.stat()
    first.write_bytes(b"x" * len(content))  # it is not read any more
    os.utime(first, ns=(mode.st_atime_ns, mode.st_mtime_ns))
    assert labeled_and_skipped() == (0, 12)
    first.write_bytes(content)
    shutil.rmtree(nights(output)[1])  # its images are labeled again
    assert labeled_and_skipped() == (2, 10)
    assert "is left aside" in capsys.readouterr().err
