from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from mmrazor_mutators.functional import make_divisible


@given(st.floats(0.01, 5000), st.integers(1, 64))
def test_nearest_multiple_that_keeps_nine_tenths(value: float, divisor: int) -> None:
    enough = [
        n for n in range(divisor, int(value) + 2 * divisor + 1, divisor) if n >= 0.9 * value
    ]
    below = max(divisor, int(value // divisor) * divisor)
    above = below if below >= value else below + divisor
    nearest = below if value - below < above - value else above
    assert make_divisible(value, divisor) == max(nearest, enough[0])


def test_widths_of_mobilenet() -> None:
    # MobileNetV2 with the width 1.4, as its authors list it.
    widths = [make_divisible(1.4 * width, 8) for width in (32, 16, 24, 32, 64, 96, 160, 320)]
    assert widths == [48, 24, 32, 48, 88, 136, 224, 448]
    assert make_divisible(11.9, 8, min_ratio=0.0) == 8
    assert make_divisible(11.9, 8, min_ratio=0.9) == 16
