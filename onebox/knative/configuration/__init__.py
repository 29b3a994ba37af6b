"""Configurations: one revision for each generation, and which of them is the latest that works."""
