"""When runs begin: the night in UTC, labels, drift; and a schedule that nothing stops but whoever asks."""

import time
from datetime import UTC, datetime, timedelta
from threading import Event, Thread

import pytest
from apscheduler.schedulers.background import BackgroundScheduler

from reviews.errors import Unavailable, WrongUse
from storage.learning.leases import Lease, LeaseHeld, LeaseLost
from storage.learning.runs import Pending
from trainer.errors import RunStopped
from trainer.nightly.runner import LeaseKeeper
from trainer.nightly.schedule import (
    LOOK,
    NIGHTLY,
    UPKEEP,
    CronTrigger,
    Schedule,
    Upkeep,
    due,
    missed_run,
    next_run,
)
from trainer.settings import NightlySettings

TWO = datetime(2026, 3, 2, 2, tzinfo=UTC)
NOON = datetime(2026, 3, 2, 12, tzinfo=UTC)
QUIET = Pending(new_labels=0, is_drifting=False)


@pytest.mark.parametrize(
    ("pending", "settings", "wanted"),
    [
        (QUIET, {}, None),
        (Pending(199, is_drifting=False), {}, None),
        (Pending(200, is_drifting=False), {}, "labels"),
        (Pending(10**6, is_drifting=False), {"min_new_labels": 0}, None),
        (Pending(0, is_drifting=True), {}, "drift"),
        (Pending(500, is_drifting=True), {}, "drift"),
        (Pending(500, is_drifting=True), {"run_on_drift": False}, "labels"),
    ],
)
def test_labels_and_drift_ask_for_a_run(pending, settings, wanted):
    assert due(pending, NightlySettings(**settings)) == wanted


class Told:
    """What a schedule does with two tasks, at noon of a day on which both had their night."""

    def __init__(self, pending=None, failing=()):
        self.started = []
        self.now = NOON
        self.at_work = set()
        self.began = {"sentiment": TWO + timedelta(seconds=9), "tone": TWO + timedelta(hours=1)}
        self._pending = pending or {}
        self.failing = failing
        self.schedule = Schedule(
            ("sentiment", "tone"),
            NightlySettings(misfire_grace_seconds=11 * 3600),
            self._start,
            lambda task: self._pending.get(task, QUIET),
            began=self._last_began,
            is_at_work=lambda task: task in self.at_work,
            now=lambda: self.now,
        )

    def _last_began(self, task):
        if isinstance(self.began[task], Exception):
            raise self.began[task]
        return self.began[task]

    def _start(self, task, trigger):
        self.started.append((task, trigger))
        for kind in self.failing:
            raise kind("It went wrong.")


def test_a_night_runs_every_task_one_after_the_other():
    told = Told()
    told.schedule.nightly()
    assert told.started == [("sentiment", "nightly"), ("tone", "nightly")]


def test_a_look_runs_the_tasks_that_something_asks_for():
    told = Told({"sentiment": QUIET, "tone": Pending(300, is_drifting=False)})
    told.schedule.look()
    assert told.started == [("tone", "labels")]


def test_a_look_leaves_a_task_alone_that_a_trainer_is_at():
    told = Told({"tone": Pending(300, is_drifting=False)})
    told.at_work = {"tone"}
    told.began["sentiment"] = None
    told.schedule.look()
    assert told.started == [("sentiment", "nightly")]
    told.at_work = set()
    told.schedule.look()
    assert told.started == [("sentiment", "nightly"), ("tone", "labels")]


def test_a_start_that_fails_without_leaving_a_run_is_tried_again_in_longer_and_longer_pauses():
    told = Told({"tone": Pending(300, is_drifting=False)}, failing=[RuntimeError])
    tried = []
    for minute in range(300):
        told.now = NOON + timedelta(minutes=minute)
        told.schedule.look()
        tried += [minute] * len(told.started)
        told.started.clear()
    assert tried == [0, 1, 3, 7, 15, 31, 63, 123, 183, 243]
    told.schedule.nightly()
    assert told.started == [("sentiment", "nightly"), ("tone", "nightly")], "the night comes anyway"
    told.failing = []
    told.now += timedelta(hours=1)
    for _ in range(2):
        told.schedule.look()
    assert told.started[2:] == [("tone", "labels")] * 2, "what went well is forgotten"


