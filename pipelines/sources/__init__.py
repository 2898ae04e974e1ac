"""Datasets that the download stage knows, one module each, and what these share."""
