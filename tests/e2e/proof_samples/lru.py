"""A cache that forgets what was not used for longest."""

from collections import OrderedDict


class Cache:
    """Keeps so many values."""

    def __init__(self, size: int) -> None:
        self.size = size
        self.values: OrderedDict[str, int] = OrderedDict()

    def get(self, key: str) -> int | None:
        """The value, which counts as used now."""
        if key in self.values:
            self.values.move_to_end(key)
        return self.values.get(key)

    def put(self, key: str, value: int) -> None:
        """Store a value."""
        self.values[key] = value
        self.values.move_to_end(key)
        if len(self.values) > self.size:
            self.values.popitem(last=False)
