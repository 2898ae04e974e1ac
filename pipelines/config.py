"""params.yaml section → frozen, strict configuration object of a stage."""

import json
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError


class StageConfig(BaseModel):
    """Parent of every section: frozen, no unknown key, no silent conversion of types."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)


class ConfigError(ValueError):
    """A key of params.yaml is missing, unknown, of the wrong type or out of range."""


Section = TypeVar("Section", bound=StageConfig)


def load_config(cls: type[Section], section: str, path: Path = Path("params.yaml")) -> Section:
    """The section of params.yaml as its configuration object.

    Raises:
        ConfigError: names every offending key by its full path, with the value found.
    """
    params = read_params(path)
    if section not in params:
        raise ConfigError(f"{path}: section '{section}' is missing (has: {', '.join(params)})")
    try:
        # JSON mode: strict about types, yet lists may fill tuples and mappings dataclasses
        return cls.model_validate_json(json.dumps(params[section], default=str))
    except ValidationError as error:
        lines = [_explain(section, problem) for problem in error.errors()]
        raise ConfigError(f"{path}: " + "; ".join(lines)) from None


def read_params(path: Path = Path("params.yaml")) -> dict[str, Any]:
    """All of params.yaml as a plain dictionary."""
    if not path.is_file():
        raise ConfigError(f"{path}: not found; run from the project's root folder")
    try:
        params = yaml.safe_load(path.read_text(encoding="utf-8"))
    except yaml.YAMLError as error:
        raise ConfigError(f"{path}: not valid YAML: {error}") from None
    if not isinstance(params, dict):
        raise ConfigError(f"{path}: expected sections, found {type(params).__name__}")
    return params


def _explain(section: str, problem: dict[str, Any]) -> str:
    where = ".".join([section, *map(str, problem["loc"])])
    if problem["type"] == "extra_forbidden":
        return f"{where}: unknown key"
    if problem["type"] == "missing":
        return f"{where}: missing key"
    hint = ""
    value = problem["input"]
    if isinstance(value, str) and "e" in value.lower():
        hint = " (YAML reads 1e-4 as text: write 1.0e-4)"
    return f"{where}: {problem['msg']}, found {value!r}{hint}"
