"""The methods: where memory, index and readout meet."""
