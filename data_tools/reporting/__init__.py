"""The report over a RoomTours folder: what was made, what was left out and why, and the clouds to look at."""
