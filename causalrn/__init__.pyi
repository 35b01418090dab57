from .answer import Answer, Score
from .loaded import Model, load, names
from .session import Session
from .training import train

__all__ = ["Answer", "Model", "Score", "Session", "load", "names", "train"]
