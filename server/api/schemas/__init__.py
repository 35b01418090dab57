"""The fields of requests and answers, as JSON."""
