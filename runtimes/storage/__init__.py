"""The storage initializer: gets a model's files from where they are to where a server expects them."""
