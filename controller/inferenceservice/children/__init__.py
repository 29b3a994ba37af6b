"""The objects that an InferenceService consists of, one builder for each. (pure)"""
