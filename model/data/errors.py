"""What can be wrong with data."""


class DataError(ValueError):
    """Data that cannot be used. The message names the file, and the line if there is one."""
