"""Model folders on the Hugging Face Hub or a mirror of it: fetched by repo and revision, checked, cached; and uploaded.

Every failure is a WeightsError that names the repo, the endpoint, the cache, and a remedy.
"""

import hashlib
import os
import re
import socket
import time
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from siammae.errors import WeightsError
from siammae.models.folder import check_folder

PREFIX = "hf-hub:"
SECONDS_TO_CONNECT = 3.0
NETWORK = "check the network, HF_ENDPOINT and proxies, or name a local model folder"  # remedy


class _Failure(Exception):
    """A failure with two arguments, reason and remedy."""


@dataclass(frozen=True)
class Repo:
    """A model repo of the Hub.

    Attributes:
        name: owner/name.
        revision: branch, tag or commit; None is the main branch.
    """

    name: str
    revision: str | None = None

    @classmethod
    def parse(cls, text: str) -> "Repo":
        """Parse "owner/name" or "owner/name@revision"; ValueError if it is neither."""
        match = re.fullmatch(r"([\w.-]+/[\w.-]+)(?:@([\w./-]+))?", text)
        if match is None or ".." in text:
            raise ValueError(f"{PREFIX}{text}: expected {PREFIX}owner/name or {PREFIX}owner/name@revision")
        return cls(match[1], match[2])

    @property
    def pinned(self) -> bool:
        """True if the revision is a commit, which always has the same files."""
        return self.revision is not None and re.fullmatch(r"[0-9a-f]{40}", self.revision) is not None

    def __str__(self) -> str:
        return f"{self.name}@{self.revision}" if self.revision else self.name


def fetch(
    repo: Repo,
    files: Sequence[str],
    *,
    sha256: str | None = None,
    cache_dir: str | os.PathLike[str] | None = None,
    token: str | bool | None = None,
    local_files_only: bool = False,
) -> Path:
    """Download these files of a repo at one commit; returns their cache folder.

    A commit that is in the cache costs no request. HF_ENDPOINT, HF_HOME, HF_TOKEN and HF_HUB_OFFLINE work as for
    every client of the Hub.

    Args:
        repo: repo and revision.
        files: names of the files; the first one decides the commit of the others.
        sha256: SHA-256 that the last file must have, in hexadecimal.
        cache_dir, token, local_files_only: as for `huggingface_hub.hf_hub_download`.

    Raises:
        WeightsError: the files cannot be fetched, or the last is damaged.
    """
    from huggingface_hub import constants, hf_hub_download, try_to_load_from_cache

    cache = Path(cache_dir or constants.HF_HUB_CACHE)
    with _reporting(repo, cache):
        if repo.pinned:
            cached = [try_to_load_from_cache(repo.name, file, cache, repo.revision) for file in files]
            if all(isinstance(path, str) for path in cached):
                return _checked(Path(str(cached[-1])), sha256).parent
        offline = local_files_only or constants.HF_HUB_OFFLINE
        unreachable = None if offline else _unreachable(constants.ENDPOINT)
        revision, began = repo.revision, time.time()
        for file in files:
            try:
                path = Path(
                    hf_hub_download(
                        repo.name,
                        file,
                        revision=revision,
                        cache_dir=cache,
                        token=token,
                        local_files_only=bool(offline or unreachable),
                        library_name="siammae",
                    )
                )
            except OSError as error:
                if unreachable is None:
                    raise
                raise _Failure(f"{unreachable}, and it is not in the cache", NETWORK) from error
            revision = path.parent.name
        fresh = path.stat().st_mtime >= began - 1
        return _checked(path, sha256 or (_promised(path) if fresh else None)).parent


def upload(repo: Repo, folder: Path, *, private: bool, create_pr: bool, token: str | bool | None, message: str) -> str:
    """Upload a folder, and make the repo if it does not exist.

    Returns:
        "owner/name@commit", or the address of the pull request.

    Raises:
        WeightsError: the Hub cannot be reached, or refuses.
    """
    from huggingface_hub import HfApi, constants

    with _reporting(repo, Path(constants.HF_HUB_CACHE)):
        if constants.HF_HUB_OFFLINE:
            raise _Failure("this client is offline", "unset HF_HUB_OFFLINE")
        if reason := _unreachable(constants.ENDPOINT):
            raise _Failure(reason, NETWORK)
        api = HfApi(token=token, library_name="siammae")
        if not create_pr:
            api.create_repo(repo.name, private=private, exist_ok=True)
        done = api.upload_folder(
            repo_id=repo.name, folder_path=folder, commit_message=message, create_pr=create_pr, ignore_patterns=[".*"]
        )
    return str(done.pr_url) if create_pr else f"{repo.name}@{done.oid}"


