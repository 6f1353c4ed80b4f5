"""Measurements, never tests: each figure is a ratio against something named, taken side by side in one run."""
