"""The kinds as types: parsing, defaulting, validation. Pure: nothing here reads a server, a file or a clock."""
