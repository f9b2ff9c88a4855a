"""Queries of an address."""


def parse_query(query: str) -> dict[str, list[str]]:
    """All values of each name, in order. A name without a value has an empty one."""
    values: dict[str, list[str]] = {}
    for part in query.split("&"):
        if not part:
            continue
        name, _, value = part.partition("=")
        values.setdefault(name, []).append(value)
    return values
