"""HTTP as Python's own client speaks it: kept connections, bodies of known length and
in chunks, HEAD, statuses without a body. Usage: http_client.py ADDRESS PORT CA.pem NAME"""

import hashlib
import http.client
import json
import socket
import ssl
import sys

host, port, authority, name = sys.argv[1:]
context = ssl.create_default_context(cafile=authority)
raw = socket.create_connection((host, int(port)), timeout=20)
connection = http.client.HTTPSConnection(name, context=context)
connection.sock = context.wrap_socket(raw, server_hostname=name)
local = connection.sock


def ask(method, path, **more):
    connection.request(method, path, **more)
    answer = connection.getresponse()
    return answer, answer.read()


answer, body = ask("GET", "/whoami", headers={"X-Forwarded-For": "198.51.100.66"})
seen = json.loads(body)
assert (answer.status, seen["headers"]["host"]) == (200, name), seen
assert seen["client_ip"] == local.getsockname()[0], seen

answer, body = ask("HEAD", "/whoami")
assert (answer.status, body) == (200, b"") and int(answer.headers["Content-Length"]) > 0

sent = bytes(range(256)) * 4096
answer, body = ask("POST", "/echo", body=sent)
assert (answer.status, hashlib.sha256(body).digest()) == (200, hashlib.sha256(sent).digest())

# An iterable has no length: it goes, and comes back, in chunks.
answer, body = ask("POST", "/echo", body=iter([sent, b"x", sent]), encode_chunked=True)
assert answer.headers["Transfer-Encoding"] == "chunked" and body == sent + b"x" + sent

answer, body = ask("GET", "/nowhere")
assert answer.status == 404
assert connection.sock is local, "all on one connection"
print("done")
