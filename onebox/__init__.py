"""Ladle on one machine: a Kubernetes-compatible API server, a node that runs pods as processes, Knative's behaviour, Envoy."""
