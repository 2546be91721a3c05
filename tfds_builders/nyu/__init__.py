"""NYU Hand Pose (Tompson et al. 2014)."""
