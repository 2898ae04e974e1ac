"""params.paper.yaml over params.yaml → params.yaml of the published setting, comments kept."""

from pathlib import Path

from ruamel.yaml import YAML
from smoke import ROOT, merge


def choose(params: Path, changes: Path) -> None:
    """Write the changes over the parameters; doing it twice is doing it once."""
    yaml = YAML()
    yaml.width, yaml.preserve_quotes = 120, True
    merged = yaml.load(params)
    merge(merged, yaml.load(changes))
    unfinished = params.with_name(f".{params.name}.part")
    yaml.dump(merged, unfinished)
    unfinished.replace(params)


if __name__ == "__main__":
    choose(ROOT / "params.yaml", ROOT / "params.paper.yaml")
