"""The page of an output that has a folder for each run."""

import pytest
from helpers.pages import HTML, MOST_BYTES, Page, label_row, page_of, text_of, write_run

from pipeline.__main__ import main
from pipeline.report import index


def label_rows(**labels):
    return [label_row(f"/p/{x}-{n}.png", x) for x, count in labels.items() for n in range(count)]


@pytest.fixture
def output(tmp_path):
    """Four runs: of a mix, like it, with nothing new, of another mix; one is broken."""
    failed = [{"image": "/p/bad.png", "stage": "read", "reason": "empty", "message": "m"}]
    for day, labels, skipped in (
        (21, {"cat": 60, "dog": 40}, 0),
        (22, {"cat": 25, "dog": 15}, 100),
        (23, {}, 140),
        (24, {"cat": 10, "dog": 70}, 140),
    ):
        write_run(
            tmp_path / f"run=2026-11-{day}T02-00-00Z",
            label_rows(**labels),
            failed if day == 22 else [],
            skipped=skipped,
            started_at=f"2026-11-{day}T02:00:00Z",
        )
    broken = tmp_path / "run=2026-11-25T02-00-00Z"
    broken.mkdir()
    (broken / "summary.json").write_text("{")
    (tmp_path / "run=2026-11-24T02-00-00Z" / "report.html").touch()
    return tmp_path


def test_runs_by_date_with_their_drift(output, capsys):
    assert main(["report", str(output)]) == 0
    assert capsys.readouterr().out == (
        "4 runs: 220 labeled + 1 failed; 1 cannot be read, such as run=2026-11-25T02-00-00Z\n"
        f"{output}/report.html\n"
    )
    text = text_of(output)
    assert "1 folder has a summary that cannot be read" in text
    rows = ("24 Nov 2026 02:00 80", "23 Nov 2026 02:00 0", "22 Nov 2026 02:00 40", "21 Nov 2026")
    places = [text.index(row) for row in rows]
    assert places == sorted(places)
    assert "23 Nov 2026 02:00 0 0 140 0 – – nothing new" in text
    links = [link["href"] for link in Page(page_of(output)).all("a")]
    assert links == ["#runs", "#curves", "run%3D2026-11-24T02-00-00Z/report.html"]


def test_drift_is_from_the_last_run_that_labeled(output):
    last, empty, like, first = index.find_runs(str(output)).nights
    assert (first.drift, empty.drift) == (None, None)
    assert like.since == first.name and last.since == like.name
    assert like.drift.distance < 0.1 and not like.stands_out
    assert last.drift.distance > 0.3 and last.stands_out


def test_a_summary_may_hold_anything(tmp_path):
    for second in (1, 2):
        name = f"run={HTML.replace('/', '')}{second}"
        model = {"handle": HTML, "fingerprint": HTML}
        write_run(tmp_path / name, label_rows(**{HTML: 3}), started_at=HTML, model=model)
    runs = index.find_runs(str(tmp_path))
    index.make(str(tmp_path), runs)
    assert page_of(tmp_path).count("<script") == 1
    assert HTML.replace("/", "") in text_of(tmp_path)


def test_many_runs_are_a_page_of_bounded_size():
    summary = {
        **{"found": 9, "labeled": 9, "failed": 1, "skipped": 9, "labels": {"a": 5, "b": 4}},
        **{"started_at": "2026-11-24T02:00:00Z", "images_per_second": 1e3, "model": {}},
        "below_threshold": 2,
    }
    nights = index.in_order([(f"run={n:05}", summary) for n in range(1500)], set())
    page = index.render_index("/out", index.Runs(nights[::-1], []))
    assert len(page) < MOST_BYTES
    assert page.count("<tr>") == index.MOST_RUNS + 1
    assert "The 500 runs before these are in the figures on top only." in " ".join(Page(page).texts)
