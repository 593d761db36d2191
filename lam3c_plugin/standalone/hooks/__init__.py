"""Hooks of the embedded engine, under the host's names; importing this package registers them."""

from .default import HookBase, ModelHook

__all__ = ["HookBase", "ModelHook"]
