"""The storage initializer: brings a model's files to where its server looks for them, or says why it could not."""
