"""Readout: neighbors -> numbers. Pure functions of arrays."""
