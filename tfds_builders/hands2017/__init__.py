"""HANDS 2017 challenge (Yuan et al. 2017)."""
