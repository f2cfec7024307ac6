"""Counts what a model could learn from, before any image is read."""

from __future__ import annotations

import dataclasses
import hashlib
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple

from pipeline import storage
from pipeline.console import printable
from pipeline.errors import InputError
from pipeline.finetune import splits
from pipeline.finetune.dataset import identity, list_with_truth
from pipeline.finetune.splits import PARTS, TRAIN
from pipeline.inputs import find
from pipeline.inputs.folders import FOLDER
from pipeline.inputs.kinds import Input
from pipeline.inputs.passed_over import PassedOver, PassedOverTally, WhyPassedOver
from pipeline.inputs.passed_over import in_words as passed_over_in_words
from pipeline.records import ImageRef
from pipeline.redaction import name_of

# With fewer images of a class, one of the three parts would hardly ever have one.
MIN_IMAGES_PER_CLASS = 5

# How many classes the console names.
_CLASSES_SAID = 20


class Survey(NamedTuple):
    """What the inputs hold.

    ``images``: numbers of images by class, classes in alphabetical order. ``key``: a checksum of
    names, classes, versions and given parts, independent of their order. ``unusable``: number of
    rows of tables that name no image. ``passed_over``: what is not taken. ``inputs``: what lists
    these images; for a folder with a split, the parts' folders. ``split``: if the images come with
    a split, the part that each of its names stands for. ``parts``: if so, numbers of images by part
    and class.
    """

    images: dict[str, int]
    key: str
    unusable: int
    passed_over: PassedOverTally
    inputs: tuple[Input, ...]
    split: dict[str, str]
    parts: dict[str, dict[str, int]]

    @property
    def labels(self) -> tuple[str, ...]:
        """The names of the classes; a class's id is its position."""
        return tuple(self.images)

    @property
    def absent(self) -> frozenset[str]:
        """The parts that no image comes with, if there is a split."""
        return frozenset(PARTS) - self.parts.keys() if self.split else frozenset()


def survey(inputs: Sequence[Input], split: bool = True) -> Survey:
    """List all inputs, and check that a model can learn from them.

    Args:
      inputs: what ``dataset.identify`` returned.
      split: whether a split that the images come with is wanted.

    Raises:
      InputError: an input cannot be listed, there are fewer than two classes, a class is too small,
        an image has two classes or parts, or not all images come with a part.
    """
    names = ", ".join(source.given for source in inputs)
    passed_over = PassedOverTally()
    if split:
        inputs = [each for source in inputs for each in _folders_of_parts(source, passed_over)]
    seen = _Seen()
    for source in inputs:
        for one in list_with_truth(source):
            if isinstance(one, PassedOver):
                passed_over.add(one)
            else:
                seen.add(one)
    if seen.unusable and not seen.images:
        row, problem = next(iter(seen.unusable.items()))
        raise InputError(f"no row names an image; {row}: {problem}", subject="input", given=names)
    found = seen.split(names) if split else {}
    if split and not found and any(not source.kind.has_columns for source in inputs):
        _refuse_parts_as_classes(seen.images, names)
    _check_classes(seen.images, names, passed_over, has_split=bool(found))
    parts: dict[str, dict[str, int]] = {}
    for part in PARTS:
        counts = Counter[str]()
        for name in (name for name in found if found[name] == part):
            counts += seen.parts[name]
        if counts:
            parts[part] = dict(sorted(counts.items()))
    if found:
        _check_parts(parts, names)
    key = seen.key_with_parts if found else seen.key
    images = dict(sorted(seen.images.items()))
    return Survey(
        images, f"{key:064x}", len(seen.unusable), passed_over, tuple(inputs), found, parts
    )


