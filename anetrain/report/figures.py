"""What a table's cell can hold: a value, a range, "about", a failure, nothing measured, nothing disclosed.

Six kinds that stay apart from the file to the page. In a file a plain number is an exact value; its digits say how
exactly it was printed: 0.88 stands for all from 0.875 to 0.885.
"""

from __future__ import annotations

from decimal import Decimal
from typing import Annotated, ClassVar, NamedTuple, TypeAlias

from pydantic import BaseModel, ConfigDict, Field, RootModel, model_validator

ABOUT = 0.05  # how far from what is printed "about" reaches, as a share of it

Number: TypeAlias = Annotated[int | float, Field(gt=0, le=1e15)]


class Interval(NamedTuple):
    low: float
    high: float

    @property
    def middle(self) -> float:
        return (self.low + self.high) / 2

    def meets(self, other: Interval) -> bool:
        return self.low <= other.high and other.low <= self.high

    def wider(self, share: float) -> Interval:
        return Interval(self.low - abs(self.low) * share, self.high + abs(self.high) * share)

    def plus(self, other: Interval) -> Interval:
        return Interval(self.low + other.low, self.high + other.high)

    def times(self, other: Interval) -> Interval:
        return Interval(self.low * other.low, self.high * other.high)

    def over(self, other: Interval) -> Interval:
        """Of positive numbers."""
        return Interval(self.low / other.high, self.high / other.low)


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, allow_inf_nan=False)


class Exact(RootModel[Number]):
    model_config = ConfigDict(strict=True, frozen=True, allow_inf_nan=False)

    @property
    def text(self) -> str:
        return str(self.root)

    @property
    def interval(self) -> Interval:
        return printed(self.root)

    @property
    def numbers(self) -> tuple[Number, ...]:
        """What is printed: one, of a range two, of what has no value none."""
        return (self.root,)

    @property
    def ends(self) -> tuple[Interval, ...]:
        """What the numbers stand for."""
        return (self.interval,)


class Range(_Part):
    low: Number
    high: Number

    @model_validator(mode="after")
    def _ordered(self) -> Range:
        if self.low >= self.high:
            raise ValueError(f"a range from {self.low} to {self.high}: expected the smaller one first")
        return self

    @property
    def text(self) -> str:
        return f"{self.low}-{self.high}"

    @property
    def interval(self) -> Interval:
        return Interval(printed(self.low).low, printed(self.high).high)

    @property
    def numbers(self) -> tuple[Number, ...]:
        return self.low, self.high

    @property
    def ends(self) -> tuple[Interval, ...]:
        return printed(self.low), printed(self.high)


class About(_Part):
    about: Number

    @property
    def text(self) -> str:
        return f"~{self.about}"

    @property
    def interval(self) -> Interval:
        return printed(self.about).wider(ABOUT)

    @property
    def numbers(self) -> tuple[Number, ...]:
        return (self.about,)

    @property
    def ends(self) -> tuple[Interval, ...]:
        return (self.interval,)


class Fail(_Part):
    fail: str = Field(description="the reason", min_length=1)

    @property
    def text(self) -> str:
        return f"FAIL ({self.fail})"

    interval: ClassVar[None] = None
    numbers: ClassVar[tuple[Number, ...]] = ()
    ends: ClassVar[tuple[Interval, ...]] = ()


class NotMeasured(_Part):
    not_measured: str = Field(description="why, or empty")

    @property
    def text(self) -> str:
        return "not measured"

    interval: ClassVar[None] = None
    numbers: ClassVar[tuple[Number, ...]] = ()
    ends: ClassVar[tuple[Interval, ...]] = ()


class NotDisclosed(_Part):
    not_disclosed: str = Field(description="what is said instead, or empty")
    estimate: Number | None = None

    @property
    def text(self) -> str:
        return "not disclosed" if self.estimate is None else f"not disclosed (estimated {self.estimate})"

    interval: ClassVar[None] = None
    numbers: ClassVar[tuple[Number, ...]] = ()
    ends: ClassVar[tuple[Interval, ...]] = ()


Figure: TypeAlias = Exact | Range | About | Fail | NotMeasured | NotDisclosed


def printed(number: int | float) -> Interval:
    """All numbers that are printed so."""
    exponent = Decimal(repr(number)).as_tuple().exponent
    assert isinstance(exponent, int)  # infinities and NaN are refused before
    half = 0.5 * 10.0 ** min(exponent, 0)
    return Interval(number - half, number + half)
