"""Pages of training clips → batches of frame pairs, each a pure function of (seed, step, lane)."""

from collections.abc import Callable, Iterable, Sequence

import numpy as np

from fixtalk.augmentation import Augmentation, disguise, mirror, recolour
from fixtalk.dataset import Row
from fixtalk.face_shape import MIRRORED, brow_shape, head_shape, lip_shape
from fixtalk.media import decode_frames
from fixtalk.pages import Item, Order, Page, read_page
from fixtalk.reenactment import Batch
from fixtalk.shapes import Bool, Float, UInt8
from fixtalk.swap import MouthOutsideError, mouth_box, swap_mouth
from fixtalk.talks import eyes_closed, mouths_at, sound_at, strength_in, talk_at

Truth = tuple[Float[np.ndarray, "side side 2"], Bool[np.ndarray, "side side"]]
Place = tuple[Row, int]  # clip and frame
WarpTruth = Callable[[Place, Place], Truth]  # source, driver
TOLD = 0.5  # share of items whose lips are told the emotion: they must do without as well
PARTNERS = 8  # tried for a swap of mouths before it counts as impossible


class PairSampler:
    """Draws pairs: the clip whose turn it is, another of its session, two frames that lie apart.

    Clips of one session share camera, light and background; a clip without one is its own.
    Where exact warps are known, the driver can be a stranger: no picture shows what should come
    out, but the warp that leads there is known from the labels of both. Only the pages that the
    lanes of the last call need stay in memory: at most two a lane.

    Args:
        pages: of clips with "person", "session", "clip", "video", "frames", "head_pose",
            "landmarks" and "pose" (or None), and what `truth` reads.
        seed: of all draws.
        lanes: items of the global batch.
        visits: to each clip in an epoch.
        distance: fewest frames between source and driver of one clip, as far as it allows.
        gate: a driver moves if its landmarks lie further from the source's than this share of
            the frame's side, on average.
        augmentation: random changes of each pair.
        labelled: whether every clip has landmarks: they tell what moves, where mouths are and what
            coefficients are told, and swap mouths.
        strangers: share of a batch with warps whose driver is another person.
        truth: exact warps, or None where the data has none.

    Raises:
        ValueError: no pages.
    """

    def __init__(
        self,
        pages: Sequence[Page],
        *,
        seed: int,
        lanes: int,
        visits: int,
        distance: int,
        gate: float,
        augmentation: Augmentation,
        labelled: bool,
        strangers: float = 0.0,
        truth: WarpTruth | None = None,
    ) -> None:
        self.order = Order(pages, seed=seed, lanes=lanes, visits=visits)
        self.heard = [number for number, page in enumerate(pages) if any(page.speaks)]
        spoken = [pages[number] for number in self.heard]
        self.talk_order = Order(spoken, seed=seed, lanes=lanes, visits=visits) if spoken else None
        self.pages, self.held = pages, {}
        self.seed, self.distance, self.gate = seed, distance, gate
        self.augmentation, self.labelled, self.truth = augmentation, labelled, truth
        self.strangers = 0.0 if self.order.alone else strangers

    def batch(
        self, step: int, lanes: Sequence[int], *, warps: bool = False, swaps: bool = False
    ) -> Batch:
        """`arrays` as tensors."""
        return Batch.of(self.arrays(step, lanes, warps=warps, swaps=swaps))

    def talks(self, step: int, lanes: Sequence[int]) -> dict[str, np.ndarray]:
        """Like `arrays`, but the target is a few frames in a row, with what is said in them.

        They are the driver as well, which `Batch.of` puts in.

        Raises:
            ValueError: nobody speaks in any clip.
        """
        self.check_speech()
        found = ((lane, self.talk_order(step, lane)) for lane in lanes)
        items = {lane: item._replace(page=self.heard[item.page]) for lane, item in found}
        self._hold(item.page for item in items.values())
        drawn = [self._talk(step, lane, item) for lane, item in items.items()]
        return {name: np.stack([talk[name] for talk in drawn]) for name in drawn[0]}

    def arrays(
        self, step: int, lanes: Sequence[int], *, warps: bool = False, swaps: bool = False
    ) -> dict[str, np.ndarray]:
        """Some items of the global batch of a step, by the names of `Batch`, frames uint8 NHWC.

        Args:
            step: of training.
            lanes: this worker's share.
            warps: add exact warps, and with them strangers, where the data has them.
            swaps: add the driver's mouth on another person and that person's mouth on the driver.

        Raises:
            ValueError: swaps without landmarks, or without another person.
        """
        if swaps:
            self.check_swaps()
        warps = warps and self.truth is not None
        items = {lane: self.order(step, lane) for lane in lanes}
        self._hold(
            page
            for lane, item in items.items()
            for page in (item.page, item.companion)
            if page == item.page or swaps or (warps and self._is_stranger(lane))
        )
        drawn = [self._pair(step, lane, item, warps, swaps) for lane, item in items.items()]
        return {name: np.stack([pair[name] for pair in drawn]) for name in drawn[0]}

    def check_swaps(self) -> None:
        """Raise ValueError where mouths cannot be swapped: no landmarks, or nobody to swap with."""
        remedy = "leave phases that weigh l_fea out of train.variants"
        if not self.labelled:
            raise ValueError(f"clips have no landmarks to swap mouths by: {remedy}")
        if self.order.alone:
            raise ValueError(f"all clips are of one person, who cannot swap mouths: {remedy}")

    def check_speech(self) -> None:
        """Raise ValueError where nobody speaks in any clip."""
        if not self.heard:
            raise ValueError(
                "no clip has speech to learn from (column speech of docs/clips.md): leave phases "
                "that train speech out of train.variants"
            )

    def _hold(self, wanted: Iterable[int]) -> None:
        """Have the rows of these pages in memory, and of no others."""
        wanted = set(wanted)
        self.held = {page: rows for page, rows in self.held.items() if page in wanted}
        self.held |= {page: read_page(self.pages[page]) for page in wanted - set(self.held)}

    def _pair(
        self, step: int, lane: int, item: Item, warps: bool, swaps: bool
    ) -> dict[str, np.ndarray | bool]:
        rng = np.random.default_rng([self.seed, item.epoch, lane, step])
        source, driver = self._places(rng, item)
        is_stranger = warps and self._is_stranger(lane)
        if is_stranger:
            driver = self._another(rng, item, source)
        frames = _frames(source, driver)
        if swaps:  # draws of its own: the pair stays the same without
            partners = np.random.default_rng([self.seed, item.epoch, lane, step, 1])
            frames += self._swapped(partners, item, driver, frames[1])
        side = len(frames[0])
        truth = self.truth(source, driver) if warps else None
        mouth = mouth_box(_landmarks(driver), side) if self.labelled else None
        head = _head(driver, side) if self.labelled else None
        if rng.random() < self.augmentation.flip:
            frames = [mirror(frame) for frame in frames]
            truth = truth and _mirror(truth)
            mouth, head = (mouth[:, ::-1], head * MIRRORED) if self.labelled else (None, None)
        gains = np.exp(rng.normal(0, self.augmentation.colour, 3)).astype(np.float32)
        filmed = [recolour(frame, gains) for frame in frames[:2]]
        drivers = disguise(rng, frames[1:], gains, self.augmentation)
        views = ("source", "target", "driver", *(("lip", "pose") if swaps else ()))
        pair = dict(zip(views, filmed + drivers, strict=True)) | {"shows_target": not is_stranger}
        if self.labelled:
            pair["moves"] = self._moves(source, driver, side)
            pair |= {"mouth": mouth, "head": head}
            pair |= {"lips": lip_shape(_landmarks(driver)), "brows": brow_shape(_landmarks(driver))}
        if truth:
            pair["flow"], pair["valid"] = truth
        return pair

    def _talk(self, step: int, lane: int, item: Item) -> dict[str, np.ndarray | bool]:
        rng = np.random.default_rng([self.seed, item.epoch, lane, step])
        row, session = self._speaker(item)
        # another clip, where the page has one: how this one looks would give its mood away
        others = [other for other in session if other is not row] or [row]
        other = others[rng.integers(len(others))]
        source = other, int(rng.integers(other["frames"]))
        shown, speech, places = talk_at(row, int(rng.integers(row["frames"])))
        frames = [_frame(source), *shown]
        mouths = mouths_at(row, places, len(frames[0])) if self.labelled else None
        if rng.random() < self.augmentation.flip:
            frames = [mirror(frame) for frame in frames]
            mouths = mouths[:, :, ::-1] if self.labelled else None
        gains = np.exp(rng.normal(0, self.augmentation.colour, 3)).astype(np.float32)
        frames = np.stack([recolour(frame, gains) for frame in frames])
        talk = {"source": frames[0], "target": frames[1:], "speech": speech}
        talk |= {"sound": sound_at(row, places), "strength": strength_in(row), "shows_target": True}
        talk["closed"] = eyes_closed(row, places)
        talk["mood"] = talk["strength"] * np.float32(rng.random() < TOLD)
        return talk | ({"mouth": mouths} if self.labelled else {})

    def _speaker(self, item: Item) -> tuple[Row, list[Row]]:
        """The visited clip, or the next of its page that has speech; and all of its session."""
        page, speaks = self.held[item.page], self.pages[item.page].speaks
        turns = (*range(item.row, len(page)), *range(item.row))
        row = page[next(turn for turn in turns if speaks[turn])]
        return row, [other for other in page if _session(other) == _session(row)]

    def _is_stranger(self, lane: int) -> bool:
        """Whether an item of the batch has another person as driver: spread evenly."""
        return int((lane + 1) * self.strangers) > int(lane * self.strangers)

    def _places(self, rng: np.random.Generator, item: Item) -> tuple[Place, Place]:
        """Source and driver: the visited clip and one of its session in the page, or itself."""
        page = self.held[item.page]
        visited = page[item.row]
        session = [row for row in page if _session(row) == _session(visited)]
        other = session[rng.integers(len(session))]
        if other is visited:
            first, second = _two_frames(rng, visited["frames"], self.distance)
            return (visited, first), (visited, second)
        one, two = ((row, int(rng.integers(row["frames"]))) for row in (visited, other))
        return (one, two) if rng.random() < 0.5 else (two, one)

    def _another(self, rng: np.random.Generator, item: Item, place: Place) -> Place:
        """A frame of another person than the place shows."""
        near = [row for page in sorted({item.page, item.companion}) for row in self.held[page]]
        others = [row for row in near if row["person"] != place[0]["person"]]
        row = others[rng.integers(len(others))]
        return row, int(rng.integers(row["frames"]))

    def _swapped(
        self, rng: np.random.Generator, item: Item, driver: Place, face: np.ndarray
    ) -> list[UInt8[np.ndarray, "side side 3"]]:
        """Mouths swapped with a person who can; a driver whose mouth is out of its frame stays."""
        for _ in range(PARTNERS):
            partner = self._another(rng, item, driver)
            try:
                return _swap_mouths(driver, face, partner, _frame(partner))
            except ValueError as error:
                refused = error
        if isinstance(refused, MouthOutsideError):
            return [face, face]
        raise refused

    def _moves(self, source: Place, driver: Place, side: int) -> bool:
        apart = np.linalg.norm(_landmarks(source) - _landmarks(driver), axis=1).mean()
        return bool(apart > self.gate * side)


