"""A revision under given traffic, in virtual time: the autoscaler's own pure functions over a model of pods and activator."""
