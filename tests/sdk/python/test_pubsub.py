"""Publishing, streaming subscriptions, and a dapr.ext.grpc app with rules and a dead-letter topic."""

import json
import queue
import threading
import unittest

import grpc
from dapr.clients import BulkPublishEntry
from dapr.clients.exceptions import DaprGrpcError
from dapr.clients.grpc._response import TopicEventResponse
from dapr.ext.grpc import App, Rule, SubscriptionMessage

import sidecar


class Streaming(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.sidecar = sidecar.Sidecar('python-stream')
        cls.client = cls.sidecar.client()

    @classmethod
    def tearDownClass(cls):
        cls.client.close()
        cls.sidecar.stop()

    def listen(self, topic, status='success', **options):
        """Events of a topic as they come; the original's in-memory broker may wait for an event's answer."""
        subscription = sidecar.within(10, lambda: self.client.subscribe(sidecar.PUBSUB, topic, **options))
        self.addCleanup(subscription.close)
        events = queue.Queue()

        def receive():
            try:
                for message in subscription:
                    subscription.respond(message, TopicEventResponse(status).status)
                    events.put(message)
            except Exception:  # the end of the stream
                pass

        threading.Thread(target=receive, daemon=True).start()
        return events

    def test_event_as_cloud_event(self):
        events = self.listen('plain')
        self.client.publish_event(
            sidecar.PUBSUB, 'plain', json.dumps({'id': 7}), data_content_type='application/json'
        )
        message = events.get(timeout=10)
        self.assertEqual(message.data(), {'id': 7})
        self.assertEqual(
            (message.topic(), message.pubsub_name(), message.source(), message.type()),
            ('plain', sidecar.PUBSUB, 'python-stream', 'com.dapr.event.sent'),
        )
        self.assertEqual((message.spec_version(), message.data_content_type()), ('1.0', 'application/json'))
        self.assertTrue(message.id())

    def test_text_and_bytes(self):
        events = self.listen('kinds')
        self.client.publish_event(sidecar.PUBSUB, 'kinds', 'text', data_content_type='text/plain')
        message = events.get(timeout=10)
        self.assertEqual((message.data(), message.data_content_type()), ('text', 'text/plain'))
        self.client.publish_event(
            sidecar.PUBSUB, 'kinds', b'\x00\xff', data_content_type='application/octet-stream'
        )
        message = events.get(timeout=10)
        self.assertEqual(message.raw_data(), b'\x00\xff')

    def test_cloud_event_of_the_publisher_is_kept(self):
        events = self.listen('own-event')
        event = {
            'specversion': '1.0',
            'id': 'my-id',
            'source': 'my-source',
            'type': 'my-type',
            'datacontenttype': 'application/json',
            'data': {'a': 1},
            'myextension': 'mine',
        }
        self.client.publish_event(
            sidecar.PUBSUB, 'own-event', json.dumps(event), data_content_type='application/cloudevents+json'
        )
        message = events.get(timeout=10)
        self.assertEqual(
            (message.id(), message.source(), message.type(), message.data()),
            ('my-id', 'my-source', 'my-type', {'a': 1}),
        )
        self.assertEqual(message.extensions()['myextension'], 'mine')

    def test_dropped_event_goes_to_the_dead_letter_topic(self):
        dead = self.listen('stream-dead')
        self.listen('stream-drop', 'drop', dead_letter_topic='stream-dead')
        self.client.publish_event(sidecar.PUBSUB, 'stream-drop', 'bad', data_content_type='text/plain')
        message = dead.get(timeout=10)
        self.assertEqual(message.data(), 'bad')

    def test_handler(self):
        received = queue.Queue()

        def handle(message):
            received.put(message.data())
            return TopicEventResponse('success')

        close = sidecar.within(
            10, lambda: self.client.subscribe_with_handler(sidecar.PUBSUB, 'handled', handle)
        )
        try:
            for i in range(20):
                self.client.publish_event(sidecar.PUBSUB, 'handled', f'{i}', data_content_type='text/plain')
            self.assertEqual({received.get(timeout=10) for _ in range(20)}, {f'{i}' for i in range(20)})
        finally:
            close()

    def test_bulk_publish(self):
        events = self.listen('bulk')
        answer = self.client.publish_events(
            sidecar.PUBSUB,
            'bulk',
            ['one', BulkPublishEntry(event='two', entry_id='second'), b'three'],
            data_content_type='text/plain',
        )
        self.assertEqual(list(answer.failed_entries), [])
        self.assertEqual({events.get(timeout=10).data() for _ in range(3)}, {'one', 'two', 'three'})

    def test_closed_stream_makes_room_for_the_next(self):
        first = sidecar.within(10, lambda: self.client.subscribe(sidecar.PUBSUB, 'again'))
        first.close()

        def reopened():
            events = self.listen('again')
            self.client.publish_event(sidecar.PUBSUB, 'again', 'x', data_content_type='text/plain')
            return events.get(timeout=3).data()

        self.assertEqual(sidecar.eventually(reopened), 'x')

    def test_pubsub_that_is_not_there(self):
        with self.assertRaises(DaprGrpcError) as caught:
            self.client.publish_event('no-pubsub', 'topic', 'x')
        self.assertEqual(caught.exception.code(), grpc.StatusCode.INVALID_ARGUMENT)
        self.assertEqual(caught.exception.error_code(), 'DAPR_PUBSUB_NOT_FOUND')

    def test_topic_without_a_name(self):
        with self.assertRaises(DaprGrpcError) as caught:
            self.client.publish_event(sidecar.PUBSUB, '', 'x')
        self.assertEqual(caught.exception.code(), grpc.StatusCode.INVALID_ARGUMENT)

    def test_stream_of_a_pubsub_that_is_not_there(self):
        with self.assertRaises(Exception) as caught:
            sidecar.within(10, lambda: self.client.subscribe('no-pubsub', 'topic'))
        self.assertIn('no-pubsub', str(caught.exception))


class GrpcApp(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.received = queue.Queue()
        cls.app = cls.build_app()
        port = sidecar.free_port()
        threading.Thread(target=cls.app.run, args=(port, '127.0.0.1'), daemon=True).start()
        cls.sidecar = sidecar.Sidecar('python-subscriber', app_port=port, app_protocol='grpc')
        cls.client = cls.sidecar.client()

    @classmethod
    def build_app(cls):
        app, put = App(), cls.received.put

        @app.subscribe(sidecar.PUBSUB, 'orders')
        def orders(event: SubscriptionMessage) -> None:
            put(('orders', event.data()))

        @app.subscribe(sidecar.PUBSUB, 'ruled', rule=Rule('event.type == "small"', 1))
        def small(event: SubscriptionMessage) -> None:
            put(('small', event.data()))

        @app.subscribe(sidecar.PUBSUB, 'ruled', rule=Rule('event.data.n > 100', 2))
        def large(event: SubscriptionMessage) -> None:
            put(('large', event.data()))

        @app.subscribe(sidecar.PUBSUB, 'ruled', rule=Rule('true', 3))
        def otherwise(event: SubscriptionMessage) -> None:
            put(('otherwise', event.data()))

        @app.subscribe(sidecar.PUBSUB, 'dropped', dead_letter_topic='buried')
        def dropped(event: SubscriptionMessage) -> TopicEventResponse:
            return TopicEventResponse('drop')

        @app.subscribe(sidecar.PUBSUB, 'broken', dead_letter_topic='buried')
        def broken(event: SubscriptionMessage) -> None:
            raise RuntimeError('the app fails')

        @app.subscribe(sidecar.PUBSUB, 'buried')
        def buried(event: SubscriptionMessage) -> None:
            put(('buried', event.data()))

        return app

    @classmethod
    def tearDownClass(cls):
        cls.client.close()
        cls.sidecar.stop()
        cls.app.stop()

    def publish(self, topic, data, **options):
        self.client.publish_event(
            sidecar.PUBSUB, topic, json.dumps(data), data_content_type='application/json', **options
        )

    def expect(self, *expected):
        self.assertEqual(self.received.get(timeout=10), expected)

    def test_subscribed_topic(self):
        self.publish('orders', {'n': 1})
        self.expect('orders', {'n': 1})

    def test_rules(self):
        self.publish('ruled', {'n': 1}, publish_metadata={'cloudevent.type': 'small'})
        self.expect('small', {'n': 1})
        self.publish('ruled', {'n': 101})
        self.expect('large', {'n': 101})
        self.publish('ruled', {'n': 2})
        self.expect('otherwise', {'n': 2})

    def test_dropped_event_is_buried(self):
        self.publish('dropped', {'n': 3})
        self.expect('buried', {'n': 3})

    def test_event_that_fails_is_buried(self):
        self.publish('broken', {'n': 4})
        self.expect('buried', {'n': 4})