def _session(row: Row) -> tuple[str, str]:
    return row["person"], row["session"] or row["clip"]


def _frame(place: Place) -> UInt8[np.ndarray, "side side 3"]:
    row, index = place
    return decode_frames(row["video"], [index])[0]


def _frames(one: Place, other: Place) -> list[UInt8[np.ndarray, "side side 3"]]:
    """The frames of two places; a clip that holds both is opened once, which takes a third."""
    if one[0] is other[0]:
        return list(decode_frames(one[0]["video"], [one[1], other[1]]))
    return [_frame(one), _frame(other)]


def _landmarks(place: Place) -> Float[np.ndarray, "68 2"]:
    row, index = place
    return row["landmarks"][index]


def _head(place: Place, side: int) -> Float[np.ndarray, " 6"]:
    row, index = place
    angles = row["head_pose" if row["pose"] is None else "pose"][index, :3]
    return head_shape(_landmarks(place), angles, side)


def _swap_mouths(
    one: Place, face: np.ndarray, other: Place, other_face: np.ndarray
) -> list[UInt8[np.ndarray, "side side 3"]]:
    """The other face with the mouth of the one, and the one with that of the other."""
    first, second = (face, _landmarks(one)), (other_face, _landmarks(other))
    try:
        return [swap_mouth(*second, *first), swap_mouth(*first, *second)]
    except ValueError as error:
        places = " and ".join(f"frame {i} of {row['clip']}" for row, i in (one, other))
        raise type(error)(f"{places}: {error}") from error


def _two_frames(rng: np.random.Generator, frames: int, distance: int) -> tuple[int, int]:
    """A random ordered pair at least `distance` apart, or as far as the clip allows."""
    distance = min(distance, frames - 1)
    first = int(rng.integers(frames - distance))
    second = int(rng.integers(first + distance, frames))
    return (first, second) if rng.random() < 0.5 else (second, first)


def _mirror(truth: Truth) -> Truth:
    """The exact warp of the mirrored pair."""
    flow, valid = truth
    sign = np.array([-1, 1], flow.dtype)
    return np.ascontiguousarray(flow[:, ::-1] * sign), np.ascontiguousarray(valid[:, ::-1])
