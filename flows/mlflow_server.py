"""The MLflow UI as a child that ends with its parent: ``python -m flows.mlflow_server STORE ARTIFACTS PORT``."""

from __future__ import annotations

import subprocess
import sys
import threading

from flows.server import HOST, wait_for_parent


def main(store: str, artifacts: str, port: str) -> int:
    """Run ``mlflow server`` on the loopback interface until the parent goes away; returns its exit code."""
    command = ["mlflow", "server", "--backend-store-uri", store, "--default-artifact-root", artifacts]
    child = subprocess.Popen([sys.executable, "-m", *command, "--host", HOST, "--port", port, "--workers", "1"])
    threading.Thread(target=lambda: (wait_for_parent(), child.terminate()), daemon=True).start()
    return child.wait()


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:4]))
