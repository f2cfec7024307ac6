"""Parses the pages of both jobs, and makes up runs from which a page can be made."""

import json
from collections import Counter
from html.parser import HTMLParser
from pathlib import Path

HTML = '<script>alert("1")</script>&\''


class Page(HTMLParser):
    """The page's elements, texts and attributes; that they are nested right is checked."""

    VOID = frozenset({"meta", "img", "link", "br"})

    def __init__(self, page):
        super().__init__()
        self.open, self.elements, self.texts = [], [], []
        self.feed(page)
        self.close()
        assert not self.open

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if not {"style", "script"} & set(self.open) and data.strip():
            self.texts.append(" ".join(data.split()))

    def all(self, tag):
        return [attributes for name, attributes in self.elements if name == tag]


MOST_BYTES = 1_500_000


def page_of(folder):
    return (Path(folder) / "report.html").read_text()


def text_of(folder):
    return " ".join(Page(page_of(folder)).texts)


def label_row(image, label="red", score=0.9, **changes):
    others = [{"class_id": 1, "label": "second", "score": 0.05}]
    row = {
        "image": image,
        "label": label,
        "class_id": 0,
        "score": score,
        "predictions": [{"class_id": 0, "label": label, "score": score}, *others],
        "width": 40,
        "height": 30,
    }
    return row | changes


def write_run(folder, labeled=(), failed=(), shards=1, **changes):
    """The files of a run that has these rows."""
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    for name, some in (("labels", labeled), ("failures", failed)):
        for n in range(shards):
            lines = "".join(f"{json.dumps(row)}\n" for row in some[n::shards])
            (folder / f"{name}-{n:05}-of-{shards:05}.jsonl").write_text(lines)
    content = {
        "run_id": "2026-11-24T18-28-05Z-d70092",
        "found": len(labeled) + len(failed),
        "labeled": len(labeled),
        "failed": len(failed),
        "skipped": 0,
        "failure_reasons": dict(Counter(row["reason"] for row in failed)),
        "labels": dict(Counter(row["label"] for row in labeled)),
        "started_at": "2026-11-24T18:28:05Z",
        "seconds": 2.5,
        "images_per_second": 4.0,
        "model": {"handle": "model", "fingerprint": "sha256:1", "height": 32, "width": 32},
    }
    (folder / "summary.json").write_text(json.dumps(content | changes))
    return str(folder)
