"""Indexed PIM: its entities, its webhook screens and its log of deliveries."""
