"""Metrics, protocols, plots and reproductions of published results."""
