"""How fast: the paper's two stages timed, for every network, and beside the official one in PyTorch."""
