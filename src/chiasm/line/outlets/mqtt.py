"""Records to an MQTT broker, each acknowledged."""

from __future__ import annotations

import json
import os
import ssl
import threading
from typing import Any

from chiasm.line.outlets.outlet import (
    Options,
    OutletAwayError,
    RefusedRecordError,
    outlet,
)
from chiasm.line.outlets.webhook import tls_context
from chiasm.line.record import Payload

_REFUSED = frozenset({0x90, 0x95, 0x99})  # topic name, packet size, payload format (MQTT 5, 2.4)

_PLACEHOLDERS = ("station", "decision", "model", "product")


class MqttOutlet:
    """Publishes each record as JSON, and waits for the broker's acknowledgement.

    Args:
        host, port: of the broker.
        topic: with the placeholders ``{station}``, ``{decision}``, ``{model}`` and
            ``{product}``.
        qos: 1 or 2; 0 would lose records unnoticed.
        retain: whether the broker keeps the newest record of a topic for new subscribers.
        version: 5, or 3 for brokers that know 3.1.1 only, which acknowledge also what they drop.
        user, password: of the broker; "" logs in without.
        tls: context; None is without TLS.
        status_topic: that says ``online`` and ``offline``, retained; "" is none.
        timeout_s: seconds for an acknowledgement.
    """

    beat_s: float | None = None

    def __init__(
        self,
        host: str,
        port: int,
        topic: str,
        *,
        qos: int = 1,
        retain: bool = False,
        version: int = 5,
        user: str = "",
        password: str = "",
        tls: ssl.SSLContext | None = None,
        status_topic: str = "",
        timeout_s: float = 10.0,
    ) -> None:
        import paho.mqtt.client  # noqa: F401  # a missing library is told before the first verdict

        self._host, self._port, self._topic = host, port, topic
        self._qos, self._retain, self._version = qos, retain, version
        self._user, self._password, self._tls = user, password, tls
        self._status_topic, self._timeout = status_topic, timeout_s
        self._client: Any = None
        self.where = f"the broker {host}:{port}"
        self._changed = threading.Condition()
        self._answer: Any = None  # of the broker to the login
        self._codes: dict[int, Any] = {}  # of acknowledgements, by message

    def check(self) -> None:
        """Log in to the broker."""
        if self._client is not None and self._client.is_connected():
            return
        self.close()
        from paho.mqtt import client as mqtt
        from paho.mqtt.enums import CallbackAPIVersion

        client = mqtt.Client(
            CallbackAPIVersion.VERSION2,
            client_id=f"chiasm-{os.urandom(6).hex()}",
            protocol=mqtt.MQTTv5 if self._version == 5 else mqtt.MQTTv311,
        )
        client.connect_timeout = self._timeout
        if self._user:
            client.username_pw_set(self._user, self._password or None)
        if self._tls is not None:
            client.tls_set_context(self._tls)
        if self._status_topic:
            client.will_set(self._status_topic, "offline", qos=1, retain=True)
        client.on_connect = self._on_connect
        client.on_publish = self._on_publish
        with self._changed:
            self._answer = None
            self._codes.clear()
        try:
            client.connect(self._host, self._port, keepalive=30)
        except (OSError, ValueError) as error:
            raise OutletAwayError(f"{self.where} cannot be reached ({error}).") from None
        client.loop_start()
        with self._changed:
            self._changed.wait_for(lambda: self._answer is not None, self._timeout)
            answer = self._answer
        if answer is None or answer.is_failure:
            client.disconnect()
            client.loop_stop()
            why = (
                f"does not answer within {self._timeout:g} s."
                if answer is None
                else f"refuses the login ({answer}); check the user and the password."
            )
            raise OutletAwayError(f"{self.where} {why}")
        self._client = client
        if self._status_topic:
            self._publish(self._status_topic, "online", retain=True)

    def send(self, record: Payload) -> None:
        """Publish a record and wait for its acknowledgement."""
        self.check()
        # A record that waited since an earlier version has no product.
        levels = {name: _level(str(record.get(name, "")) or "none") for name in _PLACEHOLDERS}
        topic = self._topic.format_map(levels)
        code = self._publish(topic, json.dumps(record), retain=self._retain)
        if code.is_failure:
            sentence = f"{self.where} refuses a record on the topic {topic} ({code})."
            if code.value in _REFUSED:
                raise RefusedRecordError(sentence)
            raise OutletAwayError(sentence)

    def _publish(self, topic: str, text: str, *, retain: bool) -> Any:
        """Publish, and return the reason code of the acknowledgement."""
        message = self._client.publish(topic, text, qos=self._qos, retain=retain)
        with self._changed:
            self._changed.wait_for(lambda: message.mid in self._codes, self._timeout)
            code = self._codes.pop(message.mid, None)
        if code is None:
            # Not the client's own repetition: the record is sent again from the disk.
            self.close()
            raise OutletAwayError(
                f"{self.where} did not acknowledge a message within {self._timeout:g} s."
            )
        return code

    def close(self) -> None:
        """Say that nobody is there, and log out."""
        client, self._client = self._client, None
        if client is None:
            return
        if self._status_topic and client.is_connected():
            client.publish(self._status_topic, "offline", qos=1, retain=True).wait_for_publish(2)
        client.disconnect()
        client.loop_stop()

    def _on_connect(self, client: Any, data: Any, flags: Any, code: Any, more: Any) -> None:
        with self._changed:
            self._answer = code
            self._changed.notify_all()

    def _on_publish(self, client: Any, data: Any, mid: int, code: Any, more: Any) -> None:
        with self._changed:
            self._codes[mid] = code
            self._changed.notify_all()


def _level(text: str) -> str:
    """Return text as one level of a topic."""
    return "".join("_" if letter in "/+#\0" else letter for letter in text)


@outlet("mqtt")
def mqtt(options: Options) -> MqttOutlet:
    """Build an outlet to a broker from its options."""
    topic = options.text("topic", "chiasm/{station}/verdict")
    try:
        topic.format_map(dict.fromkeys(_PLACEHOLDERS, "x"))
    except (KeyError, ValueError, IndexError, AttributeError):
        raise options.wrong(
            "topic", topic, "a topic whose braces are {station}, {decision}, {model} or {product}"
        ) from None
    if "+" in topic or "#" in topic:
        raise options.wrong("topic", topic, "a topic without + and #")
    tls = tls_context(options.section("tls"))
    return MqttOutlet(
        options.text("host"),
        options.whole("port", 1883 if tls is None else 8883, low=1),
        topic,
        qos=options.whole("qos", 1, low=1, high=2),
        retain=options.flag("retain", False),
        version=5 if options.choice("version", "5", ("5", "3.1.1")) == "5" else 3,
        user=options.text("user", "") or options.secret("user"),
        password=options.secret("password"),
        tls=tls,
        status_topic=options.text("status_topic", ""),
        timeout_s=options.number("timeout_s", 10.0, low=0.1, high=600),
    )
