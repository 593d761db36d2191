"""Publish a checkpoint: a Hub folder, uploaded with the user's own login where a repository is named."""

from __future__ import annotations

from pathlib import Path

from lam3c_plugin.checkpoints.opening import require
from lam3c_plugin.errors import CheckpointError
from lam3c_plugin.zoo.hub import failures


def upload(folder: Path, repo: str, *, private: bool = False) -> str:
    """Upload a folder with the token that ``hf auth login`` or ``HF_TOKEN`` gave; returns the commit's address.

    Raises:
        CheckpointError: no login, no right, no connection. The folder stays.
    """
    hub, errors = require("huggingface_hub"), require("huggingface_hub.errors")
    left = f"{folder} is complete and stays"
    if not hub.get_token():
        raise CheckpointError(f"nobody is logged in to the Hub; run `hf auth login`, then this again; {left}")
    try:
        api = hub.HfApi(library_name="lam3c")
        api.create_repo(repo, private=private, exist_ok=True)
        commit = api.upload_folder(repo_id=repo, folder_path=str(folder), commit_message="LAM3C checkpoint")
    except (*failures(errors), ValueError) as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise CheckpointError(
            f"uploading to {repo} failed ({reason:.160}); check the name, your rights and the connection; {left}"
        ) from error
    return str(getattr(commit, "commit_url", commit))
