"""A capture: one self-contained MCAP file that holds what hatrace saw, to be judged again later."""
