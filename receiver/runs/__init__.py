"""What people set going: runs that are planned and watched, and the record of who did what."""
