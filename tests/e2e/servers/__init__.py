"""Programs that the fixtures of Knative's own tests run as containers; each is started by `python -m`."""
