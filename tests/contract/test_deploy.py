"""deploy/: what it names is there, what it starts can be started, and every alert fires when its fault is injected."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest
import typer.main
import yaml

import model_stage.cli
import search_stage.cli

CHECKOUT = Path(__file__).resolve().parents[2]
DEPLOY = CHECKOUT / "deploy"
RULES = DEPLOY / "prometheus" / "rules" / "lookback.yml"
RULE_TESTS = DEPLOY / "prometheus" / "tests" / "lookback.yml"
ALERTS_PAGE = (CHECKOUT / "docs" / "operations" / "alerts.md").read_text(encoding="utf-8")
METRICS_PAGE = (CHECKOUT / "docs" / "operations" / "metrics.md").read_text(encoding="utf-8")
SCRAPED = {"job", "instance", "worker", "le"}
PROGRAMS = {"lookback-search": search_stage.cli.app, "lookback-model": model_stage.cli.app}
needs_promtool = pytest.mark.skipif(
    shutil.which("promtool") is None, reason="needs promtool: apt-get install prometheus"
)


def read_yaml(path):
    return yaml.safe_load(path.read_text(encoding="utf-8"))


def rules():
    return [rule for group in read_yaml(RULES)["groups"] for rule in group["rules"]]


ALERTS = [rule["alert"] for rule in rules() if "alert" in rule]
DASHBOARD = json.loads((DEPLOY / "grafana" / "dashboard.json").read_text(encoding="utf-8"))
PANELS = [panel for panel in DASHBOARD["panels"] if panel["type"] != "row"]


def dashboard_expressions():
    """Every query of the dashboard, as Prometheus gets it."""
    queries = [target["expr"] for panel in PANELS for target in panel["targets"]]
    queries += [each["expr"] for each in DASHBOARD["annotations"]["list"]]
    return [query.replace("$__rate_interval", "5m").replace("$job", ".*") for query in queries]


EXPRESSIONS = [*(rule["expr"] for rule in rules()), *dashboard_expressions()]


def promtool(*arguments):
    done = subprocess.run(["promtool", *map(str, arguments)], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


@needs_promtool
def test_promtool_accepts_the_rules_and_the_configuration():
    promtool("check", "rules", RULES)
    promtool("check", "config", "--syntax-only", DEPLOY / "prometheus" / "prometheus.yml")


@needs_promtool
def test_every_rule_does_what_its_test_says():
    promtool("test", "rules", RULE_TESTS)


@needs_promtool
def test_promtool_accepts_every_query_of_the_dashboard(tmp_path):
    queries = [{"record": f"query:{number}", "expr": expr} for number, expr in enumerate(dashboard_expressions())]
    (tmp_path / "queries.yml").write_text(yaml.safe_dump({"groups": [{"name": "dashboard", "rules": queries}]}))
    promtool("check", "rules", tmp_path / "queries.yml")


def test_every_alert_has_a_test_in_which_it_fires_and_a_line_that_says_what_to_do():
    fires = {
        case["alertname"]
        for test in read_yaml(RULE_TESTS)["tests"]
        for case in test.get("alert_rule_test", ())
        if case["exp_alerts"]
    }
    assert sorted(fires) == sorted(ALERTS)
    assert re.findall(r"^\| `(Lookback\w+)` \|", ALERTS_PAGE, flags=re.MULTILINE) == ALERTS
    severities = {rule["labels"]["severity"] for rule in rules() if "alert" in rule}
    assert severities == {"page", "ticket"}


def test_queries_select_by_labels_that_their_metric_has():
    shown = {}
    for name, labels in re.findall(r"`(lookback_\w+)(?:\{([^}]*)\})?`", METRICS_PAGE):
        shown.setdefault(name, set()).update(filter(None, labels.split(",")))
    selectors = [each for expr in EXPRESSIONS for each in re.findall(r"\b(lookback_\w+)\{([^}]*)\}", expr)]
    assert len(selectors) > 20
    for name, matchers in selectors:
        base = re.sub(r"_(bucket|sum|count)$", "", name)
        used = set(re.findall(r"(\w+)\s*(?:=~|!~|!=|=)", re.sub(r'"[^"]*"', '""', matchers)))
        assert used <= shown[base] | SCRAPED, (name, used)


def test_recorded_names_that_are_read_are_recorded():
    recorded = {rule["record"] for rule in rules() if "record" in rule}
    read = {name for expr in EXPRESSIONS for name in re.findall(r"\blookback:[\w:]+", expr)}
    assert read
    assert read <= recorded


def test_the_dashboard_is_whole():
    ids = [panel["id"] for panel in DASHBOARD["panels"]]
    assert len(set(ids)) == len(ids)
    cells = [
        (x, y)
        for panel in DASHBOARD["panels"]
        for x in range(panel["gridPos"]["x"], panel["gridPos"]["x"] + panel["gridPos"]["w"])
        for y in range(panel["gridPos"]["y"], panel["gridPos"]["y"] + panel["gridPos"]["h"])
    ]
    assert len(set(cells)) == len(cells)  # no panel hides another
    assert max(x for x, _ in cells) < 24
    assert all(panel["title"] and panel["fieldConfig"]["defaults"]["unit"] for panel in PANELS)
    assert all(panel["targets"] for panel in PANELS)


def commands():
    """What is started: (where, program, options)."""
    for name, service in read_yaml(DEPLOY / "compose.yaml")["services"].items():
        if service.get("image") == "lookback":
            yield name, service["command"][0], service["command"][1:]
    for pod in pods():
        for container in pod["containers"]:
            yield container["name"], container["command"][0], [*container["command"][1:], *container["args"]]


def pods():
    documents = yaml.safe_load_all((DEPLOY / "kubernetes" / "lookback.yaml").read_text(encoding="utf-8"))
    return [each["spec"]["template"]["spec"] for each in documents if each["kind"] == "Deployment"]


@pytest.mark.parametrize(("where", "program", "given"), [*commands()])
def test_what_is_started_has_the_options_it_is_given(where, program, given):
    serve = typer.main.get_command(PROGRAMS[program]).commands["serve"]
    options = {name: parameter for parameter in serve.params for name in parameter.opts}
    assert given[0] == "serve"
    used = {argument.partition("=")[0] for argument in given[1:]}
    assert used <= options.keys(), where
    assert {parameter.opts[0] for parameter in serve.params if parameter.required} <= used
    assert {"--tls-cert", "--tls-key", "--tokens"} <= used, "off the loopback"
    assert "--insecure" not in used


def test_containers_can_write_nothing_and_gain_nothing():
    for name, service in read_yaml(DEPLOY / "compose.yaml")["services"].items():
        assert service["read_only"] is True, name
        assert service["cap_drop"] == ["ALL"], name
        assert service["security_opt"] == ["no-new-privileges:true"], name
        if service["image"] == "lookback":
            assert service["user"] == "10001"
            assert service["healthcheck"]["test"][0] == "CMD"
    for pod in pods():
        assert pod["securityContext"]["runAsNonRoot"] is True
        for container in pod["containers"]:
            assert {"startupProbe", "readinessProbe", "livenessProbe"} <= container.keys()
            assert container["securityContext"]["readOnlyRootFilesystem"] is True
            assert container["securityContext"]["capabilities"] == {"drop": ["ALL"]}
            mounted = {mount["name"] for mount in container["volumeMounts"]}
            assert mounted == {volume["name"] for volume in pod["volumes"]}


def test_the_image_is_slim_and_runs_as_nobody_special():
    lines = (DEPLOY / "Dockerfile").read_text(encoding="utf-8").splitlines()
    bases = [line.split()[1] for line in lines if line.startswith("FROM")]
    assert all(base.endswith("-slim") for base in bases)
    assert [line for line in lines if line.startswith("USER")] == ["USER 10001"]
    ignored = (CHECKOUT / ".dockerignore").read_text(encoding="utf-8").splitlines()
    assert ignored[0] == "*"  # neither data nor secrets get into an image by chance
    assert all((CHECKOUT / line[1:]).exists() for line in ignored if line.startswith("!"))


def test_every_secret_that_is_mounted_is_declared_and_made():
    compose = read_yaml(DEPLOY / "compose.yaml")
    used = {secret for service in compose["services"].values() for secret in service.get("secrets", ())}
    assert used == compose["secrets"].keys()
    script = (DEPLOY / "make-secrets.sh").read_text(encoding="utf-8")
    for secret in compose["secrets"].values():
        name = Path(secret["file"]).name
        assert name in script or Path(name).stem in script.partition("for name in")[2].partition(";")[0], name


def test_the_parser_of_compose_accepts_it(tmp_path):
    for command in (["docker", "compose"], ["docker-compose"]):
        known = shutil.which(command[0]) is not None
        if known and subprocess.run([*command, "version"], capture_output=True, check=False).returncode == 0:
            break
    else:
        pytest.skip("needs docker compose (or docker-compose)")
    folder = tmp_path / "deploy"
    shutil.copytree(DEPLOY, folder)
    (folder / "secrets").mkdir(exist_ok=True)
    for secret in read_yaml(DEPLOY / "compose.yaml")["secrets"].values():
        (folder / secret["file"]).touch()
    done = subprocess.run(
        [*command, "-f", "compose.yaml", "config"],
        cwd=folder,
        env={"PATH": "/usr/bin:/bin:/usr/local/bin", "LOOKBACK_DATA": "/tmp", "LOOKBACK_CONFIG": "/tmp"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
