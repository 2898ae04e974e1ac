"""data/clips/<dataset> → models/expert the network behind L_sync, taught by people of its own."""

import hashlib
import json
import shutil
import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch
from pydantic import Field
from torch import Tensor
from torch.nn import functional as F

from fixtalk.dataset import Row, read_clips
from fixtalk.media import read_video, to_float
from fixtalk.mel import mel_pieces, mel_spectrogram
from fixtalk.sync_expert import SyncExpert
from fixtalk.talks import TALK
from pipelines.config import StageConfig, load_config
from pipelines.files import replacing, write_text
from pipelines.perception import EXPERT, EXPERT_WEIGHTS
from pipelines.practice import EXPERTS, Course, new, of_experts, practise

COLUMNS = ["clip", "person", "frames", "video", "audio"]
EXAMINED = 40  # clips of held-out people
GAIN = 0.2  # spread of log gains of a clip's colours


class ExpertConfig(StageConfig):
    """How the network behind L_sync learns."""

    seed: int = Field(ge=0)  # another than the judges'
    clips: int = Field(ge=1)  # of its people, at most
    clips_at_once: int = Field(ge=1)
    windows: int = Field(ge=2)  # of each clip at a step
    learning_rate: float = Field(gt=0)  # highest
    steps: int = Field(ge=1)


def expert(config: ExpertConfig, clips: Path, out: Path) -> None:
    """Train it on every sixth training person, whom no judge learns from, and examine it.

    `out` gets expert.safetensors and expert.json. Where too few clips have sound it gets the
    second only, which says why; L_sync is then left out of training, and the run says so.
    """
    rows = read_clips(clips, "train", COLUMNS)
    own = of_experts({row["person"] for row in rows})  # of all people, as judges count them
    rows = [row for row in rows if row["person"] in own and _is_fit(row)]
    rows = [
        rows[n]
        for n in np.linspace(0, len(rows) - 1, min(len(rows), config.clips)).round().astype(int)
    ]
    shutil.rmtree(out, ignore_errors=True)
    out.mkdir(parents=True)
    if not rows:
        reason = f"no clip with sound and {TALK} frames of a person kept for it (each {EXPERTS}th)"
        write_text(out / EXPERT, json.dumps({"reason": f"{clips}: {reason}"}, indent=1) + "\n")
        return
    network, losses = teach(rows, config)
    held_out = [row for row in read_clips(clips, "test", COLUMNS) if _is_fit(row)][:EXAMINED]
    facts = {
        "clips": len(rows),
        "people": len({row["person"] for row in rows}),
        "loss": round(float(np.mean(losses[-20:])), 4),
        "held_out": examine(network, held_out),
        "seed": config.seed,
    }
    from safetensors.torch import save

    content = save({name: t.contiguous() for name, t in network.state_dict().items()})
    with replacing(out / EXPERT_WEIGHTS) as temporary:
        temporary.write_bytes(content)
    facts["sha256"] = hashlib.sha256(content).hexdigest()
    write_text(out / EXPERT, json.dumps(facts, indent=1) + "\n")


def teach(rows: list[Row], config: ExpertConfig) -> tuple[SyncExpert, list[float]]:
    """The network and its losses: every window's sound among all windows of the batch."""
    course = Course(
        steps=config.steps,
        batch=config.clips_at_once * config.windows,
        learning_rate=config.learning_rate,
        seed=config.seed,
        bfloat16=True,
    )
    network = new(SyncExpert, course)
    rng = np.random.default_rng(config.seed)
    sounds = [mel_spectrogram(np.frombuffer(row["audio"], "<i2")) for row in rows]

    def loss() -> Tensor:
        chosen = rng.choice(len(rows), min(config.clips_at_once, len(rows)), replace=False)
        drawn = [_windows(rng, rows[n], sounds[n], config.windows) for n in chosen]
        frames, pieces = (torch.cat(parts) for parts in zip(*drawn, strict=True))
        logits = network.match(network.look(frames), network.listen(pieces))
        own = torch.eye(len(logits))
        weights = own * (len(own) - 1) + (1 - own)  # as much for the one match as for all others
        return F.binary_cross_entropy_with_logits(logits, own, weights)

    return network, practise(network, course, loss)


def _windows(
    rng: np.random.Generator, row: Row, mels: np.ndarray, count: int
) -> tuple[Tensor, Tensor]:
    """Frames in a row at several times of a clip, in other colours or mirrored, and their sound."""
    last = row["frames"] - TALK
    firsts = rng.choice(last + 1, min(count, last + 1), replace=False)
    shown = read_video(row["video"])
    frames = to_float(torch.from_numpy(shown[firsts[:, None] + np.arange(TALK)]).movedim(-1, -3))
    gains = np.exp(rng.normal(0, GAIN, 3)).astype(np.float32)
    frames = ((frames + 1) * torch.from_numpy(gains)[:, None, None] - 1).clamp(-1, 1)
    if rng.random() < 0.5:
        frames = frames.flip(-1)
    return frames, torch.from_numpy(mel_pieces(mels, (firsts + TALK // 2).tolist()))


@torch.inference_mode()
def examine(network: SyncExpert, rows: list[Row]) -> dict[str, Any]:
    """How often the sound picked among all of a clip lies within a frame of the true one."""
    hits = []
    for row in rows:
        count = row["frames"] - TALK + 1
        shown = to_float(torch.from_numpy(read_video(row["video"])).movedim(-1, -3))
        looks = network.look(shown.unfold(0, TALK, 1).movedim(-1, 1))
        mels = mel_spectrogram(np.frombuffer(row["audio"], "<i2"))
        heard = network.listen(
            torch.from_numpy(mel_pieces(mels, range(TALK // 2, TALK // 2 + count)))
        )
        picked = network.match(looks, heard).argmax(1)
        hits += ((picked - torch.arange(count)).abs() <= 1).tolist()
    return {
        "within_a_frame": round(float(np.mean(hits)), 3) if hits else None,
        "windows": len(hits),
    }


def _is_fit(row: Row) -> bool:
    return bool(row["audio"]) and row["frames"] >= TALK


if __name__ == "__main__":
    expert(load_config(ExpertConfig, "expert"), *map(Path, sys.argv[1:]))
