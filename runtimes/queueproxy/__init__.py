"""Knative's queue-proxy as a process of its own, in front of an HTTP server that is not ours."""
