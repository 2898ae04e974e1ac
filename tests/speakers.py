"""Models that hear: one drawn at random, and one whose lips are the loudness of the sound."""

from dataclasses import replace

import torch
from torch import nn

from fixtalk.model import FixTalk
from fixtalk.speech import SCALE, SpeechConfig
from tests.conftest import TINY

TINY_SPEECH = SpeechConfig(width=0.1, hidden=8, memory=2)


def speaking(seed=0):
    """Untrained, but everything that it hears or is told shows."""
    torch.manual_seed(seed)
    model = FixTalk(replace(TINY, speech=TINY_SPEECH)).eval()
    with torch.no_grad():
        speech = model.speech
        own = speech._lip_mood, speech._lip_own, speech._tone_own, speech._emotion_own
        for layer in (speech._lip, speech._tone, speech._emotion[-1], *own):
            layer.weight.normal_()
        speech._lids.normal_()
        for coupling in speech.pose.couplings:
            coupling.read[-1].weight.normal_(std=0.3)
        for weight in model.backbone.generator.parameters():
            weight += 0.1 * torch.randn_like(weight)  # untrained flows and masks start at zero
    return model


class Loudness(nn.Module):
    """Loudness at the frame itself: its columns are the seventh to the tenth of its piece."""

    def forward(self, pieces):
        """One feature a frame, 0 in silence."""
        return pieces[:, :, :, 6:10].mean((1, 2, 3))[:, None] + 4


def loudness_as_lips():
    """The model's first lip coefficient is the loudness of the frame."""
    model = speaking()
    model.speech.encoder = Loudness()
    model.speech._lip = nn.Linear(1, 6, bias=False)
    model.speech._tone = nn.Linear(1, 3, bias=False)
    with torch.no_grad():
        for layer in (model.speech._lip_own, model.speech._tone_own):
            layer.weight.zero_()
        model.speech._lip.weight.copy_(torch.eye(6)[:, :1] / SCALE)
    return model
