"""PodAutoscaler and ServerlessService: what the autoscaler decided and where requests go, as Knative's own objects show it."""
