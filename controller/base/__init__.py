"""What every part of the control plane stands on: clock, errors, logging, names. Imports nothing of the project."""
