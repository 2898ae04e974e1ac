"""Numbers of people and clips, and seeds → the plan of the corpus: what each clip shows."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np

from fixtalk.synthetic.motion import EMOTIONS
from fixtalk.synthetic.speech import FEMALE_VOICES, MALE_VOICES, Voice
from fixtalk.synthetic.traits import sample_traits

SENTENCES = {"train": "sentences_train.txt", "test": "sentences_test.txt"}
# How an emotion sounds: words per minute and pitch added.
PROSODY = {"sad": (-25, -10), "angry": (15, 0), "fear": (15, 8), "happy": (8, 10)}
CROSS_EMOTIONS = ("happy", "angry", "surprised", "neutral", "sad", "disgusted", "fear", "contempt")


# The square of the raw frame that holds every head in most of its motions, in shares of its side.
FRAMING = (0.11, 0.09, 0.78)  # x0, y0, side


class Seeds(NamedTuple):
    """Independent sources of chance: changing one leaves what the others decide."""

    identity: int
    motion: int
    light: int
    voice: int


@dataclass(frozen=True)
class ClipPlan:
    """One clip to render."""

    clip: str  # id and path without suffix
    person: str
    split: str  # "train" or "test"
    session: str  # equal for clips of a person with one camera, light and background
    motion: str  # equal where the same motion is shown on several people
    emotion: str
    level: int
    sentence: str
    voice: Voice
    identity_seed: int
    motion_seed: int
    light_seed: int


def read_sentences(split: str) -> tuple[str, ...]:
    """What is spoken in the clips of a split; no sentence is in both."""
    text = Path(__file__).with_name(SENTENCES[split]).read_text(encoding="utf-8")
    return tuple(line for line in text.splitlines() if line)


def plan_corpus(
    train_people: int, test_people: int, clips_per_person: int, cross_motions: int, seeds: Seeds
) -> list[ClipPlan]:
    """All clips in order: each person's ordinary clips, then the cross set.

    The cross set shows each of `cross_motions` motions, in one voice and one light, on every
    test person.
    """
    plans: list[ClipPlan] = []
    for number in range(train_people + test_people):
        split = "train" if number < train_people else "test"
        plans += _ordinary_clips(number, split, clips_per_person, seeds)
    for motion in range(cross_motions):
        test_numbers = range(train_people, train_people + test_people)
        plans += _cross_clips(motion, test_numbers, seeds)
    return plans


def _ordinary_clips(number: int, split: str, count: int, seeds: Seeds) -> Iterator[ClipPlan]:
    person, identity_seed = f"S{number:03d}", _derive(seeds.identity, number)
    rng = np.random.default_rng([seeds.voice, 0, number])
    is_male = sample_traits(identity_seed).is_male
    voice = _sample_voice(rng, MALE_VOICES if is_male else FEMALE_VOICES)
    sentences = read_sentences(split)
    order = np.random.default_rng([seeds.motion, 0, number]).permutation(len(sentences))
    emotions = list(EMOTIONS)
    for index in range(count):
        emotion = emotions[(number + index) % len(emotions)]
        level = 1 if emotion == "neutral" else 1 + (2 * number + index) % 3
        clip = f"{person}/{emotion}/level_{level}/{index:03d}"
        yield ClipPlan(
            clip=clip,
            person=person,
            split=split,
            session=person,
            motion=clip,
            emotion=emotion,
            level=level,
            sentence=sentences[order[index % len(sentences)]],
            voice=_colour_voice(voice, emotion),
            identity_seed=identity_seed,
            motion_seed=_derive(seeds.motion, 1, number, index),
            light_seed=_derive(seeds.light, 0, number),
        )


def _cross_clips(motion: int, numbers: range, seeds: Seeds) -> Iterator[ClipPlan]:
    sentences = read_sentences("test")
    emotion = CROSS_EMOTIONS[motion % len(CROSS_EMOTIONS)]
    voice = _sample_voice(
        np.random.default_rng([seeds.voice, 1, motion]), MALE_VOICES + FEMALE_VOICES
    )
    for number in numbers:
        yield ClipPlan(
            clip=f"cross/m{motion}/S{number:03d}",
            person=f"S{number:03d}",
            split="test",
            session="cross",
            motion=f"m{motion}",
            emotion=emotion,
            level=1 if emotion == "neutral" else 2 + motion % 2,
            sentence=sentences[motion % len(sentences)],
            voice=_colour_voice(voice, emotion),
            identity_seed=_derive(seeds.identity, number),
            motion_seed=_derive(seeds.motion, 2, motion),
            light_seed=_derive(seeds.light, 1),
        )


def _derive(seed: int, *path: int) -> int:
    """A seed for one thing, independent of those of other paths."""
    return int(np.random.SeedSequence([seed, *path]).generate_state(1)[0])


def _sample_voice(rng: np.random.Generator, names: tuple[str, ...]) -> Voice:
    name = names[int(rng.integers(len(names)))]
    return Voice(
        name, int(rng.integers(150, 185)), int(rng.integers(30, 70)), int(rng.integers(35, 65))
    )


def _colour_voice(voice: Voice, emotion: str) -> Voice:
    rate, pitch = PROSODY.get(emotion, (0, 0))
    return Voice(voice.name, voice.words_per_minute + rate, voice.pitch + pitch, voice.pitch_range)
