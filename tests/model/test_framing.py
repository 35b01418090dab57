from model.framing import frame, modes
from tests.model.tiny import tiny_config


def test_a_prompt_is_framed_as_in_training() -> None:
    config = tiny_config()
    bos, sep = config.bos_id, config.sep_id
    assert frame(config, [3, 4]) == [bos, 3, 4, sep]
    assert frame(config, [3, 4], "recall") == [bos, sep, 3, 4]
    assert frame(config, [3, 4], "raw") == [3, 4]


def test_only_models_that_were_trained_for_it_recall() -> None:
    assert modes(tiny_config()) == ("copy", "raw")
    coupled = tiny_config(positions="coupled", d_position=4, recall=True)
    assert modes(coupled) == ("copy", "recall", "raw")
