"""The page Sources in a browser: a trial on live records, its proposal, and that nobody is kept out."""

import json

from kafka import KafkaProducer

from tests.browser.visits import WIDTHS, accessibility_violations, overflow_pixels
from tests.conftest import TopicFactory
from tests.integration.browser.conftest import Served


def test_a_topic_is_tried_its_proposal_is_tried_and_both_results_can_be_read_by_everybody(
    served: Served, topic: TopicFactory, kafka_bootstrap: str
) -> None:
    name = topic()
    producer = KafkaProducer(bootstrap_servers=kafka_bootstrap)
    for number in range(3):
        producer.send(name, json.dumps({"id": number, "body": f"It fits {number} times."}).encode())
    producer.send(name, b"<script>no JSON</script>")
    producer.flush()
    producer.close()
    page = served.page("operator")
    page.goto("/sources")
    page.get_by_role("textbox", name="Topic").fill(name)
    page.get_by_role("button", name="Try").click()
    page.get_by_role("heading", name="Of 4 records: 4 dead letter").wait_for()
    assert name in page.get_by_label("Section of the settings file").input_value(), "a proposal"
    page.get_by_role("textbox", name="Topic").fill(name)
    page.get_by_role("button", name="Try").click()
    page.get_by_role("heading", name="3 review").wait_for()
    for width in WIDTHS.values():
        page.set_viewport_size({"width": width, "height": 900})
        assert accessibility_violations(page) == []
        assert overflow_pixels(page) == 0
    page.emulate_media(color_scheme="dark")
    assert accessibility_violations(page, rules=["color-contrast"]) == []
