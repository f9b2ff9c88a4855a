"""Ten small programs, each with a fault that one changed line brings, and what shows it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Sample:
    """A program, its line that is right, what stands there in the faulty version, and an expression that must hold.

    `failure` is how the expression fails there: an assertion, or an exception's name.
    """

    name: str
    right: str
    wrong: str
    imports: str
    holds: str
    failure: str = "assertion"

    @property
    def program(self) -> str:
        """The right version."""
        return Path(__file__).with_name(f"{self.name}.py").read_text("utf-8")

    @property
    def faulty(self) -> str:
        """The faulty version."""
        assert self.program.count(self.right) == 1
        return self.program.replace(self.right, self.wrong)

    @property
    def line(self) -> int:
        """The number of the line in question."""
        before, _, _ = self.program.partition(self.right)
        return before.count("\n") + 1

    @property
    def test(self) -> str:
        """A program that fails where the expression does not hold."""
        return f"from {self.name} import {self.imports}\n\nassert {self.holds}\n"


SAMPLES = (
    Sample(
        "binary_search",
        right="    while low <= high:",
        wrong="    while low < high:",
        imports="binary_search",
        holds="binary_search([1, 3, 5], 5) == 2",
    ),
    Sample(
        "roman",
        right="        before = value",
        wrong="        before = total",
        imports="from_roman",
        holds="from_roman('XIX') == 19 and from_roman('XXVIII') == 28",
    ),
    Sample(
        "brackets",
        right="        elif character in PAIRS and (not opened or opened.pop() != PAIRS[character]):",
        wrong="        elif character in PAIRS and opened.pop() != PAIRS[character]:",
        imports="balanced",
        holds="balanced(')') is False",
        failure="IndexError",
    ),
    Sample(
        "merge_intervals",
        right="            result[-1] = (start, max(end, last))",
        wrong="            result[-1] = (start, last)",
        imports="merged",
        holds="merged([(1, 9), (2, 3)]) == [(1, 9)]",
    ),
    Sample(
        "pages",
        right="    if rest:",
        wrong="    if full:",
        imports="page_count",
        holds="page_count(20, 10) == 2",
    ),
    Sample(
        "lru",
        right="            self.values.popitem(last=False)",
        wrong="            self.values.popitem()",
        imports="Cache",
        holds="(cache := Cache(1), cache.put('a', 1), cache.put('b', 2), cache.get('b'))[-1] == 2",
    ),
    Sample(
        "query",
        right='        name, _, value = part.partition("=")',
        wrong='        name, value = part.split("=")',
        imports="parse_query",
        holds="parse_query('a=1&b=x=y') == {'a': ['1'], 'b': ['x=y']}",
        failure="ValueError",
    ),
    Sample(
        "shortest_path",
        right="        node, count = waiting.popleft()",
        wrong="        node, count = waiting.pop()",
        imports="steps",
        holds="steps({'a': ['b', 'e'], 'b': ['d'], 'e': ['c'], 'c': ['d']}, 'a', 'd') == 2",
    ),
    Sample(
        "money",
        right="        extra = 1 if number < rest else 0",
        wrong="        extra = 1 if number <= rest else 0",
        imports="split_evenly",
        holds="sum(split_evenly(100, 3)) == 100",
    ),
    Sample(
        "leap",
        right="    is_leap = year % 4 == 0 and (year % 100 != 0 or year % 400 == 0)",
        wrong="    is_leap = year % 4 == 0 and year % 100 != 0",
        imports="days_of",
        holds="days_of(2000, 2) == 29",
    ),
)
