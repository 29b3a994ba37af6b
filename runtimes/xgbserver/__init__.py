"""XGBoost models: one .bst, .json or .ubj file."""
