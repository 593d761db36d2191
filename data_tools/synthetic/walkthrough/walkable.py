"""Where a person can walk in a room: a grid of free floor, distances to obstacles, shortest ways."""

from __future__ import annotations

import numpy as np

Box = tuple[float, float, float, float]
CELL = 0.05  # metres
CLEARANCE = 0.28  # metres between the camera and the nearest thing
SECTORS = 10


class FreeSpace:
    """Free floor of a rectangle with boxes on it.

    Args:
        bounds: (x0, y0, x1, y1) metres.
        obstacles: footprints of what stands there.
    """

    def __init__(self, bounds: Box, obstacles: list[Box]) -> None:
        from scipy import ndimage

        self.bounds = bounds
        x0, y0, x1, y1 = bounds
        columns, rows = int((x1 - x0) / CELL), int((y1 - y0) / CELL)
        self.x = x0 + (np.arange(columns) + 0.5) * CELL
        self.y = y0 + (np.arange(rows) + 0.5) * CELL
        blocked = np.zeros((rows + 2, columns + 2), bool)
        blocked[[0, -1]] = blocked[:, [0, -1]] = True
        for a, b, c, d in obstacles:
            inside = ((self.y > b) & (self.y < d))[:, None] & ((self.x > a) & (self.x < c))
            blocked[1:-1, 1:-1] |= inside
        self.distance = ndimage.distance_transform_edt(~blocked)[1:-1, 1:-1] * CELL
        self.free = self.distance > CLEARANCE

    def cell(self, place: tuple[float, float]) -> tuple[int, int]:
        """Row and column of the free cell nearest to a place."""
        rows, columns = np.nonzero(self.free)
        if not len(rows):
            raise ValueError("no free floor in this room; take another seed")
        nearest = np.argmin((self.x[columns] - place[0]) ** 2 + (self.y[rows] - place[1]) ** 2)
        return int(rows[nearest]), int(columns[nearest])

    def place(self, cell: tuple[int, int]) -> tuple[float, float]:
        """Centre of a cell in metres."""
        return float(self.x[cell[1]]), float(self.y[cell[0]])

    def reach(self, start: tuple[int, int]) -> np.ndarray:
        """Mask of the cells one can walk to."""
        from scipy import ndimage

        parts, _ = ndimage.label(self.free)
        return (parts == parts[start]) & self.free

    def quality(self, doors: list[tuple[float, float]]) -> float:
        """How well a room can be toured: 1 and more if one gets around in it from every door."""
        if not self.free.any():
            return 0.0
        cells = [self.cell(door) for door in doors]
        gaps = [np.hypot(*np.subtract(self.place(cell), door)) for cell, door in zip(cells, doors, strict=True)]
        reach = self.reach(cells[0])
        if max(gaps) > 0.45 or not all(reach[cell] for cell in cells):
            return 0.01 * float(reach.mean())
        covered = np.mean([place is not None for place in self.ring(cells[0])])
        return float(min(covered / 0.85, reach.mean() / 0.22, 1.2))

    def ring(self, start: tuple[int, int], share: float = 0.6) -> list[tuple[int, int] | None]:
        """A round through the room: per sector about its middle, the cell nearest to ``share`` of the way out."""
        rows, columns = np.nonzero(self.reach(start))
        x0, y0, x1, y1 = self.bounds
        wide, deep = (x1 - x0) / 2, (y1 - y0) / 2
        dx, dy = (self.x[columns] - (x0 + x1) / 2) / wide, (self.y[rows] - (y0 + y1) / 2) / deep
        radius, angle = np.hypot(dx, dy), np.arctan2(dy, dx)
        places: list[tuple[int, int] | None] = []
        for sector in range(SECTORS):
            middle = -np.pi + (sector + 0.5) * 2 * np.pi / SECTORS
            turn = np.abs(np.angle(np.exp(1j * (angle - middle))))
            cost = np.abs(radius - share) + 1.5 * turn - 0.5 * np.minimum(self.distance[rows, columns], 0.6)
            inside = (turn < np.pi / SECTORS) & (radius > 0.25)
            if not inside.any():
                places.append(None)
                continue
            best = int(np.argmin(np.where(inside, cost, np.inf)))
            places.append((int(rows[best]), int(columns[best])))
        return places

    def way(self, start: tuple[int, int], end: tuple[int, int]) -> np.ndarray:
        """Cheapest walk (K, 2) metres between two free cells; it keeps away from things where it can."""
        from scipy.sparse import coo_matrix
        from scipy.sparse.csgraph import dijkstra

        shape = self.free.shape
        number = np.arange(self.free.size).reshape(shape)
        cost = 1 + 3 * np.clip(0.55 - self.distance, 0, None) / 0.55
        heads, tails, weights = [], [], []
        for dy, dx in ((0, 1), (1, 0), (1, 1), (1, -1)):
            here = (slice(0, shape[0] - dy), slice(max(0, -dx), shape[1] - max(0, dx)))
            there = (slice(dy, shape[0]), slice(max(0, dx), shape[1] + min(0, dx)))
            both = self.free[here] & self.free[there]
            heads.append(number[here][both])
            tails.append(number[there][both])
            weights.append(np.hypot(dx, dy) * 0.5 * (cost[here][both] + cost[there][both]))
        graph = coo_matrix(
            (np.concatenate(weights), (np.concatenate(heads), np.concatenate(tails))), (number.size, number.size)
        )
        source, target = int(number[start]), int(number[end])
        _, before = dijkstra(graph, directed=False, indices=source, return_predecessors=True)
        path = [target]
        while path[-1] != source:
            path.append(int(before[path[-1]]))
            if path[-1] < 0:
                raise ValueError("no way between two places of a room; take another seed")
        rows, columns = np.unravel_index(path[::-1], shape)
        return np.stack([self.x[columns], self.y[rows]], axis=1)
