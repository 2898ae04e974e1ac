"""How params.yaml may fill a dataclass: no unknown key, no silent conversion, finite numbers."""

STRICT = {"extra": "forbid", "strict": True, "allow_inf_nan": False}
