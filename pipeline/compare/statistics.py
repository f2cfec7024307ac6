"""Computes what can be said of two models that answered for the same images."""

from __future__ import annotations

import math
from statistics import NormalDist

import numpy as np


def mcnemar_mid_p(only_first: int, only_second: int) -> float:
    """Compute the two-sided p-value of McNemar's test, in its mid-p version.

    It tests whether two models are right equally often: McNemar 1947, doi:10.1007/BF02295996;
    mid-p: Fagerland, Lydersen and Laake 2013, doi:10.1186/1471-2288-13-91, who find that the exact
    version is too cautious.

    Args:
      only_first: number of images for which only the first model is right.
      only_second: number of images for which only the second one is.

    Returns:
      A number in [0, 1]; 1 if there are no such images.
    """
    images, least = only_first + only_second, min(only_first, only_second)
    if not images:
        return 1.0
    # log of the binomial coefficients from 0 to least, divided by 2^images.
    counts = np.arange(1, least + 1)
    steps = np.log((images - counts + 1) / counts)
    logs = np.concatenate([[0.0], np.cumsum(steps)]) - images * math.log(2)
    here = math.exp(logs[-1])
    if only_first == only_second:
        return 1 - here / 2
    return min(1.0, 2 * float(np.exp(logs).sum()) - here)


def paired_interval(only_first: int, only_second: int, images: int) -> tuple[float, float]:
    """Compute the 95 % interval of how much more often the first model is right.

    It is Wald's with half an image added to each of the four counts: Agresti and Min 2005,
    doi:10.1002/sim.1781.

    Args:
      only_first: number of images for which only the first model is right.
      only_second: number of images for which only the second one is.
      images: number of all images, at least 1.

    Returns:
      Differences of shares, in [-1, 1].
    """
    z = NormalDist().inv_cdf(0.975)
    total, difference = images + 2, only_first - only_second
    spread = only_first + only_second + 1 - difference**2 / total
    middle, margin = difference / total, z * math.sqrt(spread) / total
    return max(-1.0, middle - margin), min(1.0, middle + margin)
