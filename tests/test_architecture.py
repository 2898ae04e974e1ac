"""The floor plan: who imports whom, one word per stage, file lengths, deps, banned keys."""

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parent.parent
PACKAGES = ("fixtalk", "metrics", "pipelines")
SOURCES = sorted(p for name in PACKAGES for p in (ROOT / name).rglob("*.py"))
STAGES = (
    "download", "crop", "judge", "expert", "train", "generate", "score", "localise", "leaderboard",
)  # fmt: skip
FENCES = {
    "ray": {f"pipelines/{name}.py" for name in ("cluster", "feed", "worker", "worker_group")},
    "mlflow": {"pipelines/tracking.py"},
    "dvc": set(),
    "argparse": set(),
    "hydra": set(),
    "torchvision": set(),
}
README = (ROOT / "README.md").read_text()
DVC = yaml.safe_load((ROOT / "dvc.yaml").read_text())
PARAMS = yaml.safe_load((ROOT / "params.yaml").read_text())


def imports(path):
    """Dotted names that a source file imports, anywhere in it."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
    return names


def own_modules(path):
    """Files of this project that a source file imports, closed over what those import."""
    found, todo = set(), [path]
    while todo:
        for name in imports(todo.pop()):
            stem = ROOT / name.replace(".", "/")
            for file in (stem.with_suffix(".py"), stem / "__init__.py"):
                if file.is_file() and file not in found:
                    found.add(file)
                    todo.append(file)
    return found


@pytest.mark.parametrize("path", SOURCES, ids=lambda p: str(p.relative_to(ROOT)))
def test_source_file_keeps_to_the_plan(path):
    me = str(path.relative_to(ROOT))
    package = me.split("/")[0]
    roots = {name.split(".")[0] for name in imports(path)}

    forbidden = {"fixtalk": {"metrics", "pipelines"}, "metrics": {"fixtalk", "pipelines"}}
    assert not roots & forbidden.get(package, set())
    for library, allowed in FENCES.items():
        assert library not in roots or me in allowed, f"{me} imports {library}"
    assert len(path.read_text().splitlines()) <= 300
    assert path.stem != "base"
    assert not any(word in path.stem for word in ("util", "helper", "common", "misc", "manager"))


@pytest.mark.parametrize("path", SOURCES, ids=lambda p: str(p.relative_to(ROOT)))
def test_functions_are_short(path):
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.FunctionDef):
            assert node.end_lineno - node.lineno + 1 <= 60, f"{path}: {node.name}"


@pytest.mark.parametrize("stage", STAGES)
def test_one_word_per_stage(stage):
    source = (ROOT / "pipelines" / f"{stage}.py").read_text()

    assert f"def {stage}(" in source
    config = f"{stage.capitalize()}Config"
    assert f"class {config}(StageConfig)" in source or f"import {config}\n" in source
    assert stage in PARAMS
    assert stage in DVC["stages"]
    assert (ROOT / "tests" / f"test_{stage}.py").is_file()


def test_stages_never_import_one_another():
    for stage in STAGES:
        names = imports(ROOT / "pipelines" / f"{stage}.py")
        others = {f"pipelines.{other}" for other in STAGES if other != stage}
        assert not names & others


@pytest.mark.parametrize("stage", STAGES)
def test_deps_cover_imports(stage):
    body = DVC["stages"][stage]
    deps = [ROOT / dep for dep in body.get("do", body)["deps"] if "$" not in dep]
    needed = {ROOT / "pipelines" / f"{stage}.py"} | own_modules(ROOT / "pipelines" / f"{stage}.py")

    missing = {
        str(file.relative_to(ROOT))
        for file in needed
        if file.name != "__init__.py"
        and not any(file == dep or dep in file.parents for dep in deps)
    }

    assert missing == set()


def test_a_metric_that_crop_does_not_ask_crops_nothing_again():
    deps = [ROOT / dep for dep in DVC["stages"]["crop"]["do"]["deps"] if "$" not in dep]
    used = own_modules(ROOT / "pipelines" / "crop.py")

    idle = [path for path in (ROOT / "metrics").glob("*.py") if path not in used]

    assert len(idle) > 5
    assert not [path for path in idle if any(dep in (path, *path.parents) for dep in deps)]


def test_every_module_stands_in_the_readmes_tree():
    tree = set(re.findall(r"\w+\.py", README.partition("## The tree")[2]))

    assert {path.name for path in SOURCES} - tree == {"__init__.py"}


def test_the_tracking_that_the_readme_gives_away_is_all_that_it_needs():
    names = re.search(r"`pipelines/\{(tracking.*)\}\.py`", README)[1].split(",")
    given = {ROOT / "pipelines" / f"{name}.py" for name in names}

    tracking = ROOT / "pipelines" / "tracking.py"
    assert given == {tracking} | own_modules(tracking)


def test_base_and_variants_are_trained_by_one_stage():
    base, variants = DVC["stages"]["base"], DVC["stages"]["train"]["do"]

    assert base["params"] == variants["params"]
    assert [*base["deps"], "${path.models}/base"] == variants["deps"]
    assert base["outs"] == ["${path.models}/base"]
    assert DVC["stages"]["train"]["foreach"] == [
        name for name in PARAMS["train"]["variants"] if name != "base"
    ]


def test_params_hold_no_key_that_dvc_ignores():
    def keys(value):
        if isinstance(value, dict):
            for key, inner in value.items():
                yield key
                yield from keys(inner)
        elif isinstance(value, list):
            for inner in value:
                yield from keys(inner)

    # DVC leaves keys of these names out of its hash: a change would not re-run the stage
    assert not set(keys(PARAMS)) & {"size", "nfiles"}


STEP = """
import builtins, os, sys
before = set(os.listdir("."))
known, real = {"torch", "numpy", "fixtalk", *sys.stdlib_module_names}, builtins.__import__
def fence(name, scope=None, *rest):
    ours = (scope or {}).get("__name__", "").startswith("fixtalk")
    if ours and name.split(".")[0] not in known:
        raise ModuleNotFoundError(name)
    return real(name, scope, *rest)
