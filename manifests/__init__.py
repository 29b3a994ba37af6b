"""Manifests as data of the package: custom resource definitions, runtimes, and what a onebox starts with."""
