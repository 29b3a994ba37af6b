"""Images in, tensors to the predictor, labels out."""
