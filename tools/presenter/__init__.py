"""The built-in presenter: its training data, its measures, its package."""
