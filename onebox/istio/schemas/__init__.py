"""Data: which number stands for which field of Envoy's messages."""
