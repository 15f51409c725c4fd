"""What can be wrong with text, tokens and tokenizers."""


class DataError(ValueError):
    """Something read is not what it should be. The message names the file, what was found and expected, what to do."""
