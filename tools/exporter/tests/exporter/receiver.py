"""Receives OTLP over HTTP and prints each request as a line of JSON. The first request is refused for a second."""

import gzip
import http.server
import json

from google.protobuf.json_format import MessageToDict
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import (
    ExportLogsServiceRequest,
    ExportLogsServiceResponse,
)
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import (
    ExportMetricsServiceRequest,
    ExportMetricsServiceResponse,
)


class Receiver(http.server.BaseHTTPRequestHandler):
    """Answers requests."""

    refused = False

    def do_POST(self) -> None:
        """Prints a request."""
        body = self.rfile.read(int(self.headers["Content-Length"]))
        if not Receiver.refused:
            Receiver.refused = True
            self.answer(429, b"")
            return
        encoding = self.headers.get("Content-Encoding", "none")
        is_logs = self.path == "/v1/logs"
        kind = ExportLogsServiceRequest if is_logs else ExportMetricsServiceRequest
        request = kind.FromString(gzip.decompress(body) if encoding == "gzip" else body)
        about = {"path": self.path, "type": self.headers["Content-Type"], "encoding": encoding}
        about["key"] = self.headers.get("X-Key")
        print(json.dumps({**about, **MessageToDict(request)}), flush=True)
        if is_logs:
            reply = ExportLogsServiceResponse()
            reply.partial_success.rejected_log_records = 1
            reply.partial_success.error_message = "too long"
        else:
            reply = ExportMetricsServiceResponse()
            reply.partial_success.rejected_data_points = 3
            reply.partial_success.error_message = "too old"
        self.answer(200, reply.SerializeToString())

    def answer(self, code: int, body: bytes) -> None:
        """Sends a response."""
        self.send_response(code)
        self.send_header("Retry-After", "1")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Prints nothing else."""


server = http.server.HTTPServer(("127.0.0.1", 0), Receiver)
print(server.server_port, flush=True)
server.serve_forever()
