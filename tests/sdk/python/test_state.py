"""State through the SDK: values, etags, bulk, transactions, expiry, errors."""

import time
import unittest

import grpc
from dapr.clients.exceptions import DaprGrpcError
from dapr.clients.grpc._request import TransactionalStateOperation, TransactionOperationType
from dapr.clients.grpc._state import Concurrency, Consistency, StateItem, StateOptions

import sidecar

FIRST_WRITE = StateOptions(Consistency.strong, Concurrency.first_write)


class State(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.sidecar = sidecar.Sidecar('python-state')
        cls.client = cls.sidecar.client()

    @classmethod
    def tearDownClass(cls):
        cls.client.close()
        cls.sidecar.stop()

    def read(self, key):
        return self.client.get_state(sidecar.STATE, key).data

    def aborted(self, call):
        with self.assertRaises(DaprGrpcError) as caught:
            call()
        self.assertEqual(caught.exception.code(), grpc.StatusCode.ABORTED)

    def test_save_get_delete(self):
        self.client.save_state(sidecar.STATE, 'text', 'grüße')
        self.assertEqual(self.read('text'), 'grüße'.encode())
        self.client.save_state(sidecar.STATE, 'json', '{"a":[1,2]}')
        self.assertEqual(self.client.get_state(sidecar.STATE, 'json').json(), {'a': [1, 2]})
        self.client.save_state(sidecar.STATE, 'bytes', bytes(range(256)))
        self.assertEqual(self.read('bytes'), bytes(range(256)))
        self.client.delete_state(sidecar.STATE, 'text')
        gone = self.client.get_state(sidecar.STATE, 'text')
        self.assertEqual((gone.data, gone.etag), (b'', ''))

    def test_save_with_stale_etag_is_aborted(self):
        self.client.save_state(sidecar.STATE, 'etag', 'one')
        etag = self.client.get_state(sidecar.STATE, 'etag').etag
        self.assertTrue(etag)
        self.client.save_state(sidecar.STATE, 'etag', 'two', etag=etag, options=FIRST_WRITE)
        self.aborted(
            lambda: self.client.save_state(sidecar.STATE, 'etag', 'no', etag=etag, options=FIRST_WRITE)
        )
        self.assertEqual(self.read('etag'), b'two')

    def test_first_write_without_etag_is_aborted_when_the_key_exists(self):
        self.client.save_state(sidecar.STATE, 'first', 'one', options=FIRST_WRITE)
        self.aborted(lambda: self.client.save_state(sidecar.STATE, 'first', 'two', options=FIRST_WRITE))
        self.assertEqual(self.read('first'), b'one')

    def test_delete_with_stale_etag_is_aborted(self):
        self.client.save_state(sidecar.STATE, 'kept', 'one')
        self.aborted(
            lambda: self.client.delete_state(sidecar.STATE, 'kept', etag='77777', options=FIRST_WRITE)
        )
        etag = self.client.get_state(sidecar.STATE, 'kept').etag
        self.client.delete_state(sidecar.STATE, 'kept', etag=etag, options=FIRST_WRITE)
        self.assertEqual(self.read('kept'), b'')

    def test_bulk(self):
        items = [StateItem(key=f'bulk-{i}', value=f'value {i}') for i in range(10)]
        self.client.save_bulk_state(sidecar.STATE, items)
        keys = [each.key for each in items] + ['bulk-none']
        read = self.client.get_bulk_state(sidecar.STATE, keys, parallelism=3).items
        self.assertEqual(
            {each.key: each.text() for each in read},
            {**{each.key: each.value for each in items}, 'bulk-none': ''},
        )
        self.assertEqual([each.error for each in read if each.error], [])
        self.assertTrue(all(each.etag for each in read if each.key != 'bulk-none'))

    def test_transaction(self):
        self.client.save_state(sidecar.STATE, 'old', 'there')
        self.client.execute_state_transaction(
            sidecar.STATE,
            [
                TransactionalStateOperation(key='new', data='one'),
                TransactionalStateOperation(key='new', data='two'),
                TransactionalStateOperation(
                    key='old', operation_type=TransactionOperationType.delete, data=None
                ),
            ],
        )
        self.assertEqual((self.read('new'), self.read('old')), (b'two', b''))

    def test_transaction_with_stale_etag_changes_nothing(self):
        self.client.save_state(sidecar.STATE, 'held', 'there')
        with self.assertRaises(DaprGrpcError):
            self.client.execute_state_transaction(
                sidecar.STATE,
                [
                    TransactionalStateOperation(key='half', data='one'),
                    TransactionalStateOperation(key='held', data='two', etag='77777'),
                ],
            )
        self.assertEqual((self.read('half'), self.read('held')), (b'', b'there'))

    def test_expiry(self):
        self.client.save_state(sidecar.STATE, 'short', 'life', state_metadata={'ttlInSeconds': '1'})
        self.client.save_state(sidecar.STATE, 'long', 'life', state_metadata={'ttlInSeconds': '60'})
        self.assertEqual(self.read('short'), b'life')
        time.sleep(1.5)
        self.assertEqual((self.read('short'), self.read('long')), (b'', b'life'))

    def test_expiry_that_is_no_number(self):
        with self.assertRaises(DaprGrpcError):
            self.client.save_state(sidecar.STATE, 'bad', 'x', state_metadata={'ttlInSeconds': 'soon'})

    def test_store_that_is_not_there(self):
        with self.assertRaises(DaprGrpcError) as caught:
            self.client.get_state('no-store', 'key')
        self.assertEqual(caught.exception.code(), grpc.StatusCode.INVALID_ARGUMENT)
        self.assertIn('no-store', caught.exception.details())
        self.assertEqual(caught.exception.error_code(), 'DAPR_STATE_NOT_FOUND')

    def test_key_with_the_separator(self):
        with self.assertRaises(DaprGrpcError) as caught:
            self.client.save_state(sidecar.STATE, 'a||b', 'x')
        self.assertEqual(caught.exception.code(), grpc.StatusCode.INVALID_ARGUMENT)