def is_cached(repo: Repo, files: Sequence[str], cache_dir: Path | None = None) -> bool:
    """Check whether all of these files are in the cache, without a request."""
    from huggingface_hub import try_to_load_from_cache

    return all(isinstance(try_to_load_from_cache(repo.name, file, cache_dir, repo.revision), str) for file in files)


def _promised(path: Path) -> str | None:
    """Return the SHA-256 that the Hub states for a large file, after which the cache names its copy; None for others."""
    name = path.resolve().name
    return name if re.fullmatch(r"[0-9a-f]{64}", name) else None


def _checked(path: Path, sha256: str | None) -> Path:
    """Check the digest of a file and return its path; a damaged file is removed from the cache."""
    if sha256 is None:
        return path
    with open(path, "rb") as file:
        actual = hashlib.file_digest(file, "sha256").hexdigest()
    if actual != sha256:
        for copy in {path.resolve(), path}:
            copy.unlink(missing_ok=True)
        raise _Failure(
            f"{path.name} has sha256 {actual}, expected {sha256}, so it was removed from the cache",
            "try again; if it stays so, the source is not to be trusted",
        )
    return path


def _unreachable(endpoint: str) -> str | None:
    """Find out within a few seconds why an endpoint cannot be reached; None if it can.

    Without a network the Hub's client would keep trying for half a minute.
    """
    address = urlsplit(endpoint)
    host = address.hostname or endpoint
    proxy = None if urllib.request.proxy_bypass(host) else urllib.request.getproxies().get(address.scheme)
    target = urlsplit(proxy if "://" in proxy else f"http://{proxy}") if proxy else address
    port = target.port or (443 if target.scheme == "https" else 80)
    try:
        socket.create_connection((target.hostname or host, port), timeout=SECONDS_TO_CONNECT).close()
    except OSError as error:
        return f"{target.hostname or host} cannot be reached ({error})"
    return None


@contextmanager
def _reporting(repo: Repo, cache: Path) -> Iterator[None]:
    """Turn every error on the way to the Hub into a WeightsError with a remedy."""
    from huggingface_hub import constants, errors

    try:
        yield
    except Exception as error:
        if isinstance(error, _Failure):
            reason, remedy = error.args
        elif isinstance(error, errors.GatedRepoError):
            reason = "its owner gives access on request"
            remedy = f"ask for it at {constants.ENDPOINT}/{repo.name}, then log in (hf auth login) or pass token="
        elif isinstance(error, errors.RepositoryNotFoundError):
            reason, remedy = "there is no such repo, or it is private", "check the name; log in (hf auth login) or pass token="
        elif isinstance(error, errors.RevisionNotFoundError):
            reason, remedy = "the repo has no such revision", "name a branch, a tag or a commit of it"
        elif isinstance(error, errors.LocalEntryNotFoundError):
            reason = "it is not in the cache, and this client is offline"
            remedy = "unset HF_HUB_OFFLINE, drop local_files_only, or name a local model folder"
            if not constants.HF_HUB_OFFLINE:
                reason = f"it is not in the cache ({_first_line(error)})"
        elif isinstance(error, errors.EntryNotFoundError):
            reason = f"it is no model folder ({_first_line(error)})"
            remedy = "name a repo that siammae or timm wrote, with config.json and model.safetensors"
        elif isinstance(error, OSError) and error.errno is not None:
            reason = f"the cache cannot be written: {error.strerror}"
            remedy = "make room there, or choose another place with cache_dir= or HF_HOME"
        else:
            reason, remedy = f"{type(error).__name__}: {_first_line(error)}", "try again, or name a local model folder"
        raise WeightsError(f"{PREFIX}{repo}, {constants.ENDPOINT}: {reason}. Cache: {cache}. Remedy: {remedy}") from error


def _first_line(error: BaseException) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]


def push_to_hub(
    folder: str | os.PathLike[str],
    repo_id: str,
    *,
    private: bool = False,
    create_pr: bool = False,
    token: str | bool | None = None,
    message: str = "Upload model",
) -> str:
    """Upload a model folder to the Hugging Face Hub, and make the repo if it does not exist.

    Args:
        folder: model folder that `save_model` wrote; it is loaded first, so that nothing damaged is published.
        repo_id: owner/name.
        private: make a new repo private.
        create_pr: propose the upload as a pull request instead of making it.
        token: token with write access; None takes that of `hf auth login` or HF_TOKEN.
        message: message of the commit.

    Returns:
        "owner/name@commit", which always names these very weights; for a pull request, its address.

    Raises:
        ValueError: `repo_id` is no owner/name.
        WeightsError: the folder is no complete model, or the Hub refused.
    """
    repo = Repo.parse(repo_id)
    check_folder(folder)
    return upload(repo, Path(folder), private=private, create_pr=create_pr, token=token, message=message)
