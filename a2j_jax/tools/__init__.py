"""Programs about the network: its speed, its memory on TPUs, and the tables of the paper."""
