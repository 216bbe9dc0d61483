"""Records to a real broker, mosquitto, on this machine."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from paho.mqtt import client as mqtt
from paho.mqtt.enums import CallbackAPIVersion

from chiasm.line.delivery import Delivery, OutletSettings
from chiasm.line.outlets.mqtt import MqttOutlet
from chiasm.line.outlets.outlet import Options, OutletAwayError
from chiasm.line.outlets.webhook import tls_context
from line_certificates import write_certificate
from line_records import free_port, numbers, record, wait_until

MOSQUITTO = shutil.which("mosquitto") or shutil.which("mosquitto", path="/usr/sbin")
pytestmark = pytest.mark.skipif(
    MOSQUITTO is None, reason="Debian's mosquitto is not installed (apt-get install mosquitto)"
)


class Broker:
    """A broker that can be stopped and started; user ``line`` may write to ``plant/#``."""

    def __init__(self, folder: Path, *, extra: str = "") -> None:
        self.folder, self.port = folder, free_port()
        self.process: subprocess.Popen[bytes] | None = None
        self.tls: dict[str, str] = {}
        passwords, rights = folder / "passwords", folder / "rights"
        command = ["mosquitto_passwd", "-b", "-c", str(passwords), "line", "pass"]
        subprocess.run(command, check=True, capture_output=True)
        rights.write_text("user line\ntopic readwrite plant/#\n")
        for path in (passwords, rights):
            path.chmod(0o644)
        (folder / "broker.conf").write_text(
            f"listener {self.port} 127.0.0.1\npassword_file {passwords}\nacl_file {rights}\n"
            f"user root\n{extra}"
        )

    def start(self) -> None:
        assert MOSQUITTO is not None
        command = [MOSQUITTO, "-c", str(self.folder / "broker.conf")]
        self.process = subprocess.Popen(command, stderr=subprocess.DEVNULL)
        outlet = self.outlet()

        def answers() -> bool:
            try:
                outlet.check()
            except OutletAwayError:
                return False
            return True

        wait_until(answers)
        outlet.close()

    def stop(self) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.wait(10)

    def outlet(self, topic: str = "plant/{station}/verdict", **options: Any) -> MqttOutlet:
        login = {"user": "line", "password": "pass", "timeout_s": 2.0, **options}
        if self.tls:
            login = {"tls": tls_context(Options(self.tls, "test")), **login}
        return MqttOutlet("127.0.0.1", self.port, topic, **login)


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[Broker]:
    made = Broker(tmp_path)
    made.start()
    yield made
    made.stop()


class Subscriber:
    def __init__(self, broker: Broker) -> None:
        self.got: list[tuple[str, bytes]] = []
        self.client = mqtt.Client(CallbackAPIVersion.VERSION2, protocol=mqtt.MQTTv5)
        self.client.username_pw_set("line", "pass")
        ready: list[bool] = []
        self.client.on_connect = lambda client, *_: client.subscribe("plant/#", qos=1)
        self.client.on_subscribe = lambda *_: ready.append(True)
        self.client.on_message = lambda c, d, m: self.got.append((m.topic, m.payload))
        self.client.reconnect_delay_set(0.05, 0.1)
        self.client.connect("127.0.0.1", broker.port)
        self.client.loop_start()
        wait_until(lambda: ready)

    @property
    def records(self) -> list[dict[str, Any]]:
        return [json.loads(text) for topic, text in self.got if topic.endswith("verdict")]

    def close(self) -> None:
        self.client.disconnect()
        self.client.loop_stop()


def test_a_record_arrives_on_its_topic(broker: Broker):
    listening = Subscriber(broker)
    outlet = broker.outlet(status_topic="plant/status")
    sent = record(1, station="press 3/a")
    outlet.send(sent)
    outlet.close()
    wait_until(lambda: len(listening.got) == 3)
    listening.close()
    topics = [topic for topic, _ in listening.got]
    assert topics == ["plant/status", "plant/press 3_a/verdict", "plant/status"]
    assert json.loads(listening.got[1][1]) == sent
    assert [listening.got[0][1], listening.got[2][1]] == [b"online", b"offline"]


@pytest.mark.parametrize("version", [5, 3])
def test_a_wrong_password_is_said(broker: Broker, version: int):
    with pytest.raises(OutletAwayError, match="refuses the login"):
        broker.outlet(password="wrong", version=version).check()


def test_a_topic_without_rights_is_said_and_not_lost(broker: Broker):
    with pytest.raises(OutletAwayError, match="refuses a record on the topic other/x"):
        broker.outlet(topic="other/x").send(record(1))


def test_nobody_there_is_said():
    with pytest.raises(OutletAwayError, match="cannot be reached"):
        MqttOutlet("127.0.0.1", free_port(), "t").check()
    with pytest.raises(OutletAwayError, match="cannot be reached"):
        MqttOutlet("no-such-host.invalid", 1883, "t").check()


def test_what_the_broker_missed_arrives_in_order_when_it_is_back(broker: Broker, tmp_path: Path):
    listening = Subscriber(broker)
    lines: list[str] = []
    settings = OutletSettings(broker.outlet(), retry_s=0.02)
    delivery = Delivery({"line": settings}, tmp_path / "spool", tell=lines.append)
    delivery.put(record(1))
    wait_until(lambda: numbers(listening.records) == [1])
    broker.stop()
    for number in range(2, 6):
        delivery.put(record(number))
    wait_until(lambda: lines)
    assert "is away" in lines[0] and delivery.waiting["line"] == 4
    listening.close()
    broker.start()
    again = Subscriber(broker)
    wait_until(lambda: delivery.waiting["line"] == 0)
    delivery.close()
    again.close()
    assert any("is back" in line for line in lines)
    # The subscriber may come after the first of them.
    assert set(numbers(again.records)) <= {2, 3, 4, 5}


# The library leaves the socket of a refused handshake to the garbage collector.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_broker_with_tls_is_checked_against_its_authority(tmp_path: Path):
    certificate, key = write_certificate(tmp_path, "broker")
    broker = Broker(tmp_path, extra=f"certfile {certificate}\nkeyfile {key}\n")
    broker.tls = {"ca": str(certificate)}
    broker.start()
    try:
        broker.outlet().send(record(1))
        other, _ = write_certificate(tmp_path, "other")
        with pytest.raises(OutletAwayError, match="certificate verify failed"):
            broker.outlet(tls=tls_context(Options({"ca": str(other)}, "test"))).check()
    finally:
        broker.stop()
