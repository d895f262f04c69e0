"""Kafka and PostgreSQL themselves are killed and come back; the worker says so and goes on by itself."""

from tests.faults.own_stack import OwnStack
from tests.faults.postgres_proxy import PostgresProxy
from tests.faults.scene import Scene


def test_a_database_killed_in_mid_batch_gets_the_batch_when_it_is_back(own_stack: OwnStack, killable: Scene):
    killable.publish(150)
    worker = killable.worker(stops={"scored": 2})
    worker.wait_for("at scored")
    own_stack.kill_postgres()
    worker.go_on()
    worker.wait_for_event("database_unavailable")
    killable.publish(150)
    own_stack.start()
    killable.wait_until_stored()
    assert worker.wait_for_event("database_back")["away_seconds"] > 0


def test_a_database_killed_inside_the_transaction_keeps_all_of_it_or_nothing(
    own_stack: OwnStack, killable: Scene
):
    proxy = PostgresProxy(killable.database_url)
    try:
        worker = killable.worker(url=proxy.url)
        for arm, statement in (
            (proxy.stop_after, "COPY prediction"),
            (proxy.stop_before, "COMMIT"),
            (proxy.stop_after, "COMMIT"),
        ):
            stop = arm(statement)
            killable.publish(100)
            stop.wait()
            own_stack.kill_postgres()
            stop.release()
            own_stack.start()
            killable.wait_until_stored()
        assert worker.is_alive()
    finally:
        proxy.close()


def test_a_worker_started_before_its_database_waits_for_it(own_stack: OwnStack, killable: Scene):
    killable.publish(50)
    own_stack.kill_postgres()
    worker = killable.worker(ready=False)
    worker.wait_for_event("database_unavailable")
    own_stack.start()
    worker.wait_for("ready")
    killable.wait_until_stored()


def test_a_broker_killed_in_mid_batch_is_missed_aloud_and_read_on_when_it_is_back(
    own_stack: OwnStack, killable: Scene
):
    killable.publish(300)
    worker = killable.worker(stops={"scored": 2}, kafka={"silence_seconds": 1.5})
    worker.wait_for("at scored")
    leaving = killable.worker()
    leaving.wait_for_event("partitions_positioned")
    own_stack.kill_kafka()
    assert leaving.stop() == 0  # without a broker to say goodbye to
    worker.go_on()
    assert "goes on by itself" in worker.wait_for_event("broker_unreachable")["error"]
    # What was in hand is stored without the broker.
    killable.wait_until(lambda accounts: sum(account.next for account in accounts) > 40)
    own_stack.start()
    killable.publish(150)
    killable.wait_until_stored()
    assert worker.wait_for_event("broker_back")["away_seconds"] > 0


def test_a_worker_started_before_its_broker_waits_for_it(own_stack: OwnStack, killable: Scene):
    killable.publish(50)
    own_stack.kill_kafka()
    worker = killable.worker(ready=False)
    worker.wait_for_event("kafka_unavailable")
    own_stack.start()
    worker.wait_for("ready")
    killable.wait_until_stored()
