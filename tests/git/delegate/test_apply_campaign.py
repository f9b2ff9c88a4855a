"""A few rounds of the campaign in `benchmarks/`: an editor saves, processes are killed, and nothing is lost."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest
from benchmarks.apply_campaign import CAMPAIGNS, Project


@pytest.mark.parametrize("campaign", CAMPAIGNS.values(), ids=CAMPAIGNS)
def test_nothing_is_lost(
    tmp_path: Path, campaign: Callable[[Project, random.Random, Counter[str]], None]
) -> None:
    project = Project(tmp_path)
    counts: Counter[str] = Counter()
    for number in range(12):
        campaign(project, random.Random(number), counts)
    assert not [name for name, count in counts.items() if name.isupper() and count]
