"""ICVL Hand Posture (Tang et al. 2014)."""