class _Seen:
    """What a listing has yielded.

    ``images``: numbers by class. ``parts``: by the names that stand for parts, and class.
    ``outside``: an image that comes with no such name. ``unusable``: the rows of tables that name
    no image, with their problems. ``key`` and ``key_with_parts``: checksums.
    """

    def __init__(self) -> None:
        self.images = Counter[str]()
        self.parts: dict[str, Counter[str]] = {}
        self.outside = ""
        self.unusable: dict[str, str] = {}
        self.key = self.key_with_parts = 0
        self._truths: dict[tuple[object, ...], tuple[str, str]] = {}
        self._in_two_parts = ""
        self._first: dict[str, str] = {}

    def add(self, ref: ImageRef) -> None:
        """Count an image, unless it has been there before.

        Raises:
          InputError: it was, in another class.
        """
        name, truth = name_of(ref.uri, ref.naming), ref.truth or ""
        if ref.problem is not None:
            self._add_unusable(name, ref)
            return
        image, part = identity(ref), ref.carried[splits.COLUMN]
        stands_for = splits.part_named(part)
        if stands_for is None:
            self.outside = self.outside or name
        else:
            self._first.setdefault(part, name)
        if image in self._truths:
            truth_before, part_before = self._truths[image]
            if truth_before != truth:
                raise InputError(
                    f"{name} is in the class {truth_before!r} and in {truth!r}; remove one of them"
                )
            if part_before != part and stands_for is not None:
                self.parts.setdefault(part, Counter())
                self._in_two_parts = f"{name} is in {part_before!r} and in {part!r}"
            return
        self._truths[image] = truth, part
        self.images[truth] += 1
        facts = (name, truth, ref.version, *map(str, ref.place or ()))
        self.key = _sum(self.key, facts)
        if stands_for is not None:
            self.parts.setdefault(part, Counter())[truth] += 1
            self.key_with_parts = _sum(self.key_with_parts, (*facts, stands_for[0]))

    def _add_unusable(self, row: str, ref: ImageRef) -> None:
        if row not in self.unusable:
            self.unusable[row] = ref.problem[1] if ref.problem is not None else ""
            facts = (row, ref.version)
            self.key = _sum(self.key, facts)
            self.key_with_parts = _sum(self.key_with_parts, facts)

    def split(self, given: str) -> dict[str, str]:
        """The split that the images come with: parts by name; empty if they come with none.

        Raises:
          InputError: they come with half of one.
        """
        found = {} if self.outside else splits.parts_of(self.parts)
        parts, plain = set(found.values()), splits.plain_parts(self.parts)
        if not found and _are_a_split(plain):
            other = self.outside or next(self._first[n] for n in self.parts if n not in plain)
            raise InputError(
                f"some images are in the parts {_listed(sorted(plain))} of a split, but "
                f"{printable(other)} is in none of them",
                subject="input",
                given=given,
                remedy="give all images a part, or leave the split aside with {split}=checksum",
            )
        if len(parts) > 1 and TRAIN not in parts:
            raise InputError(
                f"all images are in {_listed(sorted(found))}, and none are there to train with",
                subject="input",
                given=given,
                remedy="add some to train with, or leave the split aside with {split}=checksum",
            )
        if len(parts) < 2:
            return {}
        if self._in_two_parts:
            raise InputError(f"{self._in_two_parts}; remove one of them")
        return found


def _sum(key: int, facts: tuple[str, ...]) -> int:
    """Add the facts of one image to a checksum; a sum, unlike a XOR, counts equal ones twice."""
    digest = hashlib.sha256("\0".join(facts).encode()).digest()
    return (key + int.from_bytes(digest, "big")) % 2**256


def _folders_of_parts(source: Input, passed_over: PassedOverTally) -> Iterator[Input]:
    """Yield the folders of a split as inputs of their own; any other input as it is.

    A folder has a split if all folders in it that have images are named like parts, and there are
    class folders in one.

    Args:
      source: the input.
      passed_over: gets what is beside the parts' folders.
    """
    if source.kind != FOLDER:
        yield source
        return
    tops: dict[str, bool] = {}
    beside: list[tuple[str, PassedOver]] = []
    for one in find.list_images(source):
        uri = one.name if isinstance(one, PassedOver) else one.uri
        uri = uri if storage.is_remote(uri) else storage.local_path(uri)
        top, *below = uri[len(source.uri.rstrip("/")) + 1 :].split("/")
        if isinstance(one, PassedOver):
            beside.append((top, one))
        elif not below:
            beside.append((top, PassedOver(WhyPassedOver.NO_CLASS_FOLDER, one.uri)))
        elif splits.part_named(top) is None:
            yield source
            return
        else:
            tops[top] = tops.get(top, False) or len(below) > 1
    if not any(tops.values()) or not splits.parts_of(tops):
        yield source
        return
    for top, one in beside:
        if top not in tops:
            passed_over.add(one)
    for top in sorted(tops):
        folder, given = storage.join(source.uri, top), storage.join(source.given, top)
        yield dataclasses.replace(source, uri=folder, given=given, exclude_below=source.uri)


