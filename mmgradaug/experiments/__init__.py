"""Sweeps over seeds, the paper's tables as data, the report, the quick starts: what ``mmgradaug`` commands do."""
