"""Which kinds there are: Kubernetes' own, and those that custom resource definitions add and take away."""
