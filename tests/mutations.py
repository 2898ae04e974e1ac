"""Whole files → damaged ones, the same for the same seed: what disks, networks and people do."""

import numpy as np

KINDS = ("flips", "truncation", "zeros", "repeat", "index")
EXTREMES = (0, 1, 0x7F, 0xFF, 0x7FFFFFFF, 0xFFFFFFFF, 90_000_000)


def mutate(data: bytes, seed: int) -> bytes:
    """A damaged copy; seeds take the kinds of damage in turn."""
    rng = np.random.default_rng(seed)
    kind = KINDS[seed % len(KINDS)]
    bad = bytearray(data)
    if kind == "flips":
        for place in rng.integers(len(bad), size=rng.integers(1, 65)):
            bad[place] ^= 1 << int(rng.integers(8))
        return bytes(bad)
    if kind == "truncation":
        return bytes(bad[: rng.integers(1, len(bad))])
    if kind == "index":  # MP4 and Parquet keep theirs at the end: large numbers in it
        for place in len(bad) - rng.integers(4, max(5, len(bad) // 64), size=rng.integers(1, 9)):
            bad[place : place + 4] = int(rng.choice(EXTREMES)).to_bytes(4, "big")
        return bytes(bad)
    start = int(rng.integers(len(bad)))
    length = int(rng.integers(1, max(2, len(bad) // 4)))
    if kind == "zeros":
        bad[start : start + length] = bytes(len(bad[start : start + length]))
        return bytes(bad)
    return bytes(bad[: start + length] + bad[start:])
