import pytest
import torch


@pytest.fixture(scope="package", autouse=True)
def one_thread():
    # Tiny matrices are not worth a second thread; on a busy machine, waiting for it takes most of the time.
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)
