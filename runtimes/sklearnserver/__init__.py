"""scikit-learn models: one .joblib, .pkl or .pickle file."""
