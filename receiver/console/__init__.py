"""The console: pages on which people see faults with their causes, and act.

A page is a module in `pages`, a template in `templates`, and a line in `contents`.
"""
