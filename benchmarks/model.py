"""Published-size model at 512 px → GFLOP of each part, parameters, CPU-seconds and peak memory."""

import multiprocessing
import resource
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace

import torch
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from fixtalk.edi import EDIConfig
from fixtalk.emi import EMIConfig
from fixtalk.model import FixTalk, ModelConfig
from fixtalk.release import edtalk_config

BASE = edtalk_config(512)
FULL = replace(
    BASE,
    emi=EMIConfig(layers=4, queries=8, heads=8, hidden=1024),
    edi=EDIConfig(slots=256, sharpness=16.0, heads=8),
)
REPEATS = 3


def flops(config: ModelConfig) -> dict[str, int]:
    """Floating-point operations of one driver frame by part, the source encoded before.

    Two for each multiplication with addition. Nothing is computed: the tensors have shapes only.
    """
    with FakeTensorMode():
        model = FixTalk(config).requires_grad_(False)
        backbone, frame = model.backbone, torch.zeros(1, 3, config.resolution, config.resolution)
        source = model.encode_source(frame)
        vector, maps = backbone.features(frame)
        leak, motion = model.leak_map(maps), backbone.motion(vector)

        def detail() -> None:
            difference = model.motion_difference(source, motion)
            model.edi.enrich(leak, model.edi.recall(difference, source.token))

        parts = {
            "encoder": lambda: backbone.features(frame),
            "EMI": lambda: model.emi(maps) if model.emi else None,
            "motion heads": lambda: backbone.motion(vector),
            "EDI": lambda: detail() if model.edi else None,
            "generator": lambda: backbone.render(vector, maps, motion),
            "all": lambda: model.animate(source, model.motion(frame)),
        }
        return {name: _count(part) for name, part in parts.items()}


def _count(function: Callable[[], object]) -> int:
    # the fused attention kernels of the CPU are not counted, their plain counterpart is
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        function()
    return counter.get_total_flops()


def parameters(config: ModelConfig) -> int:
    """Number of weights."""
    with torch.device("meta"):
        return sum(weight.numel() for weight in FixTalk(config).parameters())


def run(config: ModelConfig) -> tuple[float, float, float]:
    """CPU-seconds of the source and of a driver frame, fewest of a few, and peak GiB.

    In a process of its own, one thread.
    """
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        return pool.submit(_run, config).result()


def _run(config: ModelConfig) -> tuple[float, float, float]:
    torch.set_num_threads(1)
    model, frame = FixTalk(config).eval(), torch.zeros(1, 3, config.resolution, config.resolution)
    with torch.inference_mode():
        source = model.encode_source(frame)
        encoding = _cpu_seconds(lambda: model.encode_source(frame))
        driving = _cpu_seconds(lambda: model.animate(source, model.motion(frame)))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return encoding, driving, peak / 2**20


def _cpu_seconds(function: Callable[[], object]) -> float:
    seconds = []
    for _ in range(REPEATS):
        start = time.process_time()
        function()
        seconds.append(time.process_time() - start)
    return min(seconds)


if __name__ == "__main__":
    base, full = flops(BASE), flops(FULL)
    print("| GFLOP a driver frame, 512 px | edtalk | fixtalk |\n|---|---|---|")
    for part, count in full.items():
        print(f"| {part} | {base[part] / 1e9:.2f} | {count / 1e9:.2f} |")
    print(f"\nextra: {100 * (full['all'] / base['all'] - 1):.2f} %\n")
    print(
        "| | parameters | source, CPU-s | driver frame, CPU-s | peak GiB |\n|---|---|---|---|---|"
    )
    for name, config in (("edtalk", BASE), ("fixtalk", FULL)):
        encoding, driving, peak = run(config)
        row = f"{parameters(config):,} | {encoding:.2f} | {driving:.2f} | {peak:.2f}"
        print(f"| {name} | {row} |")
