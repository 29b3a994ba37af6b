"""The life of an object inside the server: from a body to its stored form, and back to an answer."""
