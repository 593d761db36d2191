"""The report's section on what the terms of the loss pull at."""

from __future__ import annotations

from experiments.learning.markdown import table
from experiments.learning.scores import Results
from experiments.learning.terms import REGULARISERS

NAMES = {"laplacian_loss": "Laplacian", "consistency_loss": "consistency"}


def section(results: Results) -> str:
    """Length and direction of the regularisers' gradients beside that of the clustering; "" where nobody measured."""
    runs = results.data.get("terms", [])
    if not runs:
        return ""
    steps = runs[0]["steps"]
    body = []
    for name in REGULARISERS:
        if all(name in item["terms"] for item in steps):
            terms = [item["terms"][name] for item in steps]
            body.append((NAMES[name], *(f"{term['share']:.3f}, {term['cosine']:+.2f}" for term in terms)))
    if not body:
        return ""
    header = ("term", *(f"step {item['step']}" for item in steps))
    return f"""## What the regularisers pull at

Gradients on the student's encoder, full LAM3C of seed {runs[0]["seed"]}, a few batches: length of the weighted term
over that of the clustering's three together, and the cosine between the two (-1: straight against it).

{table(header, body)}{_against(steps)}"""


def _against(steps: list[dict]) -> str:
    last = steps[-1]["terms"]
    against = [NAMES[name] for name in REGULARISERS if name in last and last[name]["cosine"] < 0]
    if not against:
        return ""
    who = " and ".join(against) + (" pulls" if len(against) == 1 else " pull")
    return (
        f"\n\nAt the end {who} against the clustering: regularisers they are, and what they take from so short a\n"
        "clustering has to be set against what they give."
    )
