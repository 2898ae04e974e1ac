"""PyPI torchvision beside a CPU-only torch → an importable torchvision; the only importer of it."""

import importlib
import sys
from functools import cache
from types import ModuleType
from typing import Any

import torch
from torch import Tensor

# The compiled extension of a CUDA torchvision cannot load beside a CPU torch; its Python code then
# fails on import because nobody declared these operators. Declaring them is enough.
OPERATORS = ("nms", "qnms")
SIGNATURE = "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor"


@cache
def install() -> str:
    """How torchvision was made importable: "native" (untouched) or "shim" (operators declared).

    Call it before importing a package that imports torchvision, in every process. A second call
    does nothing. The shim has a real kernel for `nms` only; no other compiled operator is there.
    """
    try:
        _torchvision()
    except RuntimeError as error:
        if "torchvision::nms" not in str(error):
            raise
    else:
        return "native"
    _forget_half_import()
    _declare_operators()
    extension = importlib.import_module("torchvision.extension")
    extension._has_ops = lambda: True  # asked again by every call of `torchvision.ops.nms`
    return "shim"


def non_maximum_suppression(boxes: Tensor, scores: Tensor, iou_threshold: float) -> Tensor:
    """Indices of the boxes kept, by falling score; a box goes if it overlaps a better one.

    Args:
        boxes: (boxes, 4) as x0, y0, x1, y1.
        scores: (boxes,).
        iou_threshold: intersection over union above which the weaker box goes.
    """
    order = torch.argsort(scores, descending=True, stable=True)
    # Plain arrays: with thousands of tiny steps the cost of a tensor operation is what counts.
    sorted_boxes = boxes[order].double().numpy()
    corner_low, corner_high = sorted_boxes[:, :2], sorted_boxes[:, 2:]
    areas = (corner_high - corner_low).prod(axis=1)
    alive = torch.arange(len(order)).numpy()
    kept = []
    while len(alive):
        best, rest = alive[0], alive[1:]
        kept.append(int(best))
        sides = corner_high[rest].clip(max=corner_high[best]) - corner_low[rest].clip(
            min=corner_low[best]
        )
        overlaps = sides.clip(min=0).prod(axis=1)
        alive = rest[overlaps <= iou_threshold * (areas[best] + areas[rest] - overlaps)]
    return order[torch.tensor(kept, dtype=torch.long)]


def _torchvision() -> ModuleType:
    return importlib.import_module("torchvision")


def _forget_half_import() -> None:
    """Take the modules of the failed import out of the table, so that the next one starts anew."""
    for name in [name for name in sys.modules if name.partition(".")[0] == "torchvision"]:
        del sys.modules[name]


@cache
def _declare_operators() -> Any:
    """The operator library; the cache keeps it, as the operators vanish with the object."""
    library = torch.library.Library("torchvision", "FRAGMENT")
    for operator in OPERATORS:
        library.define(operator + SIGNATURE)
    library.impl("nms", non_maximum_suppression, "CPU")
    return library
