"""The console: pages on which people see what is wrong and why, and act.

A page is a module in `pages`, a template in `templates`, and a line in `contents`.
"""
