"""The trial of a candidate: who answers a request, and how often it names the same digit as the default."""

import random
from collections.abc import Sequence

import numpy as np

from app.aliases import Candidate, Counts


class Trial:
    """One candidate beside the default."""

    def __init__(self, candidate: Candidate) -> None:
        self.candidate = candidate
        self.counts = Counts()  # in this process
        self.saved = Counts()  # those of them that the database has

    def answers_next(self) -> bool:
        """Whether the next request is one of the candidate's share."""
        return random.random() < self.candidate.share

    def count_answered(self, images: int) -> None:
        self.counts = self.counts._replace(answered=self.counts.answered + images)

    def compare(self, one: Sequence[Sequence[float]], other: Sequence[Sequence[float]]) -> int:
        """Counts the images of which both name the same digit, and returns how many; both: [N, 10] probabilities."""
        agreed = int((np.argmax(one, axis=1) == np.argmax(other, axis=1)).sum())
        answered, compared, agreed_before = self.counts
        self.counts = Counts(answered, compared + len(one), agreed_before + agreed)
        return agreed
