from causalrn.server import __version__
from tests.server.live_server import LiveServer


def test_info_says_what_is_served(shared: LiveServer) -> None:
    with shared.client() as client:
        info = client.get("/info").json()
    assert info["model"] == "fake-copy"
    assert info["models"] == ["fake-copy"]
    assert info["fingerprint"] == "0" * 64
    assert info["version"] == __version__
    assert info["config"] == shared.model.config.to_dict()
    assert info["tokenizer"] == {
        "name": "bytes", "vocab_size": 259, "bos_id": 256, "sep_id": 257, "eos_id": 258,
    }  # fmt: skip
    assert info["task"] == {"name": "copying", "modes": ["copy", "raw"]}
    assert info["limits"] == {
        "max_seq_len": 4096,
        "max_tokens": 131072,
        "max_body_bytes": 65536,
        "max_running": 8,
        "max_waiting": 16,
        "max_batch_tokens": 32,
        "pool_tokens": 1024,
        "pool_bytes": 5248,
        "pool_dtype": "float32",
        "max_samples": 32,
        "max_logprobs": 20,
        "max_sessions": 100_000,
        "max_session_tokens": 4096,
        "session_ttl_seconds": 604_800.0,
        "max_snapshot_bytes": 4096 * (8 + 4) + 4096 + 256,
        "max_stop_strings": 4,
        "max_stop_length": 256,
    }
