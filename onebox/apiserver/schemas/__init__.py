"""Schemas of Kubernetes' own kinds as data (`builtin.json`), and the script that makes them (`generate`)."""
