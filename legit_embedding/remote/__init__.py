"""Models that are computed elsewhere, behind HTTP."""