def test_a_night_during_a_restart_is_made_up_for_once():
    told = Told()
    told.began["tone"] = TWO - timedelta(seconds=1)
    told.schedule.look()
    told.schedule.look()
    assert told.started == [("tone", "nightly")]


def test_whether_a_night_was_missed_is_asked_until_the_database_answers():
    told = Told()
    told.began["tone"] = Unavailable("away")
    told.schedule.look()
    assert told.started == []
    told.began["tone"] = None
    told.schedule.look()
    assert told.started == [("tone", "nightly")]


@pytest.mark.parametrize(
    ("began", "now", "wanted"),
    [
        (TWO - timedelta(days=1), TWO + timedelta(minutes=5), True),
        (None, TWO + timedelta(minutes=5), True),
        (TWO + timedelta(seconds=3), TWO + timedelta(minutes=5), False),
        (TWO, TWO + timedelta(minutes=5), False),
        (TWO - timedelta(days=1), TWO - timedelta(seconds=1), False),
        (None, TWO + timedelta(hours=7), False),
        (TWO - timedelta(days=9), TWO + timedelta(hours=7), False),
    ],
)
def test_a_night_is_missed_if_no_run_began_since_and_it_is_not_too_late(began, now, wanted):
    assert missed_run("0 2 * * *", began, now, timedelta(hours=6)) == wanted


@pytest.mark.parametrize("kind", [LeaseHeld, RuntimeError])
def test_a_run_that_fails_stops_neither_the_next_task_nor_the_schedule(kind):
    told = Told(failing=[kind])
    told.schedule.nightly()
    told.schedule.nightly()
    assert len(told.started) == 4


def test_a_database_that_is_away_is_looked_at_again_later():
    def away(task):
        raise Unavailable("The database is away.")

    started = []
    schedule = Schedule(
        ("a",),
        NightlySettings(),
        lambda *told: started.append(told),
        away,
        began=lambda _: NOON,
        is_at_work=lambda _: False,
        now=lambda: NOON,
    )
    schedule.look()
    assert started == []


def test_jobs_are_made_up_for_once_and_never_run_beside_themselves():
    scheduler = BackgroundScheduler(timezone=UTC)
    settings = NightlySettings(misfire_grace_seconds=99)
    Schedule(
        ("a",),
        settings,
        lambda *_: None,
        lambda _: QUIET,
        began=lambda _: None,
        is_at_work=lambda _: False,
        now=lambda: NOON,
    ).declare(scheduler)
    scheduler.start(paused=True)
    try:
        jobs = {job.id: job for job in scheduler.get_jobs()}
        assert set(jobs) == {NIGHTLY, LOOK}
        for job in jobs.values():
            assert (job.misfire_grace_time, job.coalesce, job.max_instances) == (99, True, 1)
        assert jobs[NIGHTLY].next_run_time.hour == 2
        assert jobs[LOOK].next_run_time == NOON, "at once"
    finally:
        scheduler.shutdown(wait=False)


class Running:
    """A schedule of two tasks in a thread, whose runs last until they are told to stop."""

    def __init__(self):
        self.stopping, self.is_at_work, self.started = Event(), Event(), []
        self._looks, self.has_looked = 0, Event()
        self.schedule = Schedule(
            ("sentiment", "tone"),
            NightlySettings(poll_seconds=0.01),
            self._start,
            self._pending,
            began=lambda _: datetime.now(UTC),
            is_at_work=lambda _: False,
            now=lambda: datetime.now(UTC),
        )
        self.asks = {"sentiment": Pending(300, is_drifting=False)}

    def _pending(self, task):
        self._looks += 1
        if self._looks > 6:
            self.has_looked.set()
        return self.asks.get(task, QUIET)

    def _start(self, task, trigger):
        self.started.append(task)
        self.is_at_work.set()
        self.stopping.wait(60)
        raise RunStopped("The run was told to stop.")

    def run(self, until):
        thread = Thread(target=self.schedule.run, args=(self.stopping,))
        thread.start()
        try:
            assert until.wait(20)
            time.sleep(0.1)  # many more polls would fall due beside the run
        finally:
            self.stopping.set()
            thread.join(60)
        assert not thread.is_alive()


