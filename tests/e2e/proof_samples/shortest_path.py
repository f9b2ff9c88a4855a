"""Ways through a graph without weights."""

from collections import deque


def steps(graph: dict[str, list[str]], start: str, goal: str) -> int | None:
    """The fewest steps from one node to another; None where there is no way."""
    seen = {start}
    waiting = deque([(start, 0)])
    while waiting:
        node, count = waiting.popleft()
        if node == goal:
            return count
        for neighbour in graph.get(node, []):
            if neighbour not in seen:
                seen.add(neighbour)
                waiting.append((neighbour, count + 1))
    return None
