"""Each control of a trained model changes its own part of the picture most."""

import cv2
import numpy as np
import pytest

import fixtalk
from fixtalk.dataset import read_clips
from fixtalk.media import read_video
from fixtalk.mel import stream_pieces
from fixtalk.swap import mouth_box
from tests.conftest import ROOT

MODEL = ROOT / "models" / "fixtalk"
CLIPS = ROOT / "baselines" / "model" / "clips"  # each person in two motions, with sound and labels
BROWS_AND_EYES = [*range(17, 27), *range(36, 48)]  # of the 68 landmarks of iBUG 300-W
COMPONENTS = ("lip", "pose", "expression")


def hearing_model():
    if not (MODEL / "config.json").is_file():
        pytest.skip(f"no trained model at {MODEL}: run `make repro`")
    model = fixtalk.load_checkpoint(MODEL)
    if model.speech is None:
        pytest.skip(f"{MODEL} has no audio encoder: train one (params.yaml, train.speech)")
    return model


def boxes(row, side):
    """Masks of the mouth, of brows and eyes, and of the head without both, at the first frame."""
    points = row["landmarks"][0]
    mouth, upper, head = mouth_box(points, side), *(np.zeros((side, side), bool) for _ in "ab")
    for mask, part in ((upper, points[BROWS_AND_EYES]), (head, points)):
        (left, top), (right, bottom) = np.round([part.min(0) - 2, part.max(0) + 2]).astype(int)
        mask[max(0, top) : bottom, max(0, left) : right] = True
    return mouth, upper, head & ~mouth & ~upper


def changes(before, after, row):
    """Of mouth and upper face in grey levels, the head's move undone; of the head in pixels."""
    mouth, upper, head = boxes(row, before.shape[1])
    grid = np.stack(np.meshgrid(*2 * [np.arange(before.shape[1])]), -1).astype(np.float32)
    found = []
    for a, b in zip(before, after, strict=True):
        grey = [cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY) for frame in (a, b)]
        flow = cv2.calcOpticalFlowFarneback(*grey, None, 0.5, 3, 15, 5, 5, 1.1, 0)
        move = np.median(flow[head], axis=0)
        back = cv2.remap(grey[1], grid + move, None, cv2.INTER_LINEAR, None, cv2.BORDER_REPLICATE)
        apart = np.abs(back.astype(float) - grey[0])
        found.append([apart[mouth].mean(), np.linalg.norm(move), apart[upper].mean()])
    return np.mean(found, axis=0)


def driver(row, component, kind, side):
    """What this clip says of a component: by its frames, or by its sound and label."""
    if kind == "clips" or component == "pose":
        return fixtalk.Driver(frames=frames_of(row, side), components=(component,))
    if component == "lip":
        pieces = stream_pieces(np.frombuffer(row["audio"], "<i2"))
        return fixtalk.SpeechDriver(pieces=pieces)
    return fixtalk.EmotionDriver(emotion=row["emotion"], level=float(row["level"]))


def frames_of(row, side):
    return [
        cv2.resize(frame, (side, side), interpolation=cv2.INTER_AREA)
        for frame in read_video(row["video"])
    ]


def measured(model, kind):
    """Changes (inputs × regions), both in the order lip, pose, expression: mean of four people."""
    side = model.config.resolution
    rows = {(row["person"], row["motion"]): row for row in read_clips(CLIPS, "test")}
    people = sorted({person for person, _ in rows})
    table = []
    for person in people:
        a, b = rows[person, "m0"], rows[person, "m1"]
        source = frames_of(a, side)[0]

        def made(swapped, a=a, b=b, source=source):
            drivers = [
                driver(b if component == swapped else a, component, kind, side)
                for component in COMPONENTS
            ]
            return np.stack(list(fixtalk.animate(model, source, drivers, batch=25)))

        plain = made(None)
        table.append([changes(plain, made(component), a) for component in COMPONENTS])
    return np.mean(table, axis=0)


@pytest.mark.slow
def test_each_input_changes_its_own_region_most():
    table = measured(hearing_model(), "speech")

    assert table.argmax(axis=0).tolist() == [0, 1, 2], f"inputs × regions:\n{table.round(2)}"