builtins.__import__ = fence
import torch, fixtalk.training as t
from fixtalk.model import ModelConfig
config = ModelConfig(resolution=64, width=0.03125, widest=16, latent=64, lips=2, poses=2,
                     expressions=2, align_corners=True)
state = t.start(config, (0.0, 0.99), 0)
frames = torch.zeros(2, 3, 64, 64)
phase = t.Phase(trains={"generator": 1.0}, learning_rate=(1e-3, 1e-3),
                discriminator=None, weights={"l_rec": 1.0})
batch = t.Batch(frames, frames, frames, torch.ones(2, dtype=torch.bool))
method = t.Method(decay=0.9, bfloat16=False, margin=0.2, alignment="student||teacher")
share = [t.Microbatch(batch, 1.0)]
print(t.train_step(state, share, [t.Stretch("s", phase, 1)], method))
"""
IMPORTS = """
builtins.__import__ = real
for name in [name for name in sys.modules if name.startswith("fixtalk")]:
    del sys.modules[name]  # imported behind the fence
import importlib
for name in MODULES: importlib.import_module(name)
heavy = {"ray", "mlflow", "torchvision", "facenet_pytorch"} & set(sys.modules)
assert not heavy, heavy
assert set(os.listdir(".")) == before
"""


def test_a_step_needs_torch_and_numpy_only_and_importing_does_nothing():
    # a GPU box without network may have nothing else
    modules = [
        str(path.relative_to(ROOT).with_suffix("")).replace("/", ".")
        for path in SOURCES
        if path.name != "__init__.py"
    ]
    command = [sys.executable, "-c", STEP + IMPORTS.replace("MODULES", repr(modules))]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT)

    assert done.returncode == 0, done.stderr
    assert "l_rec" in done.stdout
