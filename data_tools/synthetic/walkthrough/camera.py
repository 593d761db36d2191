"""What a phone's camera does to a picture: automatic exposure, motion blur, vignette, noise."""

from __future__ import annotations

import numpy as np

TARGET = 124.0  # mean brightness that the automatic exposure aims at
FOLLOW = 0.7  # how far it gets there: light rooms stay lighter
SHUTTER = 0.3  # exposure time as a share of the frame interval
NOISE = 1.6  # of the sensor, standard deviation in 0..255
SPARE = 64  # pixels by which the noise is larger than the picture, to be moved by


class PhoneCamera:
    """Turns rendered colours into video frames."""

    def __init__(self, intrinsics: np.ndarray, size: tuple[int, int], seed: int) -> None:
        self.seed, self.focal, self.center = seed, float(intrinsics[0, 0]), tuple(map(float, intrinsics[:2, 2]))
        width, height = size
        self.x, self.y = np.meshgrid(np.arange(width, dtype=np.float32), np.arange(height, dtype=np.float32))
        self.ray_x = ((self.x - self.center[0]) / self.focal).astype(np.float32)
        self.ray_y = ((self.y - self.center[1]) / self.focal).astype(np.float32)
        radius = self.ray_x**2 + self.ray_y**2
        self.vignette = (1 - 0.20 * radius / float(radius.max()))[..., None].astype(np.float32)
        rng = np.random.default_rng([seed, 23])
        self.grain = rng.standard_normal((height + SPARE, width + SPARE, 3), dtype=np.float32) * np.float32(NOISE)

    def expose(self, color: np.ndarray, depth: np.ndarray, motion: np.ndarray, frame: int) -> np.ndarray:
        """A frame (H, W, 3) uint8 RGB.

        Args:
            color: (H, W, 3) float32 rendered at mid exposure.
            depth: (H, W) metres, 0 where nothing is.
            motion: (4, 4) camera now to camera one frame later.
            frame: number, picks the noise.
        """
        brightness = max(float(np.minimum(color[::4, ::4], 255).mean()), 1.0)
        gain = np.float32(float(np.clip((TARGET / brightness) ** FOLLOW, 0.55, 1.9)))
        image = self._blur(color, depth, motion) * self.vignette * gain
        bright = image > 200  # highlights roll off before they clip
        image[bright] = 200 + 55 * (1 - np.exp(-(image[bright] - 200) / 55))
        i, j = np.random.default_rng([self.seed, 29, frame]).integers(0, SPARE, 2)
        height, width = depth.shape
        image += self.grain[i : i + height, j : j + width]
        return np.clip(image + 0.5, 0, 255).astype(np.uint8)

    def _blur(self, color: np.ndarray, depth: np.ndarray, motion: np.ndarray) -> np.ndarray:
        """The mean over the exposure, along the flow that depth and motion give."""
        import cv2

        z = np.where(depth > 0, depth, np.float32(1e3))
        m = np.linalg.inv(motion).astype(np.float32)  # where this pixel's point was: later camera as the frame
        x, y = self.ray_x * z, self.ray_y * z
        rows = [m[i, 0] * x + m[i, 1] * y + m[i, 2] * z + m[i, 3] for i in range(3)]
        depth_later = np.maximum(rows[2], 0.02)
        flow_x = (rows[0] / depth_later * self.focal + self.center[0] - self.x) * np.float32(SHUTTER)
        flow_y = (rows[1] / depth_later * self.focal + self.center[1] - self.y) * np.float32(SHUTTER)
        longest = float(np.percentile(np.hypot(flow_x[::8, ::8], flow_y[::8, ::8]), 95))
        if longest < 0.4:
            return color
        taps = int(np.clip(np.ceil(longest / 1.5), 2, 7))
        total = np.zeros_like(color)
        for share in ((np.arange(taps) + 0.5) / taps - 0.5).astype(np.float32):
            at = self.x + share * flow_x, self.y + share * flow_y
            total += cv2.remap(color, *at, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
        return total / taps
