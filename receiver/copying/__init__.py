"""`hookmirror copy`: everything in one database into another."""
