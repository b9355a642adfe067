"""Numbers as a reader likes them."""

from __future__ import annotations

import math

NOTHING = "—"


def percent(fraction: float | None, digits: int = 2) -> str:
    """A fraction as per cent: 0.9947 is "99.47"; None is a dash."""
    return NOTHING if fraction is None else f"{100 * fraction:.{digits}f}"


def times(ratio: float | None) -> str:
    """An efficiency: 125.09 is "125.09×"; None and what is not finite are a dash."""
    return NOTHING if ratio is None or not math.isfinite(ratio) else f"{ratio:,.2f}×"


def short_times(ratio: float) -> str:
    """An efficiency in about three digits: "5.20×", "32.2×", "1,251×"."""
    digits = 2 if ratio < 9.995 else 1 if ratio < 99.95 else 0
    return f"{ratio:,.{digits}f}×"


def fold(ratio: float) -> str:
    """An efficiency in words: 125.09 is "125-fold", 5.2 is "5.2-fold"."""
    return f"{ratio:,.0f}-fold" if ratio >= 99.95 else f"{ratio:.1f}-fold"


def count(number: float | None) -> str:
    """A whole number with thousands set apart: "143,978"; None is a dash."""
    return NOTHING if number is None else f"{number:,.0f}"


def decimal(number: float | None) -> str:
    """A number of four significant digits; None is a dash."""
    return NOTHING if number is None else f"{number:.4g}"


def size(number: float | None) -> str:
    """Bytes as B, kB, MB or GB (powers of 1,000), three significant digits."""
    if number is None:
        return NOTHING
    return _scaled(number, ("B", "kB", "MB", "GB"))


def operations(number: float | None) -> str:
    """Multiply-accumulates with k, M or G, three significant digits."""
    return NOTHING if number is None else _scaled(number, ("", "k", "M", "G")).rstrip()


def duration(seconds: float | None) -> str:
    """A time as a person says it: "4.2 s", "3 min 05 s", "2 h 07 min"."""
    if seconds is None:
        return NOTHING
    if seconds < 59.95:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    minutes = round(seconds / 60)
    return f"{minutes // 60} h {minutes % 60:02d} min"


def clock(seconds: float | None) -> str:
    """A time in little room, as hours, minutes and seconds: "0:01:37"."""
    if seconds is None:
        return NOTHING
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes // 60}:{minutes % 60:02d}:{rest:02d}"


def _scaled(number: float, units: tuple[str, ...]) -> str:
    index = 0
    while number >= 999.5 and index < len(units) - 1:
        number, index = number / 1000, index + 1
    digits = 0 if index == 0 or number >= 99.95 else 1 if number >= 9.995 else 2
    return f"{number:.{digits}f} {units[index]}"
