"""Roman numerals."""

VALUES = {"I": 1, "V": 5, "X": 10, "L": 50, "C": 100, "D": 500, "M": 1000}


def from_roman(numeral: str) -> int:
    """The number that a numeral stands for."""
    total = 0
    before = 0
    for letter in reversed(numeral):
        value = VALUES[letter]
        if value < before:
            total -= value
        else:
            total += value
        before = value
    return total
