"""Pages of a list."""


def page_count(items: int, per_page: int) -> int:
    """How many pages so many items fill."""
    if per_page < 1:
        raise ValueError(per_page)
    full, rest = divmod(items, per_page)
    if rest:
        return full + 1
    return full