def _are_a_split(plain: Mapping[str, str]) -> bool:
    """Tell whether names of parts make a split: there is one to train with, and another."""
    return TRAIN in plain.values() and len(set(plain.values())) > 1


def _refuse_parts_as_classes(images: Mapping[str, int], given: str) -> None:
    # By the words that they share, as "seg" in seg_train, seg_test and seg_pred.
    alike: dict[tuple[str, ...], dict[str, str]] = {}
    for name in sorted(images):
        if part := splits.part_named(name):
            alike.setdefault(part[1], {})[name] = part[0]
    names = next(filter(_are_a_split, alike.values()), None)
    if names is not None:
        raise InputError(
            f"the classes would be {_listed(sorted(images))}, but {_listed(names)} look like the "
            "parts of a split",
            subject="input",
            given=given,
            remedy="give a folder that has nothing but the parts, and in each of them a folder for "
            "each class; or, if they are classes, add {split}=checksum",
        )


def _check_classes(
    counts: Mapping[str, int], given: str, passed_over: PassedOverTally, has_split: bool
) -> None:
    others = passed_over_in_words(passed_over.to_json())
    others = f"; passed over: {others}" if others else ""
    if len(counts) < 2:
        found = f"only the class {next(iter(counts))!r}" if counts else "no images in class folders"
        raise InputError(
            f"{found} found, two or more classes are needed{others}",
            subject="input",
            given=given,
            remedy="give the folder that has one folder with images for each class",
        )
    too_small = min(counts, key=lambda name: (counts[name], name))
    if counts[too_small] < MIN_IMAGES_PER_CLASS and not has_split:
        raise InputError(
            f"the class {too_small!r} has {counts[too_small]} images, too few to train, validate "
            f"and test with{others}",
            subject="input",
            given=given,
            remedy=f"add some, to at least {MIN_IMAGES_PER_CLASS}, or remove the class",
        )


def _check_parts(parts: Mapping[str, Mapping[str, int]], given: str) -> None:
    for part, counts in parts.items():
        missing = sorted(counts.keys() - parts[TRAIN].keys())
        if missing:
            are = "classes are" if len(missing) > 1 else "class is"
            raise InputError(
                f"{len(missing)} {are} for {part} and not for {TRAIN}: {_listed(missing)}",
                subject="input",
                given=given,
                remedy="name the classes alike in all parts, add images of them that train, or "
                "remove them",
            )


def in_words(survey: Survey) -> list[str]:
    """Say what was found, in a few lines however many classes there are."""
    total = sum(survey.images.values())
    lines = [f"{total:,} images of {_counted(survey.images)}"]
    if not survey.split:
        lines.append(
            "which of them train (80 %), validate (10 %) and test (10 %) is decided by a checksum "
            "of each file"
        )
    for part, counts in survey.parts.items():
        names = _listed(name for name in sorted(survey.split) if survey.split[name] == part)
        lines.append(f"{part} ({names}): {sum(counts.values()):,} images of {_counted(counts)}")
        lacking = survey.images.keys() - counts.keys()
        if lacking:
            lines.append(f"{part} has no images of {_listed(sorted(lacking))}")
    for part in sorted(survey.absent, reverse=True):
        lines.append(f"{part}: about 10 % of the images in {_train_names(survey)}, by a checksum")
    return lines


def _train_names(survey: Survey) -> str:
    return _listed(name for name in sorted(survey.split) if survey.split[name] == TRAIN)


def _counted(counts: Mapping[str, int]) -> str:
    return f"{len(counts):,} classes: " + _listed(f"{n} {counts[n]:,}" for n in counts)


def _listed(names: Iterable[str]) -> str:
    names = [printable(name) for name in names]
    more = f" and {len(names) - _CLASSES_SAID:,} more" if len(names) > _CLASSES_SAID else ""
    return ", ".join(names[:_CLASSES_SAID]) + more
