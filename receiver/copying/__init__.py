"""`hookmirror copy`: copies everything in one database into another."""