def test_a_schedule_that_is_told_to_stop_begins_no_other_run():
    running = Running()
    running.asks["tone"] = Pending(300, is_drifting=False)
    running.run(until=running.is_at_work)
    assert running.started == ["sentiment"]


def test_upkeep_goes_on_beside_a_run_and_its_failure_stops_nothing():
    running, both = Running(), Event()
    done = []

    def tidy():
        done.append("tidy")
        if running.is_at_work.wait(20):
            both.set()
        raise RuntimeError("It went wrong.")

    running.schedule = Schedule(
        ("sentiment",),
        NightlySettings(poll_seconds=0.01),
        running._start,
        running._pending,
        began=lambda _: datetime.now(UTC),
        is_at_work=lambda _: False,
        now=lambda: datetime.now(UTC),
        upkeep=[Upkeep("tidy", "* * * * *", "retention.cron", tidy)],
    )
    scheduler = BackgroundScheduler(timezone=UTC)
    running.schedule.declare(scheduler)
    scheduler.start(paused=True)
    try:
        job = scheduler.get_job("tidy")
        assert (job.max_instances, job.executor) == (1, UPKEEP)
    finally:
        scheduler.shutdown(wait=False)
    thread = Thread(target=job.func, args=job.args)
    thread.start()
    running.run(until=both)
    thread.join(20)
    assert done == ["tidy"]
    assert running.started == ["sentiment"]


def test_a_wrong_time_of_an_upkeep_names_its_setting():
    with pytest.raises(WrongUse, match=r"retention\.cron"):
        Schedule(
            ("a",), NightlySettings(), lambda *_: None, lambda _: QUIET, began=lambda _: None,
            is_at_work=lambda _: False, upkeep=[Upkeep("tidy", "every night", "retention.cron", print)],
        )  # fmt: skip


def test_polls_beside_a_run_say_nothing_in_the_schedulers_own_words(caplog):
    running = Running()
    running.run(until=running.is_at_work)
    assert [record.getMessage() for record in caplog.records if record.levelname == "WARNING"] == []


def test_looks_go_on_one_after_the_other():
    running = Running()
    running.asks.clear()
    running.run(until=running.has_looked)
    assert running.started == []


def test_the_night_comes_once_a_day_by_utc_also_when_clocks_change():
    # In Berlin, 02:30 of 25 October 2026 comes twice, and 02:30 of 29 March 2026 never.
    for day in (datetime(2026, 10, 24, 12, tzinfo=UTC), datetime(2026, 3, 28, 12, tzinfo=UTC)):
        moments, now = [], day
        for _ in range(3):
            now = next_run("30 2 * * *", now)
            moments.append(now)
            now += timedelta(seconds=1)
        assert [moment.astimezone(UTC).strftime("%H:%M") for moment in moments] == ["02:30"] * 3
        assert moments[2] - moments[0] == timedelta(days=2)


@pytest.mark.parametrize(
    ("weekdays", "wanted"),
    [
        ("0", "Sun"),
        ("7", "Sun"),
        ("1", "Mon"),
        ("6", "Sat"),
        ("1-5", "Mon Tue Wed Thu Fri"),
        ("5-7", "Fri Sat Sun"),
        ("0-7", "Mon Tue Wed Thu Fri Sat Sun"),
        ("*", "Mon Tue Wed Thu Fri Sat Sun"),
        ("*/2", "Tue Thu Sat Sun"),
        ("1-5/2", "Mon Wed Fri"),
        ("3/2", "Wed Fri Sun"),  # as cron does: from 3 to 7
        ("0,3,SAT", "Wed Sat Sun"),
        ("mon-fri", "Mon Tue Wed Thu Fri"),
        ("fri-sun", "Fri Sat Sun"),
        ("mon,1-2,7", "Mon Tue Sun"),
    ],
)
def test_weekdays_are_those_of_cron(weekdays, wanted):
    moments, now = [], datetime(2026, 3, 2, tzinfo=UTC)  # a Monday
    while (now := next_run(f"0 2 * * {weekdays}", now)) < datetime(2026, 3, 9, tzinfo=UTC):
        moments.append(now.strftime("%a"))
        now += timedelta(seconds=1)
    assert " ".join(moments) == wanted


