"""The chain from videos to RoomTours: items, table of states, plan, executors."""
