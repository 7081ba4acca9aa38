"""Health, metadata, shutdown, API token, secrets, and calls that are not built yet."""

import asyncio
import unittest
import warnings

import grpc
from dapr.aio.clients import DaprClient as AsyncDaprClient
from dapr.clients.exceptions import DaprGrpcError
from dapr.clients.grpc._crypto import DecryptOptions, EncryptOptions
from dapr.clients.grpc._jobs import Job
from dapr.clients.grpc.conversation import ConversationInput
from dapr.clients.health import DaprHealth

import sidecar


class OneSidecar(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.sidecar = sidecar.Sidecar('python-one')

    @classmethod
    def tearDownClass(cls):
        cls.sidecar.stop()

    def test_wait_for_sidecar(self):
        self.sidecar.use()
        DaprHealth.wait_for_sidecar()

    def test_metadata_names_app_and_components(self):
        with self.sidecar.client() as client:
            metadata = client.get_metadata()
        self.assertEqual(metadata.application_id, 'python-one')
        components = {each.name: each for each in metadata.registered_components}
        types = {name: (each.type, each.version) for name, each in components.items()}
        self.assertEqual(types[sidecar.STATE], ('state.in-memory', 'v1'))
        self.assertEqual(types[sidecar.PUBSUB], ('pubsub.in-memory', 'v1'))
        self.assertEqual(types[sidecar.SECRET], ('secretstores.local.file', 'v1'))
        self.assertLessEqual(
            {'ETAG', 'TRANSACTIONAL', 'TTL'}, set(components[sidecar.STATE].capabilities)
        )

    def test_metadata_set_is_shown(self):
        with self.sidecar.client() as client:
            client.set_metadata('colour', 'green')
            self.assertEqual(client.get_metadata().extended_metadata['colour'], 'green')
            client.set_metadata('colour', 'blue')
            self.assertEqual(client.get_metadata().extended_metadata['colour'], 'blue')

    def test_secret(self):
        with self.sidecar.client() as client:
            self.assertEqual(
                client.get_secret(sidecar.SECRET, 'password').secret, {'password': 'open sesame'}
            )

    def test_secrets_in_bulk(self):
        with self.sidecar.client() as client:
            self.assertEqual(
                client.get_bulk_secret(sidecar.SECRET).secrets,
                {name: {name: value} for name, value in sidecar.SECRETS.items()},
            )

    def test_secret_that_is_not_there(self):
        with self.sidecar.client() as client:
            with self.assertRaises(grpc.RpcError) as caught:
                client.get_secret(sidecar.SECRET, 'nothing')
        self.assertEqual(caught.exception.code(), grpc.StatusCode.INTERNAL)
        self.assertIn('nothing', caught.exception.details())

    def test_secret_store_that_is_not_there(self):
        with self.sidecar.client() as client:
            with self.assertRaises(grpc.RpcError) as caught:
                client.get_secret('no-store', 'password')
        self.assertEqual(caught.exception.code(), grpc.StatusCode.INVALID_ARGUMENT)
        self.assertIn('no-store', caught.exception.details())

    def test_asynchronous_client(self):
        async def calls():
            async with AsyncDaprClient() as client:
                await client.save_state(sidecar.STATE, 'async', 'value')
                read = await client.get_state(sidecar.STATE, 'async')
                await client.publish_event(sidecar.PUBSUB, 'nobody-listens', 'event')
                return read.data, (await client.get_metadata()).application_id

        self.sidecar.use()
        self.assertEqual(asyncio.new_event_loop().run_until_complete(calls()), (b'value', 'python-one'))

    def test_blocks_without_components_say_so(self):
        lock = (grpc.StatusCode.FAILED_PRECONDITION, 'lock store is not configured')
        keys = (grpc.StatusCode.INTERNAL, 'crypto providers not configured')
        job = (grpc.StatusCode.INTERNAL, 'scheduler clients are disabled')
        none = (grpc.StatusCode.FAILED_PRECONDITION, 'configuration stores not configured')
        llm = (grpc.StatusCode.INVALID_ARGUMENT, 'failed finding conversation component llm')
        encrypt = EncryptOptions(component_name='keys', key_name='key', key_wrap_algorithm='RSA')
        decrypt = DecryptOptions(component_name='keys', key_name='key')
        warnings.simplefilter('ignore')  # most of these are alpha
        with self.sidecar.client() as client:
            self.assertFalse(client.unsubscribe_configuration('configstore', 'id'))
            for (code, text), call in [
                (none, lambda: client.get_configuration('configstore', ['key'])),
                (lock, lambda: client.try_lock('lockstore', 'resource', 'owner', 5)),
                (lock, lambda: client.unlock('lockstore', 'resource', 'owner')),
                (keys, lambda: client.encrypt(b'text', encrypt).read()),
                (keys, lambda: client.decrypt(b'text', decrypt).read()),
                (llm, lambda: client.converse_alpha1('llm', [ConversationInput(content='hi')])),
                (job, lambda: client.schedule_job_alpha1(Job(name='job', schedule='@daily'))),
                (job, lambda: client.get_job_alpha1('job')),
                (job, lambda: client.delete_job_alpha1('job')),
            ]:
                with self.subTest(text), self.assertRaises(grpc.RpcError) as caught:
                    sidecar.within(10, call)
                self.assertEqual(caught.exception.code(), code)
                self.assertIn(text, caught.exception.details())


class OwnSidecar(unittest.TestCase):
    def test_shutdown_ends_the_process(self):
        one = sidecar.Sidecar('python-shutdown')
        self.addCleanup(one.stop)
        with one.client() as client:
            client.shutdown()
        self.assertEqual(one.process.wait(15), 0)

    def test_api_token(self):
        one = sidecar.Sidecar('python-token', token='right')
        self.addCleanup(one.stop)
        with one.client() as client:
            client.save_state(sidecar.STATE, 'key', 'value')
            self.assertEqual(client.get_state(sidecar.STATE, 'key').data, b'value')
        for token in ['wrong', None]:
            one.token = token
            with self.subTest(token=token), one.client() as client:
                with self.assertRaises(DaprGrpcError) as caught:
                    client.get_state(sidecar.STATE, 'key')
                self.assertEqual(caught.exception.code(), grpc.StatusCode.UNAUTHENTICATED)
                with self.assertRaises(Exception) as caught:
                    client.invoke_method('python-token', 'method', b'')
                self.assertEqual(caught.exception.status_code, 401)
