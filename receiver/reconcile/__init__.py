"""Reconcile: compare the mirror with the source's own list, and repair what lost webhooks left wrong."""

from receiver.reconcile.reconciling import date_back, reconcile
from receiver.reconcile.report import Report

__all__ = ["Report", "date_back", "reconcile"]
