"""Intervals that overlap, as one."""


def merged(intervals: list[tuple[int, int]]) -> list[tuple[int, int]]:
    """The intervals in order, those that overlap or touch joined."""
    result: list[tuple[int, int]] = []
    for first, last in sorted(intervals):
        if result and first <= result[-1][1]:
            start, end = result[-1]
            result[-1] = (start, max(end, last))
        else:
            result.append((first, last))
    return result
