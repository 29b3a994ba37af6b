"""PyTorch models: a TorchScript archive, a torch.export archive, or weights beside the class that they belong to."""
