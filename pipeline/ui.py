"""Open the MLflow UI on the project's tracking store, on the loopback address alone."""

import os
import sys

from medssl import config, project, tracking


def main() -> None:
    """Replace this process by ``mlflow ui``; the first argument is the port (5000)."""
    root = project.root()
    try:
        uri, shown = tracking.store_uri(config.load(root / "params.yaml").tracking, root), tracking.link(root)
    except ValueError as error:
        print(f"error: {error}", file=sys.stderr)
        raise SystemExit(1) from None
    if uri.startswith("http"):
        print(f"the runs are on {project.shown_uri(uri)}{shown}; open that address")
        return
    port = sys.argv[1] if len(sys.argv) > 1 else "5000"
    print(f"MLflow UI on http://127.0.0.1:{port}{shown} (tracking store: {project.shown_uri(uri)})", flush=True)
    words = ["-m", "mlflow", "ui", "--backend-store-uri", uri, "--host", "127.0.0.1", "--port", port, "--workers", "1"]
    os.chdir(root)
    os.execv(sys.executable, [sys.executable, *words])


if __name__ == "__main__":
    main()
