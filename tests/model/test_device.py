"""What the names of devices stand for, where there is no GPU."""

import pytest
import torch

from causalrn.model import device as module
from causalrn.model.device import DeviceError, backend_for, chosen_device, default_pool_bytes
from causalrn.model.machine import usable_bytes


@pytest.fixture(autouse=True)
def no_interpreter(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TRITON_INTERPRET")


def _has_gpu(monkeypatch: pytest.MonkeyPatch, *, triton: bool = True) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    if not triton:
        monkeypatch.setattr(module, "find_spec", lambda _: None)


def test_auto_is_the_cpu_where_there_is_no_gpu() -> None:
    assert (chosen_device("auto"), backend_for("auto")) == ("cpu", "cpu")
    with pytest.raises(DeviceError, match=r"finds no GPU.*take the device cpu, or auto"):
        chosen_device("cuda")


def test_auto_is_a_gpu_that_can_be_used(monkeypatch: pytest.MonkeyPatch) -> None:
    _has_gpu(monkeypatch)
    assert (chosen_device("auto"), backend_for("auto"), backend_for("cpu")) == (
        "cuda",
        "gpu",
        "cpu",
    )


def test_a_gpu_needs_triton(monkeypatch: pytest.MonkeyPatch) -> None:
    _has_gpu(monkeypatch, triton=False)
    assert chosen_device("auto") == "cpu"
    with pytest.raises(DeviceError, match="pip install"):
        chosen_device("cuda")


def test_an_interpreted_device_is_taken_only_if_it_is_asked_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("TRITON_INTERPRET", "1")
    assert (chosen_device("cuda"), chosen_device("auto")) == ("cuda", "cpu")


def test_a_pool_takes_half_of_what_is_free_on_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    assert default_pool_bytes("auto") == usable_bytes() // 16
    _has_gpu(monkeypatch)
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda: (10 * 2**30, 80 * 2**30))
    assert default_pool_bytes("auto") == default_pool_bytes("cuda") == 5 * 2**30
    assert default_pool_bytes("cpu") == usable_bytes() // 16
    _has_gpu(monkeypatch, triton=False)
    assert default_pool_bytes("auto") == usable_bytes() // 16
