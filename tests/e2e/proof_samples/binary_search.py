"""Find a number in a sorted list."""


def binary_search(numbers: list[int], wanted: int) -> int:
    """Its position, or -1."""
    low = 0
    high = len(numbers) - 1
    while low <= high:
        middle = (low + high) // 2
        if numbers[middle] == wanted:
            return middle
        if numbers[middle] < wanted:
            low = middle + 1
        else:
            high = middle - 1
    return -1
