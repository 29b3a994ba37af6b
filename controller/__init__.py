"""The control plane: reconcilers that speak the Kubernetes API and nothing else.

On a cluster and on one machine the same code runs; it cannot tell which.
"""
