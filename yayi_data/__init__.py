"""Validate, convert and tokenize chat training data into Arrow shards with exact loss masks."""

__version__ = "0.1.0"
