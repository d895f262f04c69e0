"""What the console loads before anybody asks for it."""

import subprocess
import sys

HEAVY = ("torch", "transformers", "sklearn", "matplotlib")


def test_the_application_is_imported_without_a_model_or_charts() -> None:
    program = f"import sys, console.app; print([name for name in {HEAVY} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
