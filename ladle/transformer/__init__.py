"""Transformers: models that change a request, ask a predictor, and change its answer."""
