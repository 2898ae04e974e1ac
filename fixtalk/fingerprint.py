"""Sound → hashes of pairs of spectral peaks → which clips hold the same recording."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from scipy.ndimage import maximum_filter

from fixtalk.container import SAMPLE_RATE
from fixtalk.shapes import Float, Int

WINDOW, HOP = 1024, 256  # samples of 16 kHz: 64 ms every 16 ms
BANDS, LOWEST, HIGHEST = 64, 200.0, 6000.0  # hertz, spaced as the mel scale is
NEIGHBOURS = 7, 9  # bands and hops around a peak that are quieter
FAN, REACH = 6, 63  # pairs of a peak, hops between its partners at most
QUIET = 40.0  # decibels below the loudest peak that count no more
FEWEST = 12  # equal hashes in step that are no chance


class Prints(NamedTuple):
    """Hashes of a sound's pairs of peaks and the hops at which they begin."""

    hashes: Int[np.ndarray, " pairs"]
    times: Int[np.ndarray, " pairs"]


class Match(NamedTuple):
    """Two sounds that share a recording, and the share of the shorter one's hashes in step."""

    one: int
    other: int
    share: float


def fingerprint(audio: Int[np.ndarray, " samples"]) -> Prints:
    """Pairs of peaks of the mel spectrogram; a silent, steady or very short sound has none.

    The same recording cut elsewhere, louder or compressed keeps most of them.

    Args:
        audio: mono, 16 kHz.

    Source: Wang 2003 (an industrial-strength audio search algorithm), sections 2.1 and 2.2.
    """
    levels = _mel_decibels(audio)
    if not levels.size:
        return Prints(np.zeros(0, np.int64), np.zeros(0, np.int64))
    around = np.ones(NEIGHBOURS[::-1], bool)
    around[NEIGHBOURS[1] // 2, NEIGHBOURS[0] // 2] = False  # a level that goes on is no peak
    loudest = maximum_filter(levels, footprint=around, mode="constant", cval=-np.inf)
    times, bands = np.nonzero((levels > loudest) & (levels > levels.max() - QUIET))
    found = [(np.zeros(0, np.int64), np.zeros(0, np.int64))]
    for step in range(1, FAN + 1):
        apart = times[step:] - times[:-step]
        near = (apart > 0) & (apart <= REACH)
        pairs = (bands[:-step] * BANDS + bands[step:]) * (REACH + 1) + apart
        found.append((pairs[near], times[:-step][near]))
    hashes, starts = (
        np.concatenate(column).astype(np.int64) for column in zip(*found, strict=True)
    )
    return Prints(hashes, starts)


def shared_recordings(
    some: Sequence[Prints], others: Sequence[Prints], share: float
) -> list[Match]:
    """Pairs of a sound of each list that hold the same recording, the surest first.

    Args:
        some: prints of the one set of clips.
        others: of the other.
        share: of the hashes of the sound with fewer, 0 to 1, that must agree with one shift.
    """
    hashes, times, owners = _table(others)
    matches = []
    for number, prints in enumerate(some):
        low = np.searchsorted(hashes, prints.hashes, side="left")
        counts = np.searchsorted(hashes, prints.hashes, side="right") - low
        hits = np.repeat(low - np.concatenate([[0], counts.cumsum()[:-1]]), counts)
        hits = hits + np.arange(counts.sum())
        shifts = times[hits] - np.repeat(prints.times, counts)
        for owner, equal in _most_in_step(owners[hits], shifts):
            fewer = min(len(prints.hashes), len(others[owner].hashes))
            if equal >= max(FEWEST, share * fewer):
                matches.append(Match(number, owner, round(equal / fewer, 3)))
    return sorted(matches, key=lambda match: -match.share)


def _table(prints: Sequence[Prints]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Hashes of all sounds in rising order, their times and the sounds they are of."""
    none = np.zeros(0, np.int64)
    hashes = np.concatenate([none, *(one.hashes for one in prints)])
    times = np.concatenate([none, *(one.times for one in prints)])
    owners = np.repeat(np.arange(len(prints)), [len(one.hashes) for one in prints])
    order = np.argsort(hashes, kind="stable")
    return hashes[order], times[order], owners[order]


def _most_in_step(owners: np.ndarray, shifts: np.ndarray) -> list[tuple[int, int]]:
    """Each sound that was hit, and how many hits have its most frequent shift or the next."""
    if not len(owners):
        return []
    lowest = int(shifts.min())
    width = int(shifts.max()) - lowest + 2  # one more: the next shift is never another sound's
    keys, counts = np.unique(owners * width + shifts - lowest, return_counts=True)
    is_next = np.diff(keys, append=keys[-1]) == 1
    both = counts + np.where(is_next, np.append(counts[1:], 0), 0)
    found, starts = np.unique(keys // width, return_index=True)
    most = np.maximum.reduceat(both, starts)
    return list(zip(found.tolist(), most.tolist(), strict=True))


def _mel_decibels(audio: Int[np.ndarray, " samples"]) -> Float[np.ndarray, "hops bands"]:
    if len(audio) < WINDOW or not audio.any():
        return np.zeros((0, BANDS))
    frames = np.lib.stride_tricks.sliding_window_view(audio / 2**15, WINDOW)[::HOP]
    power = np.abs(np.fft.rfft(frames * np.hanning(WINDOW), axis=1)) ** 2
    # HTK's scale: with the filters of fixtalk.mel 0.90 of the hashes outlive AAC, with these 0.98
    mels = np.linspace(_mel(LOWEST), _mel(HIGHEST), BANDS + 2)
    edges = 700 * (np.exp(mels / 1127) - 1)
    frequencies = np.fft.rfftfreq(WINDOW, 1 / SAMPLE_RATE)
    rising = (frequencies[:, None] - edges[:-2]) / (edges[1:-1] - edges[:-2])
    falling = (edges[2:] - frequencies[:, None]) / (edges[2:] - edges[1:-1])
    return 10 * np.log10(power @ np.minimum(rising, falling).clip(min=0) + 1e-12)


def _mel(hertz: float) -> float:
    return 1127 * np.log(1 + hertz / 700)