@pytest.mark.parametrize(
    ("cron", "wanted"),
    [
        ("0 2 13 * 5", "06 13 13 20 27"),  # Fridays, and the 13th
        ("0 2 1,15 * mon", "02 09 15 16 23"),
        ("0 2 */15 * mon", "16"),  # a star in the field: both are wanted, as in Debian's cron
        ("0 2 13 * *", "13"),
    ],
)
def test_a_day_of_the_month_or_a_weekday_is_enough_where_both_are_given(cron, wanted):
    moments, now = [], datetime(2026, 3, 2, tzinfo=UTC)
    while (now := next_run(cron, now)) < datetime(2026, 3, 30, tzinfo=UTC):
        moments.append(now.strftime("%d"))
        now += timedelta(seconds=1)
    assert moments == sorted(set(wanted.split()))


@pytest.mark.parametrize("moment", [TWO, TWO + timedelta(microseconds=1), TWO - timedelta(microseconds=1)])
def test_a_moment_is_its_own_next_night_and_a_microsecond_later_is_not(moment):
    assert next_run("0 2 * * *", moment) == (TWO if moment <= TWO else TWO + timedelta(days=1))


def test_a_night_that_never_comes_is_refused_or_none():
    with pytest.raises(WrongUse, match="day-of-month"):
        CronTrigger("0 2 31 2 *")
    with pytest.raises(WrongUse, match="6 fields, not 5"):
        CronTrigger("0 0 2 * * *")


@pytest.mark.parametrize("weekdays", ["8", "1-8", "5-1", "monday", "", "1,", "*/0", "1-", "-1"])
def test_what_is_no_weekday_is_refused(weekdays):
    with pytest.raises(WrongUse, match="is no cron expression"):
        CronTrigger(f"0 2 * * {weekdays}")


def test_what_is_no_cron_expression_is_refused_with_an_example():
    with pytest.raises(WrongUse, match=r"'at night' \(trainer.nightly.cron\) is no cron .* '0 2 \* \* \*'"):
        CronTrigger("at night")


class Leases:
    """Renewals with given answers; then the lease is lost."""

    def __init__(self, *answers):
        self._answers = list(answers)
        self.released = 0

    def renew(self, lease, seconds):
        answer = self._answers.pop(0) if self._answers else False
        if isinstance(answer, Exception):
            raise answer
        return answer

    def release(self, lease):
        self.released += 1


def test_a_keeper_says_that_the_lease_is_lost_and_not_that_the_database_is_away():
    leases = Leases(True, Unavailable("away"), True)
    keeper = LeaseKeeper(leases, Lease("trainer:a", "me", 1), 60)
    for _ in range(3):
        assert keeper.renew()
        keeper.check()
    assert not keeper.renew()
    with pytest.raises(LeaseLost, match="went to another trainer"):
        keeper.check()


def test_who_holds_on_to_a_lease_learns_that_it_is_lost_and_that_nobody_can_tell():
    keeper = LeaseKeeper(Leases(True, Unavailable("away"), False, True), Lease("trainer:a", "me", 1), 60)
    keeper.hold()
    with pytest.raises(Unavailable):
        keeper.hold()
    for _ in range(2):  # what is lost stays lost
        with pytest.raises(LeaseLost):
            keeper.hold()


def test_a_keeper_gives_the_lease_back_in_the_end_whatever_happens():
    leases = Leases()
    with pytest.raises(ZeroDivisionError), LeaseKeeper(leases, Lease("trainer:a", "me", 1), 3600):
        raise ZeroDivisionError
    assert leases.released == 1


def test_a_keeper_renews_by_itself_until_the_lease_is_lost():
    with LeaseKeeper(Leases(True, True), Lease("trainer:a", "me", 1), 0.003) as keeper:
        assert keeper._lost.wait(30)
        with pytest.raises(LeaseLost):
            keeper.check()
