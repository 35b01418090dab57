"""CausalRN: an all-MLP decoder with a recurrent memory pool."""
