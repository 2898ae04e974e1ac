"""params.yaml's phases → tests/golden/curves.json: their first 20 losses; run after a change."""

import json
import platform
import sys
from datetime import UTC, datetime
from pathlib import Path

import torch

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT))

from tests.conftest import pictures_that_move, recipe_of_params, state_of  # noqa: E402
from tests.test_training import CURVES, PHASES, curve  # noqa: E402


def main() -> None:
    """Write the curves of all phases."""
    torch.set_num_threads(1)
    recipe = recipe_of_params()
    curves = {
        name: {
            term: [round(step[term], 6) for step in history if term in step] for term in history[0]
        }
        for name in PHASES
        for history in [curve(recipe, state_of(), pictures_that_move(), name)]
    }
    made = {
        "tool": f"torch {torch.__version__}, {platform.machine()}, one thread, float32",
        "date": datetime.now(UTC).date().isoformat(),
        "tolerance": "2 % of each value, or 1e-3",
    }
    CURVES.write_text(json.dumps(made | {"curves": curves}, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
