"""Findings, which tell people what needs them: rules over tallies of the past and over faults with one cause."""
