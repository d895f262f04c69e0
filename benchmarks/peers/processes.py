"""Other engines, each environment's in one process that waits for texts between its turns."""

import json
import os
import shutil
import subprocess
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from benchmarks.classifier_data import BASE
from benchmarks.peers.environments import peer_python
from classifier.base_model import locate, quiet_transformers

PEERS = {
    "onnx_openvino": ("benchmarks.peers.classifier_engines", ("onnxruntime_int8", "openvino_bf16")),
    "infinity": ("benchmarks.peers.infinity_engine", ("infinity_fp32", "infinity_bf16")),
}
TOKENISER_FILES = ("tokenizer.json", "tokenizer_config.json", "vocab.txt", "special_tokens_map.json")


class PeerFailed(Exception):
    """A peer's process could not be started, or ended."""


@contextmanager
def open_peers(model, texts):
    """Name to seconds for texts, for each peer that answers the texts; the others are named with a reason."""
    started, found = [], {}
    with TemporaryDirectory() as folder:
        save_merged(model, Path(folder))
        try:
            for environment, (module, engines) in PEERS.items():
                try:
                    process = _start(environment, module, folder)
                except (subprocess.CalledProcessError, OSError) as why:
                    _skip(environment, why)
                    continue
                started.append(process)
                found |= _those_that_answer(process, engines, texts)
            yield found
        finally:
            for process in started:
                _end(process)


def _end(process) -> None:
    process.stdin.close()
    try:
        process.wait(timeout=20)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def save_merged(model, folder: Path) -> None:
    """Model and tokeniser in a directory that any version of transformers reads."""
    with quiet_transformers():
        model.save_pretrained(folder)
    for file in TOKENISER_FILES:
        shutil.copy(locate(BASE).directory / file, folder)


def _start(environment: str, module: str, folder: str) -> subprocess.Popen:
    python = peer_python(environment, borrow=True)
    return subprocess.Popen(
        [python, "-m", module, folder], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        env={**os.environ, "PYTHONPATH": str(Path.cwd()), "HF_HUB_OFFLINE": "1", "DO_NOT_TRACK": "1"},
    )  # fmt: skip


def _those_that_answer(process, engines, texts):
    answering = {}
    for engine in engines:
        run = _runner(process, engine)
        try:
            run(texts)
        except PeerFailed as why:
            _skip(engine, why)
        else:
            answering[engine] = run
    return answering


def _runner(process, engine: str):
    def run(texts) -> float:
        try:
            process.stdin.write(json.dumps({"engine": engine, "texts": list(texts)}) + "\n")
            process.stdin.flush()
        except BrokenPipeError as err:
            raise PeerFailed(f"{engine}: the process has ended") from err
        answer = process.stdout.readline()
        said = json.loads(answer) if answer else {"failed": "the process has ended; see above"}
        if "failed" in said:
            raise PeerFailed(f"{engine}: {said['failed']}")
        return said["seconds"]

    return run


def _skip(name: str, why: Exception) -> None:
    print(json.dumps({"figure": f"classifier.{name}", "skipped": str(why)}), flush=True)
