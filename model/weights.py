"""Parameters of modules as NumPy arrays, which is what compiled kernels take."""

import numpy as np
from numpy.typing import NDArray
from torch import nn


class WeightViews:
    """NumPy views of float32 parameters, made anew only when a parameter has moved.

    Calling it is far cheaper than asking modules for their parameters, which a step of decoding
    cannot afford. What an optimizer or `load_state_dict` writes shows in the views.

    Args:
        places: modules and the names of their parameters.
    """

    def __init__(self, *places: tuple[nn.Module, str]) -> None:
        self._places = [(module._parameters, name) for module, name in places]
        self._pointers: list[int] = []
        self._views: tuple[NDArray[np.float32], ...] = ()

    def __call__(self) -> tuple[NDArray[np.float32], ...]:
        """The views, in the order of `places`."""
        pointers = [parameters[name].data_ptr() for parameters, name in self._places]  # type: ignore[union-attr]
        if pointers != self._pointers:
            parameters = [parameters[name] for parameters, name in self._places]
            self._views = tuple(p.detach().numpy() for p in parameters)  # type: ignore[union-attr]
            self._pointers = pointers
        return self._views
