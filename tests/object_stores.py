"""Object stores on this machine, in memory, in a process of their own: `python tests/object_stores.py`.

Prints the address of each, of Google's kind and of Amazon's, and runs until its standard input is closed. Both have the
bucket "bucket".
"""

import contextlib
import json
import os
import subprocess
import sys
from collections.abc import Iterator

_KEYS = {"aws_access_key_id": "somebody", "aws_secret_access_key": "secret"}


def serve() -> None:
    import boto3
    from gcp_storage_emulator.server import create_server
    from moto.server import ThreadedMotoServer

    # Port 0: one that is free.
    google = create_server("localhost", 0, in_memory=True, default_bucket="bucket")
    google.start()
    amazon = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    amazon.start()
    address = "http://{}:{}".format(*amazon.get_host_and_port())
    boto3.client("s3", "us-east-1", endpoint_url=address, **_KEYS).create_bucket(Bucket="bucket")
    ports = google._api._httpd.socket.getsockname()[1], amazon.get_host_and_port()[1]
    print(json.dumps([f"http://localhost:{port}" for port in ports]), flush=True)
    sys.stdin.read()
    os._exit(0)


@contextlib.contextmanager
def running() -> Iterator[dict[str, str]]:
    """Yields the environment variables by which a program finds them."""
    with subprocess.Popen(
        [sys.executable, __file__],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    ) as process:
        assert process.stdout is not None
        assert process.stdin is not None
        google, amazon = json.loads(process.stdout.readline())
        yield {
            "STORAGE_EMULATOR_HOST": google,
            "AWS_ENDPOINT_URL": amazon,
            **{name.upper(): value for name, value in _KEYS.items()},
            "AWS_DEFAULT_REGION": "us-east-1",
        }
        process.stdin.close()


if __name__ == "__main__":
    serve()
