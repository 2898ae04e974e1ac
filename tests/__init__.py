"""Tests: none = fast; marks `slow`, `gpu` and `weights` as in pyproject.toml."""
