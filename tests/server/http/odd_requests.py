"""What requests are made of that are right but for one oddity."""

BODY = b'{"prompt": "hi"}'  # sixteen bytes
CHUNKED = b"transfer-encoding: chunked"
CHUNK = b"10\r\n" + BODY + b"\r\n"
