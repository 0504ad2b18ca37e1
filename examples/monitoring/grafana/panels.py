"""What the dashboards are made of: panels, variables, and a dashboard around them, as Grafana 11 reads them."""

SOURCE = {"type": "prometheus", "uid": "${datasource}"}
COLUMNS = 24  # of Grafana's grid


def above(limit):
    """Good up to the limit."""
    return [{"color": "green", "value": None}, {"color": "red", "value": limit}]


def below(limit):
    """Good from the limit on."""
    return [{"color": "red", "value": None}, {"color": "green", "value": limit}]


PLAIN = [{"color": "blue", "value": None}]


def targets(series, **more):
    pairs = series.items() if isinstance(series, dict) else [("", series)]
    return [
        {"refId": chr(ord("A") + at), "datasource": SOURCE, "expr": expr, "legendFormat": legend or "__auto", **more}
        for at, (legend, expr) in enumerate(pairs)
    ]


def panel(kind, title, about, queries, unit, steps, options, size, **custom):
    defaults = {"unit": unit, "thresholds": {"mode": "absolute", "steps": steps}, "custom": custom, "noValue": "nothing measured"}
    if unit == "percentunit":
        defaults |= {"min": 0, "max": 1}
    return {
        "type": kind,
        "title": title,
        "description": about,
        "datasource": SOURCE,
        "targets": queries,
        "fieldConfig": {"defaults": defaults, "overrides": []},
        "options": options,
        "size": size,
    }


def stat(title, about, expr, unit="short", steps=PLAIN, width=4):
    """One figure of now, or of the time that is looked at."""
    reduce = {"calcs": ["lastNotNull"], "fields": "", "values": False}
    options = {"reduceOptions": reduce, "colorMode": "value", "graphMode": "none", "textMode": "auto", "justifyMode": "auto"}
    return panel("stat", title, about, targets(expr, instant=True), unit, steps, options, (width, 4))


def graph(title, about, series, unit="short", steps=None, width=12, stacked=False):
    """Lines over time; a limit is drawn as a line."""
    custom = {
        "drawStyle": "line",
        "fillOpacity": 20 if stacked else 5,
        "showPoints": "never",
        "spanNulls": False,
        "stacking": {"mode": "normal" if stacked else "none", "group": "A"},
        "thresholdsStyle": {"mode": "dashed" if steps else "off"},
    }
    options = {
        "legend": {"displayMode": "table", "placement": "bottom", "calcs": ["mean", "max"], "showLegend": True},
        "tooltip": {"mode": "multi", "sort": "desc"},
    }
    return panel("timeseries", title, about, targets(series, range=True), unit, steps or PLAIN, options, (width, 8), **custom)


def table(title, about, expr, unit="short", steps=PLAIN, width=12):
    """A row for each label set, the greatest first."""
    options = {"showHeader": True, "sortBy": [{"displayName": "Value", "desc": True}]}
    made = panel("table", title, about, targets(expr, instant=True, format="table"), unit, steps, options, (width, 8))
    hide = {"id": "organize", "options": {"excludeByName": {"Time": True}, "indexByName": {}, "renameByName": {}}}
    return made | {"transformations": [hide]}


def heatmap(title, about, expr, width=12):
    """How times are spread, from a histogram."""
    options = {
        "calculate": False,
        "yAxis": {"unit": "s"},
        "color": {"mode": "scheme", "scheme": "Blues", "steps": 64},
        "tooltip": {"mode": "single", "yHistogram": False},
        "legend": {"show": True},
    }
    queries = targets({"{{le}}": expr}, range=True, format="heatmap")
    return panel("heatmap", title, about, queries, "short", PLAIN, options, (width, 8))


def row(title):
    return {"type": "row", "title": title, "collapsed": False, "panels": [], "size": (COLUMNS, 1)}


def note(text, width=COLUMNS, height=3):
    return {"type": "text", "title": "", "options": {"mode": "markdown", "content": text}, "size": (width, height)}


def placed(panels):
    """Side by side as far as the grid goes, then on the next line."""
    x = y = tallest = 0
    for number, one in enumerate(panels, 1):
        width, height = one.pop("size")
        if x + width > COLUMNS:
            x, y, tallest = 0, y + tallest, 0
        one |= {"id": number, "gridPos": {"x": x, "y": y, "w": width, "h": height}}
        x, tallest = x + width, max(tallest, height)
        yield one


def choice(name, label, query):
    """A variable whose values Prometheus is asked for; all of them at first."""
    return {
        "type": "query",
        "name": name,
        "label": label,
        "datasource": SOURCE,
        "definition": query,
        "query": {"query": query, "refId": f"variable-{name}"},
        "refresh": 2,
        "sort": 1,
        "multi": True,
        "includeAll": True,
        "allValue": ".*",
        "current": {"selected": True, "text": ["All"], "value": ["$__all"]},
    }


CHOICES = {
    "job": choice("job", "Gateways", "label_values(mcp_gateway_build_info, job)"),
    "tenant": choice("tenant", "Tenant", 'label_values(mcp_request_duration_seconds_count{job=~"$job"}, tenant_id)'),
    "server": choice("server", "Server", 'label_values(mcp_request_duration_seconds_count{job=~"$job",server!=""}, server)'),
}


def dashboard(uid, title, about, choices, panels):
    source = {"type": "datasource", "name": "datasource", "label": "Prometheus", "query": "prometheus", "current": {}}
    alerts = {
        "name": "Critical alerts",
        "datasource": SOURCE,
        "enable": True,
        "iconColor": "red",
        "expr": 'ALERTS{alertname=~"Mcp.*",alertstate="firing",severity="critical",job=~"$job|"}',
        "titleFormat": "{{alertname}}",
        "textFormat": "{{job}} {{instance}} {{tenant_id}} {{server}}",
    }
    links = {"type": "dashboards", "title": "MCP gateway", "tags": ["mcp-gateway"], "asDropdown": True, "keepTime": True}
    links |= {"includeVars": True, "icon": "external link", "targetBlank": False, "tooltip": "", "url": ""}
    return {
        "uid": uid,
        "title": title,
        "description": about,
        "tags": ["mcp-gateway"],
        "schemaVersion": 39,
        "editable": True,
        "graphTooltip": 1,
        "timezone": "",
        "time": {"from": "now-6h", "to": "now"},
        "refresh": "1m",
        "annotations": {"list": [alerts]},
        "links": [links],
        "templating": {"list": [source, *(CHOICES[name] for name in choices)]},
        "panels": list(placed(panels)),
    }
