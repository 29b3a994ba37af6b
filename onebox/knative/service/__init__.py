"""Knative Services: a Configuration and a Route, and what both say."""
