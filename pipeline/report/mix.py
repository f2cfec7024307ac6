"""Compares the mix of classes with the previous run's."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import NamedTuple

TOP = 20
MOST_CHANGED = 5

# The standard errors by which a share must differ to stand out; by chance alone, one label in 370
# does.
_UNLIKELY = 3.0


class Share(NamedTuple):
    """A label's share of the images, in [0, 1].

    ``before``: its share in the previous run; None without one. ``stands_out``: whether it has
    changed by more than chance explains.
    """

    label: str
    images: int
    share: float
    before: float | None
    stands_out: bool

    @property
    def most(self) -> float:
        """The greater of the two shares."""
        return max(self.share, self.before or 0.0)

    @property
    def change(self) -> float | None:
        """The difference of the shares, in [-1, 1]; None without a previous run."""
        return None if self.before is None else self.share - self.before


class Mix(NamedTuple):
    """The labels of a run, compared with those of the previous one.

    ``top``: the most frequent. ``rest``: all others together, None if there are none; their number
    is ``rest_labels``. ``moved``: the share of the images that would need another label for the mix
    to equal the previous run's. ``most_changed``: the labels of either run with the largest change.
    """

    top: list[Share]
    rest: Share | None
    rest_labels: int
    moved: float | None
    most_changed: list[Share]

    @property
    def most(self) -> float:
        """The greatest share of one label in ``top``, now or before; 1 without one."""
        return max((share.most for share in self.top), default=0.0) or 1.0


def class_mix(
    now: Mapping[str, int],
    before: Mapping[str, int] | None,
    images: tuple[int, int] | None = None,
) -> Mix:
    """Compare the labels of a run with those of the previous one.

    Args:
      now: numbers of images by label.
      before: the same of the previous run; None if there is none.
      images: numbers of images of both runs, if an image may have several labels. The shares are
        then of these images. They do not add up to 1, so ``rest`` and ``moved`` are None.
    """
    ordered = sorted(now, key=lambda label: (-now[label], label))
    top, rest = ordered[:TOP], ordered[TOP:]
    past = before or {}
    sums = images or (sum(now.values()), sum(past.values()))
    shares = {
        label: _share(label, now.get(label, 0), past.get(label, 0), *sums)
        for label in {*now, *past}
    }
    rest_share = None
    if images is None and (rest or set(past) - set(top)):
        images_before = sums[1] - sum(past.get(label, 0) for label in top)
        images_now = sum(now[label] for label in rest)
        # Its share has fallen wherever the top labels were chosen because theirs has grown.
        rest_share = _share("", images_now, images_before, *sums)._replace(stands_out=False)
    changes = {label: abs(share.change or 0.0) for label, share in shares.items()}
    most = sorted((label for label in changes if changes[label]), key=lambda x: (-changes[x], x))
    return Mix(
        top=[shares[label] for label in top],
        rest=rest_share,
        rest_labels=len(rest),
        moved=sum(changes.values()) / 2 if all(sums) and images is None else None,
        most_changed=[shares[label] for label in most[:MOST_CHANGED]] if all(sums) else [],
    )


def _share(label: str, images: int, images_before: int, sum_: int, sum_before: int) -> Share:
    share = images / max(sum_, 1)
    if not sum_before:
        return Share(label, images, share, None, False)
    before = images_before / sum_before
    pooled = (images + images_before) / (sum_ + sum_before)
    error = math.sqrt(pooled * (1 - pooled) * (1 / max(sum_, 1) + 1 / sum_before))
    unlikely = error > 0 and abs(share - before) > _UNLIKELY * error
    return Share(label, images, share, before, unlikely)
