"""Models on the Hugging Face Hub; needs the extra ``hub``, whose own settings say where it is and who one is there."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from coopserve.travel.layout import FILES, TravelError


def push(folder: Path, repo: str, *, private: bool, endpoint: str | None = None) -> str:
    """Upload the folder of a model; gives the address of the commit.

    Args:
        folder: as :func:`coopserve.travel.leaving.leave` has written it.
        repo: OWNER/NAME; made if it is not there.
        private: whether a repository that is made is private.
        endpoint: of the Hub.

    Raises:
        TravelError: it can't be done.
    """
    with _told(repo):
        from huggingface_hub import HfApi

        api = HfApi(endpoint=endpoint, library_name="coopserve")
        api.create_repo(repo, private=private, exist_ok=True)
        done = api.upload_folder(
            repo_id=repo, folder_path=folder, allow_patterns=list(FILES), commit_message="Upload a model of coopserve"
        )
        return str(done.commit_url)


def pull(repo: str, target: Path, *, revision: str | None = None, endpoint: str | None = None) -> None:
    """Download the files of a model into a folder, and no others.

    Args:
        repo: OWNER/NAME.
        target: the folder.
        revision: branch, tag or commit; None: the main branch.
        endpoint: of the Hub.

    Raises:
        TravelError: it can't be done.
    """
    with _told(repo):
        from huggingface_hub import snapshot_download

        snapshot_download(
            repo, revision=revision, local_dir=target, allow_patterns=list(FILES), endpoint=endpoint, max_workers=2
        )


@contextmanager
def _told(repo: str) -> Iterator[None]:
    """What goes wrong with the Hub, in a line."""
    try:
        from httpx2 import HTTPError
        from huggingface_hub.errors import HFValidationError, LocalTokenNotFoundError
    except ImportError:
        raise TravelError("the Hub needs the extra `hub`: pip install 'coopserve[hub]'") from None
    try:
        yield
    except (HTTPError, HFValidationError, LocalTokenNotFoundError, OSError) as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise TravelError(f"{repo}: {reason}") from None
