"""A program that a template can fork in tests."""
