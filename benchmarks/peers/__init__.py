"""The servers that benchmarks/serving runs, each a program of its own and most in an environment of their own.

All serve the same two models under the same names: `iris`, a scikit-learn estimator, and `image`, the mean of each channel
of an image. They take `--http_port`, `--grpc_port` and `--models`, a directory with `NAME/model.joblib` for each estimator.
"""
