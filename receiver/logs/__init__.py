"""What is logged, and how text that others wrote is made safe to show."""
