"""status.cost: the price of the engines that there are, at once, and what they are used for, now and then; and its metrics."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import CollectorRegistry

from tests.controller.objects import llm_deployment
from tests.controller.objects import pod as any_pod
from tests.controller.test_signals import levels, line, track
from tests.controller.test_surroundings import House
from tests.controller.world import KEY, Operator, World
from tokenfleet import contract
from tokenfleet.controller.accelerators_file import AcceleratorsFile
from tokenfleet.controller.autoscaling.known_specs import KnownSpecs
from tokenfleet.controller.costs.costs import FIRST_SECONDS, SECONDS, Costs, figure, money
from tokenfleet.controller.costs.meter import HOUR, Meter
from tokenfleet.controller.costs.metrics import CostMetrics
from tokenfleet.controller.observed import Json, Observed
from tokenfleet.controller.reconcile import NoSenses
from tokenfleet.controller.signals.report import decode
from tokenfleet.controller.signals.sums import Use
from tokenfleet.controller.signals.windows import Counted
from tokenfleet.controller.store import Key, Store
from tokenfleet.planning.accelerators import accelerators, extend

H100 = {"accelerator": "nvidia-h100-80gb", "parallelism": {"tensor": 2}}


# --- the meter


def test_time_costs_what_the_engines_cost_and_is_idle_or_not() -> None:
    meter = Meter(0.0)
    meter.hourly = 36.0
    assert meter.advance(600.0) == pytest.approx(6.0)
    meter.busy = True
    assert meter.advance(2400.0) == pytest.approx(18.0)
    meter.count(Counted(), 2400.0)
    meter.count(Counted(requests=9, prompt_tokens=3_000_000, completion_tokens=1_000_000), 2400.0)
    found = meter.rates()
    assert found.idle_share == pytest.approx(0.25)
    assert found.per_million_tokens == pytest.approx(24.0 / 4)
    assert found.per_request == pytest.approx(24.0 / 9)


def test_an_hour_is_remembered_and_no_more() -> None:
    meter = Meter(0.0)
    meter.hourly = 10.0
    meter.count(Counted(), 0.0)
    meter.count(Counted(prompt_tokens=10**6), 0.0)
    meter.advance(60.0)
    assert meter.rates().per_million_tokens == pytest.approx(10 / 60)
    assert meter.advance(10 * HOUR) == pytest.approx(10 * (10 - 1 / 60)), "of a span that is longer than an hour, all is told"
    assert meter.rates().per_million_tokens is None
    assert meter.rates().idle_share == 1.0


def test_other_engines_cost_something_else_from_now_on() -> None:
    meter = Meter(100.0)
    meter.hourly = 36.0
    meter.advance(200.0)
    meter.hourly = 72.0
    assert meter.advance(300.0) == pytest.approx(2.0)
    assert meter.advance(250.0) == 0.0, "a clock that stands still costs nothing"


def test_what_was_before_is_not_what_this_one_measured() -> None:
    meter = Meter(0.0)
    assert meter.count(Counted(prompt_tokens=500), 0.0) == Counted()
    assert meter.count(Counted(prompt_tokens=700), 1.0) == Counted(prompt_tokens=200)
    assert meter.count(Counted(prompt_tokens=30), 2.0) == Counted(prompt_tokens=30), "it began anew"


@pytest.mark.parametrize(
    ("amount", "as_money", "as_figure"),
    [
        pytest.param(13.76, "13.76", "13.8", id="as people write it"),
        pytest.param(0.805, "0.805", "0.805", id="parts of a cent"),
        pytest.param(110.08, "110.08", "110", id="hundreds"),
        pytest.param(12345.678, "12345.678", "12300", id="no exponent"),
        pytest.param(0.0, "0", "0", id="asleep"),
        pytest.param(0.00001234, "0", "0.0000123", id="small"),
    ],
)
def test_amounts(amount: float, as_money: str, as_figure: str) -> None:
    assert (money(amount), figure(amount)) == (as_money, as_figure)


# --- all of them


class Timer:
    def __init__(self, at: float, call: Callable[[], None]) -> None:
        self.at, self.call, self.cancelled = at, call, False

    def cancel(self) -> None:
        self.cancelled = True


class Office:
    """Costs of one LLMDeployment, with a clock."""

    def __init__(self, *, spot: bool = False, status: Json | None = None, **spec: Any) -> None:
        self.now, self.total, self.in_flight, self.complete = 1000.0, Counted(), 0, True
        self.known = True
        self.due: list[Key] = []
        self.timers: list[Timer] = []
        self.store, self.registry = Store(), CollectorRegistry()
        self.world = World()
        self.owner = self.put(llm_deployment(status=status, **{**H100, **spec}))
        self.costs = Costs(
            KnownSpecs(self.store),
            CostMetrics(self.registry),
            spot=spot,
            use=lambda _: self.use,
            due=self.due.append,
            clock=lambda: self.now,
            call_later=self.call_later,
        )
        self.store.listen(self.costs.changed)

    def put(self, body: Json) -> Json:
        made = self.world.add(body)
        self.store.put(made)
        return made

    @property
    def use(self) -> Use | None:
        return Use(self.complete, self.in_flight > 0, self.total) if self.known else None

    def call_later(self, seconds: float, call: Callable[[], None]) -> Timer:
        timer = Timer(self.now + seconds, call)
        self.timers.append(timer)
        return timer

    def advance(self, seconds: float) -> None:
        self.now += seconds
        due, self.timers = [one for one in self.timers if one.at <= self.now], [t for t in self.timers if t.at > self.now]
        for timer in due:
            if not timer.cancelled:
                timer.call()

    def answer(self, prompt: int, completion: int, *, busy: bool = True) -> None:
        requests, failed, prompts, completions = self.total
        self.total = Counted(requests + 1, failed, prompts + prompt, completions + completion)
        self.in_flight = int(busy)
        self.costs.heard(KEY)

    def cost(self, *pods: Json) -> Json | None:
        found = self.costs.of(KEY, Observed(owner=self.owner, pods=pods))
        if found is not None:
            self.owner = {**self.owner, "status": {"cost": found}}
        return found

    def sample(self, name: str, **labels: str) -> float | None:
        return self.registry.get_sample_value(name, {"namespace": "models", "deployment": "llama", **labels})


def engine(name: str = "engine-a", *, node: str | None = "n1", **fields: Any) -> Json:
    return {**any_pod(name, **fields), "spec": {"nodeName": node} if node else {}}


@pytest.mark.parametrize(
    ("pods", "hourly"),
    [
        pytest.param((engine(),), "13.76", id="two devices of one replica"),
        pytest.param((engine(), engine("b")), "27.52", id="two replicas"),
        pytest.param((), "0", id="asleep"),
        pytest.param((engine(), engine("p", role="prefill")), "27.52", id="a prefill pod costs as much"),
        pytest.param((engine(), engine("r", role="router")), "13.76", id="a router costs nothing here"),
        pytest.param((engine(), engine("b", node=None)), "13.76", id="a pod without a node holds no device"),
        pytest.param((engine(), engine("b", phase="Failed")), "13.76", id="nor does one that has ended"),
        pytest.param((engine(going=True),), "13.76", id="one that goes holds it to its end"),
    ],
)
def test_an_hour_costs_what_there_is(pods: tuple[Json, ...], hourly: str) -> None:
    assert Office().cost(*pods) == {"currency": "USD", "hourly": hourly}


def test_spot_nodes_have_their_own_price() -> None:
    assert Office(spot=True).cost(engine()) == {"currency": "USD", "hourly": "4.92"}


def test_a_class_without_a_price_has_no_cost_and_no_metric() -> None:
    office = Office(accelerator="nvidia")
    assert office.cost(engine()) is None
    assert office.sample(contract.METRIC_COST_HOURLY, currency="USD") is None


def test_measured_figures_come_after_a_minute_and_then_every_five() -> None:
    office = Office()
    office.cost(engine())
    office.advance(30)
    office.answer(900_000, 100_000)
    assert office.due == []
    office.advance(FIRST_SECONDS - 1)
    assert office.due == []
    office.advance(1)
    assert office.due == [KEY]
    shown = office.cost(engine())
    assert shown == {"currency": "USD", "hourly": "13.76", "perMillionTokens": "0.344", "idleShare": "0.33"}
    for _ in range(9):
        office.advance(SECONDS / 10)
        office.answer(100_000, 100_000)
        assert office.cost(engine()) == shown
    assert office.due == [KEY]
    office.advance(SECONDS / 10)
    assert office.due == [KEY, KEY]
    renewed = office.cost(engine())
    assert renewed is not None and renewed["perMillionTokens"] == figure(13.76 * 390 / 3600 / 2.8)


def test_the_first_request_after_a_night_does_not_pay_for_the_night_alone() -> None:
    office = Office()
    office.cost(engine())
    office.advance(10 * HOUR)
    office.answer(50, 50)
    office.advance(FIRST_SECONDS / 2)
    office.answer(500_000, 500_000)
    assert office.due == []
    office.advance(FIRST_SECONDS / 2)
    found = office.cost(engine())
    assert found is not None and float(found["perMillionTokens"]) == pytest.approx(13.76, rel=0.02), "an hour, to the minute"


def test_without_traffic_nothing_is_renewed() -> None:
    office = Office()
    office.cost(engine())
    office.answer(10_000, 10_000)
    office.advance(FIRST_SECONDS)
    shown = office.cost(engine())
    office.in_flight = 0
    for _ in range(100):
        office.costs.heard(KEY)
        office.advance(SECONDS)
    assert office.due == [KEY]
    assert (office.cost(engine()), office.timers) == (shown, [])


def test_a_new_controller_leaves_the_measured_figures_until_it_has_its_own() -> None:
    before = {"currency": "USD", "hourly": "99", "perMillionTokens": "1.23", "idleShare": "0.10"}
    office = Office(status={"cost": before})
    office.total = Counted(requests=7, prompt_tokens=10**9)
    assert office.cost(engine()) == {**before, "hourly": "13.76"}
    office.answer(1_000_000, 0)
    office.advance(FIRST_SECONDS)
    found = office.cost(engine())
    assert found is not None and found["perMillionTokens"] == figure(13.76 / 60)


def test_what_was_measured_in_another_currency_is_not_left() -> None:
    office = Office(status={"cost": {"currency": "EUR", "hourly": "1", "perMillionTokens": "1", "idleShare": "0"}})
    assert office.cost(engine()) == {"currency": "USD", "hourly": "13.76"}


def test_a_spec_that_cannot_be_run_leaves_all_as_it_was() -> None:
    before = {"currency": "USD", "hourly": "13.76"}
    office = Office(status={"cost": before}, replicas=-1)
    assert office.cost(engine()) == before


def test_metrics_go_on_between_two_looks_of_status() -> None:
    office = Office()
    office.cost(engine())
    assert office.sample(contract.METRIC_COST_HOURLY, currency="USD") == pytest.approx(13.76)
    assert office.sample(f"{contract.METRIC_COST_TOKENS}_total", kind="prompt") == 0
    office.advance(900)
    office.answer(70, 30)
    assert office.sample(f"{contract.METRIC_COST}_total", currency="USD") == pytest.approx(13.76 / 4)
    assert office.sample(f"{contract.METRIC_COST_TOKENS}_total", kind="prompt") == 70
    assert office.sample(f"{contract.METRIC_COST_TOKENS}_total", kind="completion") == 30


def test_a_load_that_is_not_whole_says_nothing_of_idleness_and_none_at_all_is_idle() -> None:
    office = Office()
    office.cost(engine())
    office.answer(1, 1, busy=True)
    office.complete, office.in_flight = False, 0
    office.costs.heard(KEY)
    office.advance(600)
    office.known = False
    office.costs.heard(KEY)
    office.advance(600)
    office.known = office.complete = True
    office.answer(1, 1)
    office.advance(SECONDS)
    found = office.cost(engine())
    assert found is not None and found["idleShare"] == f"{600 / 1500:.2f}"


def test_what_is_gone_is_forgotten() -> None:
    office = Office()
    office.cost(engine())
    office.answer(1, 1)
    office.store.remove(office.owner)
    assert office.sample(contract.METRIC_COST_HOURLY, currency="USD") is None
    assert all(timer.cancelled for timer in office.timers)
    office.costs.heard(KEY)
    assert office.sample(f"{contract.METRIC_COST}_total", currency="USD") is None


async def test_the_routers_word_becomes_status() -> None:
    house = House(**H100)
    house.report()
    seen = Observed(owner=house.store.get(KEY) or {}, pods=(engine(),))
    assert house.around.cost(KEY, seen) == {"currency": "USD", "hourly": "13.76"}
    house.report(tracks={"stable": {**track(requests=2), "promptTokens": 900, "completionTokens": 100}})
    labels = {"namespace": "models", "deployment": "llama", "kind": "prompt"}
    assert house.registry.get_sample_value(f"{contract.METRIC_COST_TOKENS}_total", labels) == 900
    await house.around.stop()


class Accountant(NoSenses):
    """Knows a cost."""

    def cost(self, key: Key, observed: Observed) -> Json | None:
        return {"currency": "USD", "hourly": money(len(observed.pods))}


async def test_a_reconcile_writes_it_and_is_quiet_then() -> None:
    world = World()
    world.add_deployment()
    world.add(engine())
    operator = Operator(world, senses=Accountant())
    await operator.turn()
    await operator.turn()
    assert world.one(contract.KIND, "llama")["status"]["cost"] == {"currency": "USD", "hourly": "1"}
    assert await operator.turn() == []


def test_tokens_of_routers_add_up_and_those_of_older_ones_are_none() -> None:
    told = decode(line(llama=levels(tracks={"stable": track(5)}))).deployments["llama"].tracks["stable"]
    assert (told.prompt_tokens, told.completion_tokens) == (0, 0)
    with_tokens = {**track(5), "promptTokens": 11, "completionTokens": 7}
    told = decode(line(llama=levels(tracks={"stable": with_tokens}))).deployments["llama"].tracks["stable"]
    assert (told.prompt_tokens, told.completion_tokens) == (11, 7)


# --- the cluster's own accelerators


class Desk:
    """A file of classes."""

    def __init__(self, folder: Path) -> None:
        self.path, self.registry, self.changes = folder / "classes", CollectorRegistry(), 0
        self.file = AcceleratorsFile(self.path, registry=self.registry, changed=self.count)

    def count(self) -> None:
        self.changes += 1

    def write(self, text: str) -> None:
        """As the kubelet does: another file in its place."""
        new = self.path.with_suffix(".new")
        new.write_text(text)
        new.replace(self.path)
        self.file.look()

    @property
    def invalid(self) -> float | None:
        return self.registry.get_sample_value(contract.METRIC_ACCELERATORS_INVALID)


@pytest.fixture
def desk(tmp_path: Path) -> Any:
    yield Desk(tmp_path)
    extend("", origin="the test's end")


def price(text: str) -> str:
    return f'{{"nvidia-h100-80gb": {{"price": {{"on_demand": {text}}}}}}}'


def test_the_file_is_read_when_it_changes_and_only_then(desk: Desk) -> None:
    desk.file.look()
    assert (desk.changes, desk.invalid) == (0, 0)
    desk.write(price("2.5"))
    desk.file.look()
    found = accelerators()["nvidia-h100-80gb"]
    assert found.price is not None and (found.price.on_demand, desk.changes) == (2.5, 1)
    desk.write("[nvidia-h100-80gb]\nper_node = 4\n")
    assert (accelerators()["nvidia-h100-80gb"].per_node, desk.changes) == (4, 2)


def test_a_mistake_changes_nothing_and_is_told(desk: Desk, caplog: pytest.LogCaptureFixture) -> None:
    desk.write(price("2.5"))
    desk.write('{"nvidia-h100-80gb": {"price": {"on_demand": "cheap"}}}')
    found = accelerators()["nvidia-h100-80gb"]
    assert found.price is not None and (found.price.on_demand, desk.changes, desk.invalid) == (2.5, 1, 1)
    assert "[nvidia-h100-80gb] price.on_demand" in caplog.text
    desk.file.look()
    assert len(caplog.records) == 1, "it is told once"
    desk.write(price("3.5"))
    assert (desk.changes, desk.invalid) == (2, 0)


def test_a_file_that_goes_away_takes_its_classes_back(desk: Desk) -> None:
    desk.write(price("2.5"))
    desk.path.unlink()
    desk.file.look()
    found = accelerators()["nvidia-h100-80gb"]
    assert found.price is not None and (found.price.on_demand, desk.changes) == (6.88, 2)


def test_a_new_price_counts_from_the_next_reconcile_on(desk: Desk) -> None:
    office = Office()
    assert office.cost(engine()) == {"currency": "USD", "hourly": "13.76"}
    desk.write(price("2"))
    assert office.cost(engine()) == {"currency": "USD", "hourly": "4"}
