"""Calls of an app through two sidecars: an HTTP app over HTTP and gRPC, a gRPC app built with dapr.ext.grpc."""

import json
import os
import threading
import unittest
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qsl, urlsplit

import grpc
from dapr.clients import DaprClient
from dapr.clients.exceptions import DaprHttpError
from dapr.ext.grpc import App, InvokeMethodRequest, InvokeMethodResponse
from dapr.proto import appcallback_service_v1
from google.protobuf.empty_pb2 import Empty

import sidecar


class Echo(BaseHTTPRequestHandler):
    """Answers what it was asked; `/fail/<status>` answers that status."""

    protocol_version = 'HTTP/1.1'

    def answer(self):
        asked = urlsplit(self.path)
        body = json.dumps(
            {
                'verb': self.command,
                'path': asked.path,
                'query': parse_qsl(asked.query),
                'body': self.body().decode(),
                'type': self.headers.get('content-type'),
                'caller': self.headers.get('dapr-caller-app-id'),
                'custom': self.headers.get('x-custom'),
            }
        ).encode()
        status = int(asked.path.split('/')[2]) if asked.path.startswith('/fail/') else 200
        if asked.path.startswith('/dapr/'):
            status, body = 404, b''
        self.send_response(status)
        self.send_header('content-type', 'application/json')
        self.send_header('content-length', str(len(body)))
        self.send_header('x-answer', 'from-app')
        self.end_headers()
        self.wfile.write(body)

    def body(self):
        if self.headers.get('transfer-encoding') != 'chunked':
            return self.rfile.read(int(self.headers.get('content-length') or 0))
        chunks = []
        while length := int(self.rfile.readline(), 16):
            chunks.append(self.rfile.read(length))
            self.rfile.readline()
        self.rfile.readline()
        return b''.join(chunks)

    do_GET = do_POST = do_PUT = do_DELETE = do_PATCH = answer

    def log_message(self, *_):
        pass


def grpc_app(port):
    app = App()

    @app.method('upper')
    def upper(request: InvokeMethodRequest):
        return InvokeMethodResponse(request.text().upper(), 'text/plain')

    @app.register_health_check
    def healthy():
        pass

    threading.Thread(target=app.run, args=(port, '127.0.0.1'), daemon=True).start()
    return app


class Invoke(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.server = ThreadingHTTPServer(('127.0.0.1', 0), Echo)
        threading.Thread(target=cls.server.serve_forever, daemon=True).start()
        grpc_port = sidecar.free_port()
        cls.app = grpc_app(grpc_port)
        cls.callees = [
            sidecar.Sidecar('python-echo', app_port=cls.server.server_port),
            sidecar.Sidecar('python-grpc', app_port=grpc_port, app_protocol='grpc'),
        ]
        cls.caller = sidecar.Sidecar('python-caller')
        for each in cls.callees:
            each.client().close()
        cls.client = cls.caller.client()
        # The caller may look for the callee before it has announced itself.
        sidecar.eventually(lambda: cls.client.invoke_method('python-echo', 'ready', b''))

    @classmethod
    def tearDownClass(cls):
        cls.client.close()
        for each in [cls.caller, *cls.callees]:
            each.stop()
        cls.server.shutdown()
        cls.app.stop()

    def over_grpc(self):
        self.caller.use()
        os.environ['DAPR_API_METHOD_INVOCATION_PROTOCOL'] = 'grpc'
        self.addCleanup(self.caller.use)
        made = DaprClient()
        self.addCleanup(made.close)
        return made

    def test_verbs_with_body(self):
        for verb in ['POST', 'PUT', 'PATCH', 'DELETE']:
            with self.subTest(verb):
                answer = self.client.invoke_method(
                    'python-echo', 'a/b', b'{"n":1}', content_type='application/json', http_verb=verb
                )
                self.assertEqual(answer.status_code, 200)
                self.assertEqual(answer.content_type, 'application/json')
                echo = answer.json()
                self.assertEqual(
                    (echo['verb'], echo['path'], echo['body'], echo['type']),
                    (verb, '/a/b', '{"n":1}', 'application/json'),
                )

    def test_get_with_query_and_header(self):
        answer = self.client.invoke_method(
            'python-echo',
            'look',
            b'',
            http_verb='GET',
            http_querystring=(('q', 'a b'), ('q', 'c&d')),
            metadata=(('x-custom', 'mine'),),
        )
        echo = answer.json()
        self.assertEqual((echo['verb'], echo['path']), ('GET', '/look'))
        self.assertEqual(echo['query'], [['q', 'a b'], ['q', 'c&d']])
        self.assertEqual((echo['custom'], echo['caller']), ('mine', 'python-caller'))
        self.assertIn(('x-answer', 'from-app'), [(k.lower(), v) for k, v in answer.get_headers()])

    def test_status_of_the_app_is_passed_on(self):
        for status in [400, 404, 418, 503]:
            with self.subTest(status), self.assertRaises(DaprHttpError) as caught:
                self.client.invoke_method('python-echo', f'fail/{status}', b'', http_verb='POST')
            self.assertEqual(caught.exception.status_code, status)

    def test_app_that_is_not_there(self):
        with self.assertRaises(DaprHttpError) as caught:
            self.client.invoke_method('python-nobody', 'method', b'')
        self.assertEqual(caught.exception.status_code, 500)
        self.assertEqual(caught.exception.error_code, 'ERR_DIRECT_INVOKE')

    def test_large_body(self):
        body = b'x' * 3_000_000
        answer = self.client.invoke_method('python-echo', 'large', body, http_verb='POST', content_type='text/plain')
        self.assertEqual(len(answer.json()['body']), len(body))

    def test_http_app_over_grpc(self):
        answer = self.over_grpc().invoke_method(
            'python-echo',
            'a/b',
            b'{"n":1}',
            content_type='application/json',
            http_verb='PUT',
            http_querystring=(('q', 'a b'),),
        )
        echo = answer.json()
        self.assertEqual((echo['verb'], echo['path'], echo['body']), ('PUT', '/a/b', '{"n":1}'))
        self.assertEqual(echo['query'], [['q', 'a b']])
        self.assertEqual(answer.content_type, 'application/json')

    def test_http_status_over_grpc(self):
        client = self.over_grpc()
        codes = {}
        for status in [400, 404, 503]:
            with self.assertRaises(grpc.RpcError) as caught:
                client.invoke_method('python-echo', f'fail/{status}', b'', http_verb='POST')
            codes[status] = caught.exception.code().name
        self.assertEqual(codes, {400: 'INTERNAL', 404: 'NOT_FOUND', 503: 'UNAVAILABLE'})

    def test_grpc_app(self):
        answer = self.over_grpc().invoke_method('python-grpc', 'upper', b'quiet', content_type='text/plain')
        self.assertEqual((answer.text(), answer.content_type), ('QUIET', 'text/plain'))

    def test_method_the_grpc_app_has_not(self):
        with self.assertRaises(grpc.RpcError) as caught:
            self.over_grpc().invoke_method('python-grpc', 'lower', b'')
        self.assertEqual(caught.exception.code(), grpc.StatusCode.UNIMPLEMENTED)

    def test_proxied_grpc_service(self):
        with grpc.insecure_channel(f'127.0.0.1:{self.caller.grpc}') as channel:
            stub = appcallback_service_v1.AppCallbackHealthCheckStub(channel)
            self.assertIsNotNone(
                stub.HealthCheck(Empty(), metadata=(('dapr-app-id', 'python-grpc'),), timeout=10)
            )
