"""The error of measurements that cannot be made."""


class EvaluationError(ValueError):
    """A measurement that cannot be made with this model or these texts. The message says why."""
