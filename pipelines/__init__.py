"""Stages, one word and one file each, and what they share: all that knows disk, Ray and MLflow."""
