"""The Helm chart, as far as it can be held to its words without a cluster: rendered and checked."""

import json
import re
import subprocess
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml

from reviewloop.settings import Settings
from tests.environments import folder_of
from tests.unit.deploy.parsing import parse

ROOT = Path(__file__).parents[3]
CHART = ROOT / "deploy" / "helm" / "reviewloop"
KUBERNETES = ("1.31.0", "1.37.0")
NEEDED = {
    "settings": {"kafka": {"bootstrap_servers": "kafka-0:9092,kafka-1:9092"}},
    "database": {"host": "postgres:5432", "passwordSecret": "reviewloop-database"},
}
EVERYTHING = {
    **NEEDED,
    "settings": {
        "kafka": {
            "bootstrap_servers": "kafka:9092", "security_protocol": "SASL_SSL", "sasl_mechanism": "PLAIN"},
        "consumer": {
            "shutdown_grace_seconds": 45.5, "max_batch_tokens": 16384, "tasks": ["sentiment", "topic"]},
        "trainer": {"nightly": {"cron": "0 3 * * *"}},
        "retention": {"texts_days": 90},
        "export": {"target": "s3://lake/reviews"},
        "sinks": [{"topic": "scored-reviews"}],
    },
    "image": {"digest": f"sha256:{'a' * 64}", "pullSecrets": ["registry"]},
    "secretFiles": [{"secret": "kafka", "key": "password", "variable": "reviewloop_kafka__sasl_password"}],
    "workers": {
        "gpus": 1,
        "preStopSeconds": 3,
        "nodeSelector": {"gpu": "yes"},
        "tolerations": [{"key": "gpu", "operator": "Exists", "effect": "NoSchedule"}],
        "affinity": {"podAntiAffinity": {}},
        "podAnnotations": {"a": "b"},
        "topologySpreadConstraints": [{
            "maxSkew": 1, "topologyKey": "zone", "whenUnsatisfiable": "ScheduleAnyway", "labelSelector": {}}],
    },
    "trainer": {"gpus": 1},
    "autoscaling": {"enabled": True, "authentication": "kafka-login", "metadata": {"sasl": "plaintext"}},
    "drift": {"tasks": ["sentiment", "topic"]},
    "console": {
        "replicas": 2,
        "hosts": ["reviews.example.org"],
        "ingress": {"enabled": True, "tlsSecret": "tls"},
    },
    "database": {
        **NEEDED["database"],
        "users": {"reader": "analyst", "sink": "rl_sink", "keeper": "rl_keeper", "exporter": "rl_exporter"},
    },
    "sinks": {"enabled": True, "replicas": 2},
    "retention": {"enabled": True},
    "erasures": {"enabled": True, "podAnnotations": {"a": "b"}},
    "export": {"enabled": True, "schedule": "0 */6 * * *"},
    "admin": {"enabled": True},
    "cache": {"claim": "models"},
    "monitoring": {
        "serviceMonitor": {"enabled": True, "labels": {"release": "prometheus"}},
        "rules": {"enabled": True},
        "dashboard": {"enabled": True},
    },
}  # fmt: skip
CUSTOM = {"ScaledObject", "ServiceMonitor", "PrometheusRule"}
"""Kinds that others define; KEDA's and Prometheus' own schemas check them."""
_VALIDATE = """
import json, sys
import kubernetes_validate
for document in json.load(sys.stdin):
    kubernetes_validate.validate(document, sys.argv[1], strict=True)
"""


@pytest.fixture(scope="module")
def home() -> Path:
    """The environment with Helm and the schemas."""
    return folder_of("chart")


def helm(home: Path, *arguments: object, values: Any = None) -> subprocess.CompletedProcess[str]:
    """A command of Helm; values come by standard input."""
    given = ["--values", "-"] if values is not None else []
    return subprocess.run(
        [home / "bin" / "helm", *map(str, arguments), *given], input=json.dumps(values), text=True,
        capture_output=True, check=False, env={"HOME": str(home), "PATH": ""},
    )  # fmt: skip


def render(home: Path, values: Any, version: str = KUBERNETES[-1]) -> list[dict[str, Any]]:
    """The documents that the chart makes of some values."""
    done = helm(
        home, "template", "rl", CHART, "--namespace", "reviews", "--kube-version", version, values=values
    )
    assert done.returncode == 0, done.stderr
    return [document for document in yaml.safe_load_all(done.stdout) if document]


