"""Rows in, features to the predictor."""
