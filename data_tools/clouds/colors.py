"""Which range a file's colours have, decided by where the values lie; one rule for all readers (NumPy only)."""

from __future__ import annotations

import numpy as np

TOPS = (1.0, 255.0, 65535.0)  # the values that may stand for full brightness
STRAY_SHARE = 0.05  # so many of the values that are not zero may lie beyond the range: strays, to be clipped
BEYOND = 1.5  # times full brightness; nearer values are overshoot of a filter or a conversion
GROSS = 10.0  # times full brightness: more than strays there belong to a wider range
OVEREXPOSED_SHARE = 0.25  # of the values may be beyond the range where next to none is grossly so
SAMPLE = 3_000_000
DARK = 16  # of 255: a channel with hardly a value above this is told
SIGNED = {1: "unsigned bytes 0..255", 2: "unsigned 16 bit"}  # what signed integers of so many bytes are taken as


def color_span(values: np.ndarray) -> tuple[float, float]:
    """The values that stand for black and for full brightness, judged by where most values lie.

    A range is taken when at most 5 % of the values (zeros aside) lie far beyond it, or 25 % of an overexposed cloud
    with next to none beyond ten times: under the next wider range nearly all of the cloud would be black. Integers are
    never 0..1; floats may also be -1..1.

    Args:
        values: of any shape and numeric type; values that are not finite do not count.

    Returns:
        (0, 1), (0, 255), (0, 65535) or (-1, 1).
    """
    flat = np.asarray(values).reshape(-1)
    flat = flat[:: max(1, flat.size // SAMPLE)]
    is_float = flat.dtype.kind == "f"
    number = flat.astype(np.float64)
    number = number[np.isfinite(number) & (number != 0)]
    for top in TOPS if is_float else TOPS[1:]:
        beyond = np.abs(number) > top * (1 + 1e-5)
        far = np.abs(number) > top * BEYOND
        if top == 1.0 and beyond.any() and (number == np.rint(number)).all():
            far = beyond  # whole numbers above 1 belong to 0..255
        gross = np.abs(number) > top * GROSS
        allowed = STRAY_SHARE if gross.sum() > STRAY_SHARE * number.size else OVEREXPOSED_SHARE
        if far.sum() <= allowed * number.size:
            break
    if is_float and top == 1.0 and (number < -0.02).sum() > STRAY_SHARE * number.size:
        return -1.0, 1.0
    return 0.0, top


def count_beyond(values: np.ndarray, low: float, top: float) -> int:
    """How many values lie beyond a range by more than rounding."""
    slack = 1e-5 * (top - low)
    return int(((values < low - slack) | (values > top + slack)).sum())


def color_to_uint8(values: np.ndarray) -> tuple[np.ndarray, list[str]]:
    """Bring colours of any usual range to 0..255.

    Args:
        values: (N, 3) of any numeric type: 0..255, 0..1, -1..1 (floats) or 0..65535.

    Returns:
        (N, 3) uint8, and notes in words: the range taken, values clipped, values that are not finite (now 0), and
        channels that are all but black, since then the range may be another.
    """
    color, notes = _to_uint8(values)
    top = np.quantile(color[:: max(1, len(color) // 100_000)], 0.99, axis=0) if len(color) else np.full(3, 255)
    dark = [name for name, value in zip(("red", "green", "blue"), top, strict=True) if value < DARK]
    if dark:
        words = "colour" if len(dark) == 3 else " and ".join(dark)
        notes.append(
            f"{words} all but black (99 % up to {max(top[top < DARK]):.0f} of 255): check the range in the file"
        )
    return color, notes


def _to_uint8(values: np.ndarray) -> tuple[np.ndarray, list[str]]:
    if values.dtype == np.uint8 or values.size == 0:
        return values.astype(np.uint8), []
    if values.dtype.kind == "i" and values.dtype.itemsize in SIGNED:
        negative = (values < 0).sum()
        if negative > (0 if values.dtype.itemsize == 1 else STRAY_SHARE * values.size):
            color, notes = _to_uint8(values.astype(values.dtype.newbyteorder("=")).view(f"u{values.dtype.itemsize}"))
            return color, [f"colour is declared signed, taken as {SIGNED[values.dtype.itemsize]}", *notes]
    number = values.astype(np.float64)
    notes: list[str] = []
    bad = int((~np.isfinite(number)).sum())
    if bad:
        notes.append(f"{bad} colour values are not finite: taken as 0")
        number = np.nan_to_num(number, nan=0.0, posinf=0.0, neginf=0.0)
    low, top = color_span(number if values.dtype.kind == "f" else values)
    if top == 255.0 and values.dtype.kind in "iu":
        notes.append(f"colour of type {values.dtype} taken as 0..255")
    elif (low, top) != (0.0, 255.0):
        notes.append(f"colour {f'{low:.0f}..{top:.0f}' if top < 65535 else '16 bit'} -> 0..255")
    clipped = count_beyond(number, low, top)
    if clipped:
        notes.append(f"{clipped} colour values beyond {low:.0f}..{top:.0f} clipped")
    return np.clip(np.rint((number - low) * (255.0 / (top - low))), 0, 255).astype(np.uint8), notes
