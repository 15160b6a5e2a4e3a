"""How much a team has to keep in order to act, so that methods can be compared by more than their names."""

from __future__ import annotations

from dataclasses import dataclass

FLOAT_BYTES = 4
"""Bytes of a float32 number."""


@dataclass(frozen=True, slots=True)
class Memory:
    """What a layer or a network takes to keep for acting: trained numbers, and the bytes of these and of masks.

    Attributes:
        numbers: Of all mask owners together; what they share counts once.
        size: Bytes of these numbers in float32 and of all owners' masks.
        owner_numbers: What one owner multiplies or adds, mean over owners: pruned weights do not count.
        owner_size: Bytes of these numbers in float32 and of that owner's mask.
    """

    numbers: float
    size: float
    owner_numbers: float
    owner_size: float

    @classmethod
    def shared(cls, numbers: int) -> Memory:
        """Returns that of `numbers` which all owners use, as in a dense layer or a shared GRU."""
        return cls(numbers, FLOAT_BYTES * numbers, numbers, FLOAT_BYTES * numbers)

    @classmethod
    def owned(cls, numbers: int, owners: int) -> Memory:
        """Returns that of `numbers` of each owner's own."""
        total = owners * numbers
        return cls(total, FLOAT_BYTES * total, numbers, FLOAT_BYTES * numbers)

    def __add__(self, other: Memory) -> Memory:
        return Memory(
            self.numbers + other.numbers,
            self.size + other.size,
            self.owner_numbers + other.owner_numbers,
            self.owner_size + other.owner_size,
        )
