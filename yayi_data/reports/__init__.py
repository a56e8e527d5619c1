"""The formats in which a validation is reported, one a file."""
