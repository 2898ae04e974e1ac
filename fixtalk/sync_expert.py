"""Lower halves of five faces, and 0.2 s of sound → whether these lips said that."""

from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from fixtalk.layers import ConvLayer, EqualLinear, ResBlock, precise
from fixtalk.shapes import Float
from fixtalk.speech import AudioEncoder
from fixtalk.talks import TALK

SIDE = 64  # pixels that a face is scaled to
CHANNELS = (32, 64, 128, 128)
EMBEDDING = 128
SOUND_WIDTH = 0.25  # multiplier of the audio encoder's channels


class SyncExpert(nn.Module):
    """The network behind L_sync: it shapes lips, and so may never judge them.

    Source: Wav2Lip (arXiv 2008.10010), section 3.2: five lower halves side by side against a mel
        piece; the size, and one logit of each pair by a learned scale and offset as in SigLIP
        (arXiv 2303.15343), are ours.
    """

    def __init__(self) -> None:
        super().__init__()
        self.faces = nn.Sequential(
            ConvLayer(3 * TALK, CHANNELS[0], 1),
            *(ResBlock(a, b) for a, b in pairwise(CHANNELS)),
            nn.Flatten(),
            EqualLinear(CHANNELS[-1] * (SIDE // 16) * (SIDE // 8), EMBEDDING),
        )
        self.encoder = AudioEncoder(SOUND_WIDTH)
        self.sounds = EqualLinear(self.encoder.width, EMBEDDING)
        self.log_scale = nn.Parameter(torch.tensor(10.0).log())
        self.offset = nn.Parameter(torch.tensor(-5.0))

    def look(self, frames: Float[Tensor, "batch 5 3 h w"]) -> Float[Tensor, "batch 128"]:
        """Embeddings of frames in a row in [-1, 1], of length 1."""
        lower = frames[..., frames.shape[-2] // 2 :, :].flatten(1, 2)
        lower = F.interpolate(
            lower, (SIDE // 2, SIDE), mode="bilinear", antialias=frames.shape[-1] > SIDE
        )
        return F.normalize(precise(self.faces(lower)))

    def listen(self, pieces: Float[Tensor, "batch 1 80 16"]) -> Float[Tensor, "batch 128"]:
        """Embeddings of the sound around the middle frame, of length 1."""
        return F.normalize(precise(self.sounds(self.encoder(pieces))))

    def match(self, looks: Tensor, sounds: Tensor) -> Tensor:
        """Logits of every look with every sound."""
        return looks @ sounds.mT * self.log_scale.exp() + self.offset

    def forward(
        self, frames: Float[Tensor, "batch 5 3 h w"], pieces: Float[Tensor, "batch 1 80 16"]
    ) -> Float[Tensor, " batch"]:
        """Logits of each row of frames with its own sound."""
        cosine = (self.look(frames) * self.listen(pieces)).sum(1)
        return cosine * self.log_scale.exp() + self.offset
