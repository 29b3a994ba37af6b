"""LightGBM models: one .bst or .txt file."""
