"""Metrics, and their files shared between processes."""
