"""Findings, which are conditions that need a person: rules over tallies of the past and over faults with one cause."""
