"""Indexed PIM: its entities, its administration and its log."""
