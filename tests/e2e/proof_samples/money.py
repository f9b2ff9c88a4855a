"""Amounts in cents."""


def split_evenly(cents: int, people: int) -> list[int]:
    """Shares that differ by at most one cent, and are the whole amount together."""
    share, rest = divmod(cents, people)
    shares = []
    for number in range(people):
        extra = 1 if number < rest else 0
        shares.append(share + extra)
    return shares
