from __future__ import annotations

from tests.unit.telemetry.deployed import alerts, dashboard, dashboard_expressions, named_metrics


def test_every_panel_shows_something_and_says_what() -> None:
    panels = dashboard()["panels"]
    assert all(panel["targets"] and panel["title"] and panel["description"] for panel in panels)
    assert len({panel["id"] for panel in panels}) == len(panels)


def test_panels_do_not_overlap() -> None:
    places = [panel["gridPos"] for panel in dashboard()["panels"]]
    cells = [
        (x, y) for at in places for x in range(at["x"], at["x"] + at["w"]) for y in range(at["y"], at["y"] + at["h"])
    ]
    assert len(cells) == len(set(cells))
    assert max(x for x, _ in cells) < 24


def test_every_expression_is_for_the_chosen_workers() -> None:
    expressions = [each for each in dashboard_expressions() if not each.startswith("label_values")]
    assert all('worker=~"$worker"' in each for each in expressions)


def test_every_rule_says_what_is_wrong_and_how_bad() -> None:
    rules = [rule for group in alerts()["groups"] for rule in group["rules"]]
    assert len({rule["alert"] for rule in rules}) == len(rules)
    for rule in rules:
        assert rule["labels"]["severity"] in {"critical", "warning", "info"}
        assert rule["annotations"]["summary"]
        assert rule["expr"].count("(") == rule["expr"].count(")")


def test_they_look_at_what_matters() -> None:
    named = named_metrics()
    assert {"legit_healthy", "legit_items_total", "legit_dead_letters_total"} <= named["alerts.yml"]
    assert len(named["grafana-dashboard.json"]) > 20
