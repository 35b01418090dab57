import json
from typing import Any

import pytest

from causalrn.server.http.compact_json import compact_json, compact_json_in_pieces


@pytest.mark.parametrize(
    "value",
    [
        None,
        "é\u2028",
        [],
        {},
        [[], [1, "a", None]],
        list(range(3000)),
        {"a": [{"b": [0.5] * 2000, "c\n": {}}, {}], "d": True, "e": ["x"] * 1025},
    ],
)
def test_pieces_make_the_same_document(value: Any) -> None:
    assert compact_json_in_pieces(value) == compact_json(value)
    assert json.loads(compact_json_in_pieces(value)) == value
