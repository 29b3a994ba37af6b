"""Routes: which revisions get which share of the requests under which names, as Istio's VirtualService."""
