"""Google's token server, as much of it as a service account's key needs: a signed assertion in, an access token out."""

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

GOOD = json.dumps({"access_token": "ya29.right", "expires_in": 3600, "token_type": "Bearer"})
BAD = json.dumps({"error": "invalid_grant", "error_description": "Invalid JWT Signature."})


@contextmanager
def token_server(*, good: bool) -> Iterator[dict[str, str]]:
    """Yields the key of a service account whose tokens come from here."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = (GOOD if good else BAD).encode()
            self.send_response(200 if good else 400)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
    key = rsa.generate_private_key(65537, 2048).private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    yield {
        "type": "service_account",
        "project_id": "tests",
        "private_key_id": "1",
        "private_key": key.decode(),
        "client_email": "reader@tests.iam.gserviceaccount.com",
        "client_id": "1",
        "token_uri": f"http://127.0.0.1:{server.server_address[1]}/token",
    }
    server.shutdown()
    server.server_close()
