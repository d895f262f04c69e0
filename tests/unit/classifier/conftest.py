from pathlib import Path

import pytest

from classifier.settings import ClassifierSettings
from tests.tiny import tiny_adapter, tiny_base


@pytest.fixture(scope="session")
def base(tmp_path_factory) -> Path:
    return tiny_base(tmp_path_factory.mktemp("base"))


@pytest.fixture(scope="session")
def adapter(base, tmp_path_factory) -> Path:
    return tiny_adapter(base, tmp_path_factory.mktemp("adapters"))


@pytest.fixture(scope="session")
def settings() -> ClassifierSettings:
    return ClassifierSettings(device="cpu", precision="fp32", batch_tokens=128)
