"""What a phone's camera does to a picture: exposure, motion blur, vignette, noise; and the exposure's lag."""

from __future__ import annotations

import numpy as np

TARGET = 124.0  # mean brightness that the automatic exposure aims at
LAG = 0.9  # seconds it takes to follow
NOISE_SIZE = 1024


def exposure_gains(brightness: np.ndarray, time: np.ndarray, frame_time: np.ndarray) -> np.ndarray:
    """Gain of every frame (F,) from the scene's mean brightness at some times: follows late, drifts a little."""
    wanted = np.clip(TARGET / np.maximum(brightness, 1.0), 0.55, 1.9)
    wanted = np.interp(frame_time, time, wanted)
    step = float(frame_time[1] - frame_time[0]) if len(frame_time) > 1 else LAG
    keep = float(np.exp(-step / LAG))
    gain = np.empty(len(frame_time))
    value = float(wanted[0])
    for i, goal in enumerate(wanted):
        value = keep * value + (1 - keep) * float(goal)
        gain[i] = value
    return gain * (1 + 0.03 * np.sin(2 * np.pi * frame_time / 7.7))


class PhoneCamera:
    """Turns rendered colours into video frames.

    Args:
        intrinsics: (3, 3).
        size: (width, height).
        shutter: exposure time as a share of the frame interval; 0 switches motion blur off.
        noise: standard deviation of the sensor's noise, in 0..255.
        seed: of the noise.
    """

    def __init__(self, intrinsics: np.ndarray, size: tuple[int, int], shutter: float, noise: float, seed: int) -> None:
        self.shutter, self.seed = shutter, seed
        self.focal, center = float(intrinsics[0, 0]), intrinsics[:2, 2]
        width, height = size
        self.x, self.y = np.meshgrid(np.arange(width, dtype=np.float32), np.arange(height, dtype=np.float32))
        self.ray_x = ((self.x - center[0]) / self.focal).astype(np.float32)
        self.ray_y = ((self.y - center[1]) / self.focal).astype(np.float32)
        self.center = (float(center[0]), float(center[1]))
        radius = (self.ray_x**2 + self.ray_y**2) / float((self.ray_x**2 + self.ray_y**2).max())
        self.vignette = (1 - 0.20 * radius)[..., None].astype(np.float32)
        rng = np.random.default_rng([seed, 23])
        self.grain = rng.standard_normal((height + 64, width + 64, 3), dtype=np.float32) * np.float32(noise)

    def expose(self, color: np.ndarray, depth: np.ndarray, motion: np.ndarray, gain: float, frame: int) -> np.ndarray:
        """A frame (H, W, 3) uint8 RGB.

        Args:
            color: (H, W, 3) float32 rendered at mid exposure.
            depth: (H, W) metres, 0 where nothing is.
            motion: (4, 4) camera now to camera one frame later.
            gain: of the exposure.
            frame: number, picks the noise.
        """
        image = self._blur(color, depth, motion)
        image = image * self.vignette * np.float32(gain)
        bright = image > 200  # highlights roll off before they clip
        image[bright] = 200 + 55 * (1 - np.exp(-(image[bright] - 200) / 55))
        rng = np.random.default_rng([self.seed, 29, frame])
        i, j = rng.integers(0, 64, 2)
        height, width = depth.shape
        image += self.grain[i : i + height, j : j + width]
        return np.clip(image + 0.5, 0, 255).astype(np.uint8)

    def _blur(self, color: np.ndarray, depth: np.ndarray, motion: np.ndarray) -> np.ndarray:
        """The mean over the exposure, along the flow that depth and motion give."""
        import cv2

        if self.shutter <= 0:
            return color.copy()
        z = np.where(depth > 0, depth, np.float32(1e3))
        m = np.linalg.inv(motion).astype(np.float32)  # where this pixel's point was: later camera as the frame
        x, y = self.ray_x * z, self.ray_y * z
        rows = [m[i, 0] * x + m[i, 1] * y + m[i, 2] * z + m[i, 3] for i in range(3)]
        depth_later = np.maximum(rows[2], 0.02)
        flow_x = (rows[0] / depth_later * self.focal + self.center[0] - self.x) * self.shutter
        flow_y = (rows[1] / depth_later * self.focal + self.center[1] - self.y) * self.shutter
        longest = float(np.percentile(np.hypot(flow_x[::8, ::8], flow_y[::8, ::8]), 95))
        if longest < 0.4:
            return color.copy()
        taps = int(np.clip(np.ceil(longest / 1.5), 2, 7))
        total = np.zeros_like(color)
        for share in (np.arange(taps) + 0.5) / taps - 0.5:
            share = np.float32(share)
            total += cv2.remap(
                color,
                self.x + share * flow_x,
                self.y + share * flow_y,
                cv2.INTER_LINEAR,
                borderMode=cv2.BORDER_REPLICATE,
            )
        return total / taps
