"""The first images of inputs."""

import re

from helpers.models import image_file
from helpers.tfrecords import write_tfrecord

from pipeline.inputs.find import identify, list_images, only_images
from pipeline.inputs.first import describe, first
from pipeline.records import Place


def write(folder, *names):
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()


def taken(inputs, limit):
    found = (ref.uri for one in first(inputs, limit) for ref in only_images(list_images(one)))
    return list(dict.fromkeys(found))


def test_the_first_by_name_and_by_input(tmp_path):
    write(tmp_path / "p", *(f"{n:02}.png" for n in reversed(range(20))), "a/x.png", "notes.txt")
    (tmp_path / "list.txt").write_text("p/07.png\np/01.png\nhttp://127.0.0.1:1/a.png\n")
    folder, urls = str(tmp_path / "p"), identify(str(tmp_path / "list.txt"))
    inputs = [identify(folder), urls]
    assert taken(inputs, 3) == [f"{folder}/{n:02}.png" for n in range(3)]
    assert taken(inputs, 21)[-1] == f"{folder}/a/x.png"
    # An image that is named twice is one.
    assert taken(inputs, 22)[-1] == "http://127.0.0.1:1/a.png"
    assert taken([urls, *inputs], 4)[3] == f"{folder}/00.png"
    assert taken([identify(f"{folder}/*.png")], 2) == [f"{folder}/00.png", f"{folder}/01.png"]
    assert first(inputs, None) == inputs
    assert describe(inputs, 3) == "limited to the first 3 of 22 images"
    assert describe(inputs, 22) == ""
    words = describe(inputs, 1, seconds=-1)
    assert re.fullmatch(r"limited to the first 1 (of at least \d+ )?images", words)


def test_records_are_images(tmp_path):
    images = [(None, image_file()), ("one.png", image_file()), (None, image_file())]
    path = write_tfrecord(tmp_path / "a.tfrecord", images)
    write(tmp_path, "z.png")
    inputs = [identify(path), identify(str(tmp_path / "z.png"))]
    assert taken(inputs, 2) == [f"{path}#0", "one.png"]
    assert taken(inputs, 4) == [f"{path}#0", "one.png", f"{path}#2", f"{tmp_path}/z.png"]
    [record, *_] = only_images(list_images(first(inputs, 1)[0]))
    assert record.place == Place(path, 0)
