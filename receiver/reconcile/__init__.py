"""Reconcile: compare the mirror with the source's own list, and repair what webhooks alone cannot have told."""

from receiver.reconcile.reconciling import date_back, reconcile
from receiver.reconcile.report import Report

__all__ = ["Report", "date_back", "reconcile"]
