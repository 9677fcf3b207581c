"""Which tiles of tokens have anything to do with which tiles of queries."""