@pytest.fixture(scope="module")
def plain(home: Path) -> list[dict[str, Any]]:
    """With the values that are needed alone."""
    return render(home, NEEDED)


@pytest.fixture(scope="module")
def full(home: Path) -> list[dict[str, Any]]:
    """With every option."""
    return render(home, EVERYTHING)


def _of(documents: list[dict[str, Any]], kind: str, end: str = "") -> dict[str, Any]:
    (found,) = (one for one in documents if one["kind"] == kind and one["metadata"]["name"].endswith(end))
    return found


def _pods(documents: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    jobs = {
        one["metadata"]["name"]: one["spec"]["jobTemplate"]["spec"]["template"]["spec"]
        for one in documents
        if one["kind"] == "CronJob"
    }
    return jobs | {
        one["metadata"]["name"]: one["spec"]["template"]["spec"]
        for one in documents
        if one["kind"] in {"Deployment", "Job"}
    }


def _containers(documents: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    return {
        one["name"]: one
        for pod in _pods(documents).values()
        for one in [*pod.get("initContainers", ()), *pod["containers"]]
    }


@pytest.mark.parametrize("version", KUBERNETES)
@pytest.mark.parametrize("values", [NEEDED, EVERYTHING], ids=["needed", "everything"])
def test_every_document_follows_the_schema_of_its_kubernetes_version(
    home: Path, values: Any, version: str
) -> None:
    documents = [one for one in render(home, values, version) if one["kind"] not in CUSTOM]
    assert len(documents) >= 8
    done = subprocess.run(
        [home / "bin" / "python", "-c", _VALIDATE, version.rpartition(".")[0]], input=json.dumps(documents),
        text=True, capture_output=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2_000:]


def test_the_schema_would_notice_a_mistake(home: Path, plain: list[dict[str, Any]]) -> None:
    wrong = {**_of(plain, "Service", "-console"), "spec": {"ports": [{"prot": 80}]}}
    done = subprocess.run(
        [home / "bin" / "python", "-c", _VALIDATE, "1.37"], input=json.dumps([wrong]), text=True,
        capture_output=True, check=False,
    )  # fmt: skip
    assert done.returncode != 0
    assert "prot" in done.stderr


def test_helm_itself_finds_nothing_to_say(home: Path) -> None:
    done = helm(home, "lint", CHART, "--strict", values=EVERYTHING)
    assert done.returncode == 0, done.stdout + done.stderr


def _changed(path: str, value: Any) -> dict[str, Any]:
    values: dict[str, Any] = json.loads(json.dumps(NEEDED))
    inner = values
    *parents, last = path.split(".")
    for name in parents:
        inner = inner.setdefault(name, {})
    inner[last] = value
    return values


@pytest.mark.parametrize(
    "wrong",
    [
        {},
        _changed("database.host", ""),
        _changed("database.passwordSecret", ""),
        _changed("database.parameters", "sslmode=require&password=secret"),
        _changed("database.host", "user:password@host"),
        _changed("settings.kafka.bootstrap_servers", ""),
        _changed("settings.kafka.sasl_password", "secret"),
        _changed("settings.database", {"password": "secret"}),
        _changed("settings.consumer.shutdown_grace_seconds", 0),
        _changed("workers.replicas", -1),
        _changed("workers.replicas", "2"),
        _changed("workers.gpu", 1),
        _changed("worker", {"replicas": 2}),
        _changed("workers.resources.limits.cpu", "two"),
        _changed("image.tag", "latest"),
        _changed("image.digest", "sha256:abc"),
        _changed("image.pullPolicy", "Sometimes"),
        _changed("autoscaling.minReplicas", 0),
        _changed("autoscaling.lagThreshold", 0),
        _changed("console.service.type", "ExternalName"),
        _changed("console.hosts", ["http://reviews.example.org"]),
        _changed("secretFiles", [{"secret": "kafka", "key": "password", "variable": "KAFKA_PASSWORD"}]),
        _changed("database.users.writer", ""),
        _changed("monitoring.serviceMonitor.interval", "often"),
        _changed("retention.schedule", "nightly"),
        _changed("export.cron", "15 4 * * *"),
        _changed("sinks.replicas", -1),
    ],
    ids=str,
)
def test_wrong_values_are_refused_by_the_schema(home: Path, wrong: dict[str, Any]) -> None:
    done = helm(home, "template", "rl", CHART, values=wrong)
    assert done.returncode != 0
    assert "don't meet the specifications of the schema" in done.stderr


@pytest.mark.parametrize(
    ("wrong", "why"),
    [
        ({**NEEDED, "autoscaling": {"enabled": True, "maxReplicas": 24}}, "would stand by"),
        ({**NEEDED, "console": {"ingress": {"enabled": True}}}, "needs console.hosts"),
        ({**NEEDED, "sinks": {"enabled": True}}, r"needs database.users.sink"),
        ({**NEEDED, "retention": {"enabled": True}}, r"retention.enabled needs database.users.keeper"),
        ({**NEEDED, "erasures": {"enabled": True}}, r"erasures.enabled needs database.users.keeper"),
        ({**EVERYTHING, "settings": NEEDED["settings"], "sinks": {}}, "needs settings.export.target"),
        ({**EVERYTHING, "settings": NEEDED["settings"], "export": {}}, "needs settings.sinks"),
    ],
)
def test_values_that_do_not_fit_each_other_are_refused(home: Path, wrong: dict[str, Any], why: str) -> None:
    done = helm(home, "template", "rl", CHART, values=wrong)
    assert done.returncode != 0
    assert why in done.stderr


def test_every_command_of_a_container_is_one_that_the_command_line_takes(full: list[dict[str, Any]]) -> None:
    commands = {name: one["args"] for name, one in _containers(full).items() if "args" in one}
    assert commands.keys() == {
        "worker", "trainer", "drift", "console", "sink", "retention", "erasures", "export", "migrate",
        "roles", "topics",
    }  # fmt: skip
    for arguments in commands.values():
        parse(list(arguments))


@pytest.mark.parametrize("which", ["plain", "full"])
def test_the_settings_file_is_one_that_the_program_takes(which: str, request: pytest.FixtureRequest) -> None:
    documents = request.getfixturevalue(which)
    files = [one["data"]["reviewloop.toml"] for one in documents if "reviewloop.toml" in one.get("data", {})]
    assert len(files) == 2
    assert files[0] == files[1]
    settings = Settings(**tomllib.loads(files[0]))
    assert settings.kafka.bootstrap_servers
    if which == "full":
        assert settings.consumer.max_batch_tokens == 16_384


def test_every_variable_and_secret_file_names_a_setting(full: list[dict[str, Any]]) -> None:
    names = [item["name"] for one in _containers(full).values() for item in one["env"]]
    for pod in _pods(full).values():
        (secrets,) = (volume for volume in pod["volumes"] if volume["name"] == "secrets")
        names += [
            item["path"] for source in secrets["projected"]["sources"] for item in source["secret"]["items"]
        ]
    for name in {name.lower() for name in names} - {"omp_num_threads"}:
        section, _, setting = name.removeprefix("reviewloop_").partition("__")
        if section not in {"secrets", "config"}:
            model: Any = Settings.model_fields[section].annotation
            assert setting in model.model_fields, name


def test_no_password_is_in_a_document_and_each_role_gets_its_own_alone(full: list[dict[str, Any]]) -> None:
    assert not [one for one in full if one["kind"] == "Secret"]
    keys = {}
    for name, pod in _pods(full).items():
        (secrets,) = (volume for volume in pod["volumes"] if volume["name"] == "secrets")
        first, *more = secrets["projected"]["sources"]
        keys[name.removeprefix("rl-reviewloop-")] = first["secret"]["items"][0]["key"]
        assert [one["secret"]["name"] for one in more] == ["kafka"]
    assert keys == {
        "workers": "writer_password",
        "trainer": "trainer_password",
        "drift-0": "trainer_password",
        "drift-1": "trainer_password",
        "console": "console_password",
        "sinks": "sink_password",
        "retention": "keeper_password",
        "erasures": "keeper_password",
        "export": "exporter_password",
        "admin": "owner_password",
        "setup": "owner_password",
    }
    urls = {
        name: item["value"]
        for name, one in _containers(full).items()
        for item in one["env"]
        if item["name"] == "REVIEWLOOP_DATABASE__URL"
    }
    assert all(re.fullmatch(r"postgresql://\w+@postgres:5432/reviewloop\?sslmode=verify-full\S*", url)
               for url in urls.values())  # fmt: skip
    assert "//reviewloop_writer@" in urls["worker"]
    assert "//reviewloop_console@" in urls["console"]


def test_every_container_is_read_only_without_capabilities_and_not_root(full: list[dict[str, Any]]) -> None:
    for name, pod in _pods(full).items():
        assert pod["securityContext"]["runAsNonRoot"] is True, name
        assert pod["securityContext"]["runAsUser"] == 10_001, name
        assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}, name
        assert pod["automountServiceAccountToken"] is False, name
    for name, container in _containers(full).items():
        context = container["securityContext"]
        assert context["readOnlyRootFilesystem"] is True, name
        assert context["allowPrivilegeEscalation"] is False, name
        assert context["capabilities"] == {"drop": ["ALL"]}, name
        assert container["resources"]["requests"]["memory"], name
        writable = {one["mountPath"] for one in container["volumeMounts"] if not one.get("readOnly")}
        assert writable == {"/tmp", "/var/cache/reviewloop"}, name  # noqa: S108  of the container


def test_a_worker_has_its_grace_after_sigterm_and_the_probes_of_its_health_paths(
    plain: list[dict[str, Any]], full: list[dict[str, Any]]
) -> None:
    grace = Settings().consumer.shutdown_grace_seconds
    pod, more = (_pods(documents)["rl-reviewloop-workers"] for documents in (plain, full))
    assert pod["terminationGracePeriodSeconds"] == grace + 15
    assert "lifecycle" not in pod["containers"][0]
    assert more["terminationGracePeriodSeconds"] == 3 + 46 + 15
    assert more["containers"][0]["lifecycle"]["preStop"]["exec"]["command"] == ["sleep", "3"]
    (worker,) = pod["containers"]
    assert worker["livenessProbe"]["httpGet"] == {"path": "/healthz", "port": "metrics"}
    assert worker["readinessProbe"]["httpGet"] == {"path": "/readyz", "port": "metrics"}
    assert {"name": "REVIEWLOOP_METRICS__PORT", "value": "9464"} in worker["env"]
    assert worker["ports"] == [{"name": "metrics", "containerPort": 9464}]


def test_schema_roles_and_topics_are_set_up_before_the_programs_in_this_order(
    plain: list[dict[str, Any]],
) -> None:
    job = _of(plain, "Job")
    assert job["metadata"]["annotations"]["helm.sh/hook"] == "pre-install,pre-upgrade"
    pod = job["spec"]["template"]["spec"]
    assert [one["name"] for one in [*pod["initContainers"], *pod["containers"]]] == [
        "migrate",
        "roles",
        "topics",
    ]
    (config,) = (volume for volume in pod["volumes"] if volume["name"] == "settings")
    early = _of([one for one in plain if one["kind"] == "ConfigMap"], "ConfigMap", "-setup")
    assert config["configMap"]["name"] == early["metadata"]["name"]
    weights = [int(one["metadata"]["annotations"]["helm.sh/hook-weight"]) for one in (early, job)]
    assert weights == sorted(weights)
    assert "serviceAccountName" not in pod, "the account is not there before the first installation"


def test_keda_scales_on_the_lag_of_the_named_topic_and_never_to_zero(full: list[dict[str, Any]]) -> None:
    scaled = _of(full, "ScaledObject")
    workers = _of(full, "Deployment", "-workers")
    assert scaled["spec"]["scaleTargetRef"]["name"] == workers["metadata"]["name"]
    assert "replicas" not in workers["spec"], "two would decide"
    assert scaled["spec"]["minReplicaCount"] >= 1
    (trigger,) = scaled["spec"]["triggers"]
    settings = Settings()
    assert trigger["metadata"] == {
        "bootstrapServers": "kafka:9092",
        "consumerGroup": settings.kafka.group_id,
        "topic": settings.kafka.reviews_topic,
        "lagThreshold": "5000",
        "offsetResetPolicy": "earliest",
        "sasl": "plaintext",
    }
    assert trigger["authenticationRef"] == {"name": "kafka-login"}


def test_jobs_of_the_data_run_by_their_schedule_one_at_a_time_and_only_where_they_are_wanted(
    plain: list[dict[str, Any]], full: list[dict[str, Any]]
) -> None:
    assert not [one for one in plain if one["kind"] == "CronJob"]
    assert not [one for one in plain if one["metadata"]["name"].endswith("-sinks")]
    jobs = {one["metadata"]["name"]: one["spec"] for one in full if one["kind"] == "CronJob"}
    assert {name.removeprefix("rl-reviewloop-"): job["schedule"] for name, job in jobs.items()} == {
        "retention": "30 3 * * *", "erasures": "*/15 * * * *", "export": "0 */6 * * *",
    }  # fmt: skip
    for job in jobs.values():
        assert (job["concurrencyPolicy"], job["timeZone"]) == ("Forbid", "Etc/UTC")
        assert job["jobTemplate"]["spec"]["template"]["spec"]["restartPolicy"] == "Never"
    roles = _containers(full)["roles"]["args"]
    assert {"--sink=rl_sink", "--keeper=rl_keeper", "--exporter=rl_exporter"} <= set(roles)


def test_gpus_are_asked_for_only_where_they_are_wanted(
    plain: list[dict[str, Any]], full: list[dict[str, Any]]
) -> None:
    assert "nvidia.com/gpu" not in json.dumps(plain)
    limits = {name: one["resources"]["limits"] for name, one in _containers(full).items()}
    assert {name for name, one in limits.items() if one.get("nvidia.com/gpu") == 1} == {"worker", "trainer"}


def test_disruptions_take_one_worker_at_a_time(plain: list[dict[str, Any]]) -> None:
    budget = _of(plain, "PodDisruptionBudget", "-workers")
    assert budget["spec"]["maxUnavailable"] == 1
    selector = budget["spec"]["selector"]["matchLabels"]
    assert selector == _of(plain, "Deployment", "-workers")["spec"]["selector"]["matchLabels"]


def test_selectors_find_the_pods_of_their_component_alone(full: list[dict[str, Any]]) -> None:
    deployments = [one for one in full if one["kind"] == "Deployment"]
    labels = {one["metadata"]["name"]: one["spec"]["template"]["metadata"]["labels"] for one in deployments}
    for one in deployments:
        wanted = one["spec"]["selector"]["matchLabels"].items()
        assert [name for name, found in labels.items() if wanted <= found.items()] == [
            one["metadata"]["name"]
        ]
    for service in (one for one in full if one["kind"] == "Service"):
        wanted = service["spec"]["selector"].items()
        (name,) = (name for name, found in labels.items() if wanted <= found.items())
        ports = {port["name"] for port in _pods(full)[name]["containers"][0]["ports"]}
        assert {port["targetPort"] for port in service["spec"]["ports"]} <= ports


def test_prometheus_gets_the_rules_and_the_workers_and_grafana_the_dashboard(
    full: list[dict[str, Any]],
) -> None:
    rules = yaml.safe_load((ROOT / "deploy" / "prometheus" / "alerts.yml").read_text())
    assert _of(full, "PrometheusRule")["spec"] == rules
    for component in ("-workers", "-sinks"):
        monitor, service = _of(full, "ServiceMonitor", component), _of(full, "Service", component)
        assert monitor["spec"]["selector"]["matchLabels"].items() <= service["metadata"]["labels"].items()
        assert [one["port"] for one in monitor["spec"]["endpoints"]] == ["metrics"]
    dashboard = _of(full, "ConfigMap", "-dashboard")["data"]["reviewloop.json"]
    assert json.loads(dashboard) == json.loads((ROOT / "deploy" / "grafana" / "dashboard.json").read_text())


def test_the_image_is_pinned_and_has_the_version_of_the_project(
    plain: list[dict[str, Any]], full: list[dict[str, Any]]
) -> None:
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    assert {one["image"] for one in _containers(plain).values()} == {f"reviewloop:{version}"}
    assert {one["image"] for one in _containers(full).values()} == {f"reviewloop@sha256:{'a' * 64}"}
    assert yaml.safe_load((CHART / "Chart.yaml").read_text())["appVersion"] == version
