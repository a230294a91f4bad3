"""The candidate: a second model that answers a share of what the default is asked, or is only compared with it."""

import random
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray


class Candidate(NamedTuple):
    """Which model it is, and what it gets to see."""

    model: str
    share: float  # of the requests that it answers, 0 to 1
    shadow: bool  # it answers none, and is asked everything


class Counts(NamedTuple):
    """What a candidate has done in this process since it became one; in images."""

    answered: int = 0
    compared: int = 0
    agreed: int = 0


class Trial:
    """Says who answers, and counts how often the candidate names the same digit as the default."""

    def __init__(self, candidate: Candidate) -> None:
        self.candidate = candidate
        self.counts = Counts()

    def answers_next(self) -> bool:
        """Whether the next request is one of the candidate's share."""
        return random.random() < self.candidate.share

    def answered(self, images: int) -> None:
        self.counts = self.counts._replace(answered=self.counts.answered + images)

    def compare(self, default: NDArray[np.float32], candidate: NDArray[np.float32]) -> int:
        """Counts the images of which both name the same digit, and returns how many; both: [N, 10] probabilities."""
        agreed = int((default.argmax(axis=1) == candidate.argmax(axis=1)).sum())
        _, compared, agreed_before = self.counts
        self.counts = self.counts._replace(compared=compared + len(default), agreed=agreed_before + agreed)
        return agreed
