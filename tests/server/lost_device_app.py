"""For `uvicorn tests.server.lost_device_app:app`: a fake model on a device that fails."""

from causalrn.model.device import DeviceError
from causalrn.model.state import RaggedBatch
from causalrn.server.application import create_app
from tests.server.conftest import make_settings
from tests.server.fake_model import FakeModel


def _fail(batch: RaggedBatch) -> None:
    if len(batch.token_ids) == len(_PROMPT):
        raise DeviceError("the GPU failed: CUDA error: an illegal memory access")


_PROMPT = [256, *b"abc", 257]  # not what warms an engine up
_model = FakeModel()
_model.decoder.before_extend = _fail

app = create_app(make_settings(exit_on_device_error=True), load=lambda _: _model)
