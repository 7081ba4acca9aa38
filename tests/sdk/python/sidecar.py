"""Starts sidecars of the binary under test for the suites beside this file, and clients of the published SDK.

Every sidecar and file made here is gone when the process ends; a sidecar's log is kept until then for failures.
"""

import atexit
import json
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import threading
import time

from dapr.clients import DaprClient

BINARY = os.environ.get('PILLION_BIN', '')
# What only our own binary promises is skipped for a foreign one.
IS_OURS = os.path.basename(os.path.realpath(BINARY)) != 'daprd'

SECRETS = {'password': 'open sesame', 'user': 'ali'}
STATE, PUBSUB, SECRET = 'statestore', 'pubsub', 'secrets'

_COMPONENT = """apiVersion: dapr.io/v1alpha1
kind: Component
metadata:
  name: {name}
spec:
  type: {type}
  version: v1
  metadata: {metadata}
"""

_running, _directories = [], []


def free_port():
    with socket.socket() as probe:
        probe.bind(('127.0.0.1', 0))
        return probe.getsockname()[1]


def resources():
    """A directory with the three components of every suite."""
    directory = tempfile.mkdtemp(prefix='pillion-sdk-')
    _directories.append(directory)
    secrets_file = os.path.join(directory, 'secrets.json')
    with open(secrets_file, 'w') as out:
        json.dump(SECRETS, out)
    resources_path = os.path.join(directory, 'resources')
    os.mkdir(resources_path)
    for name, kind, metadata in [
        (STATE, 'state.in-memory', []),
        (PUBSUB, 'pubsub.in-memory', []),
        (SECRET, 'secretstores.local.file', [{'name': 'secretsFile', 'value': secrets_file}]),
    ]:
        with open(os.path.join(resources_path, name + '.yaml'), 'w') as out:
            out.write(_COMPONENT.format(name=name, type=kind, metadata=json.dumps(metadata)))
    return resources_path


class Sidecar:
    """A running sidecar; `use` makes it the one that the SDK's settings point to."""

    def __init__(self, app_id, app_port=None, app_protocol='http', environment=None, token=None):
        self.app_id, self.token = app_id, token
        self.http, self.grpc = free_port(), free_port()
        command = [BINARY] if os.path.basename(BINARY) == 'daprd' else [BINARY, 'daprd']
        command += [
            f'--app-id={app_id}',
            f'--app-protocol={app_protocol}',
            f'--dapr-http-port={self.http}',
            f'--dapr-grpc-port={self.grpc}',
            f'--dapr-internal-grpc-port={free_port()}',
            f'--metrics-port={free_port()}',
            '--dapr-listen-addresses=127.0.0.1',
            '--metrics-listen-address=127.0.0.1',
            '--dapr-graceful-shutdown-seconds=1',
            f'--resources-path={resources()}',
            '--mode=standalone',
        ]
        if app_port:
            command.append(f'--app-port={app_port}')
        inherited = {name: value for name, value in os.environ.items() if not name.startswith('DAPR_')}
        tokens = {'DAPR_API_TOKEN': token} if token else {}
        self.log = tempfile.TemporaryFile('w+')
        self.process = subprocess.Popen(
            command,
            env={**inherited, **tokens, **(environment or {})},
            stdin=subprocess.DEVNULL,
            stdout=self.log,
            stderr=subprocess.STDOUT,
        )
        _running.append(self)

    def use(self):
        os.environ.update(DAPR_HTTP_PORT=str(self.http), DAPR_GRPC_PORT=str(self.grpc))
        os.environ.update(DAPR_HEALTH_TIMEOUT='20', DAPR_API_TIMEOUT_SECONDS='20')
        os.environ.pop('DAPR_API_TOKEN', None)
        os.environ.pop('DAPR_API_METHOD_INVOCATION_PROTOCOL', None)
        if self.token:
            os.environ['DAPR_API_TOKEN'] = self.token

    def client(self):
        """A client of this sidecar; making it waits until the sidecar is healthy."""
        self.use()
        return DaprClient()

    def stop(self):
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(10)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        if self in _running:
            _running.remove(self)

    def complaints(self, lines=8):
        """The last lines of the log above the level info."""
        self.log.seek(0)
        told = [line[:400] for line in self.log.read().splitlines() if 'level=info' not in line]
        return told[-lines:]


def running():
    return list(_running)


@atexit.register
def stop_all():
    for sidecar in running():
        sidecar.stop()
    for directory in _directories:
        shutil.rmtree(directory, ignore_errors=True)


def within(seconds, function):
    """The result of a call that may block; fails when it takes longer."""
    outcome = {}

    def run():
        try:
            outcome['result'] = function()
        except Exception as error:  # handed to the caller below
            outcome['error'] = error

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    thread.join(seconds)
    if thread.is_alive():
        raise AssertionError(f'nothing after {seconds} s')
    if 'error' in outcome:
        raise outcome['error']
    return outcome['result']


def eventually(check, seconds=15):
    """Repeats a check until it holds; its last error is the one that is reported."""
    deadline = time.monotonic() + seconds
    while True:
        try:
            return check()
        except Exception:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.1)
