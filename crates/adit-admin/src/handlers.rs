//! The table of endpoints, and what each answers.

use bytes::Bytes;
use http::{Method, StatusCode};
use serde_json::{Value, json};

use crate::query::Query;
use crate::{Admin, DrainRequest, Rendered, State};

/// An endpoint.
pub(crate) struct Endpoint {
    pub(crate) path: &'static str,
    pub(crate) help: &'static str,
    /// Only POST may call it.
    pub(crate) mutates: bool,
    handle: fn(&Admin, &Query) -> Answer,
}

const fn get(path: &'static str, help: &'static str, handle: fn(&Admin, &Query) -> Answer) -> Endpoint {
    Endpoint { path, help, mutates: false, handle }
}

const fn post(path: &'static str, help: &'static str, handle: fn(&Admin, &Query) -> Answer) -> Endpoint {
    Endpoint { path, help, mutates: true, handle }
}

/// Every endpoint, in the order of the page.
pub(crate) const ENDPOINTS: &[Endpoint] = &[
    get("/", "Admin home page", home),
    get("/certs", "print certs on machine", |admin, _| Answer::json(&admin.views.certs())),
    get("/clusters", "upstream cluster status", clusters),
    get("/config_dump", "dump current Envoy configs", config_dump),
    post("/drain_listeners", "drain listeners", drain_listeners),
    post("/healthcheck/fail", "cause the server to fail health checks", |admin, _| health(admin, true)),
    post("/healthcheck/ok", "cause the server to pass health checks", |admin, _| health(admin, false)),
    get("/help", "print out list of admin commands", |_, _| Answer::text(StatusCode::OK, help())),
    get("/hot_restart_version", "print the hot restart compatibility version", |_, _| Answer::ok("disabled")),
    get("/listeners", "print listener info", listeners),
    post("/logging", "query/change logging levels", logging),
    get("/memory", "print current allocation/heap usage", |admin, _| Answer::json(&admin.views.memory())),
    post("/quitquitquit", "exit the server", quit),
    get("/ready", "print server state, return 200 if LIVE, otherwise return 503", ready),
    post("/reopen_logs", "reopen access logs", reopen),
    post("/reset_counters", "reset all counters to zero", reset),
    get("/runtime", "print runtime values", |admin, _| Answer::json(&admin.views.runtime())),
    post("/runtime_modify", "Adds or modifies runtime values as passed in query parameters", runtime_modify),
    get("/server_info", "print server version/status information", |admin, _| Answer::json(&admin.views.server_info())),
    get("/stats", "print server stats", |admin, query| crate::stats::answer(&admin.stats, query, false)),
    get("/stats/prometheus", "print server stats in prometheus format", |admin, query| {
        crate::stats::answer(&admin.stats, query, true)
    }),
];

/// What goes back.
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) content_type: &'static str,
    pub(crate) body: Bytes,
    /// The process ends once this has been sent.
    pub(crate) then_quit: bool,
}

impl Answer {
    pub(crate) fn text(status: StatusCode, body: impl Into<String>) -> Self {
        Self { status, content_type: "text/plain; charset=UTF-8", body: Bytes::from(body.into()), then_quit: false }
    }

    fn ok(body: &str) -> Self {
        Self::text(StatusCode::OK, format!("{body}\n"))
    }

    pub(crate) fn typed(content_type: &'static str, body: String) -> Self {
        Self { status: StatusCode::OK, content_type, body: Bytes::from(body), then_quit: false }
    }

    fn json(value: &Value) -> Self {
        Self::typed("application/json", format!("{value:#}\n"))
    }
}

/// Finds the endpoint and calls it.
pub(crate) fn answer(admin: &Admin, method: &Method, path: &str, query: Option<&str>) -> Answer {
    let Some(endpoint) = ENDPOINTS.iter().find(|endpoint| endpoint.path == path) else {
        return Answer::text(StatusCode::NOT_FOUND, format!("invalid path. {}", help()));
    };
    if endpoint.mutates && *method != Method::POST {
        return Answer::text(StatusCode::METHOD_NOT_ALLOWED, format!("Method {method} not allowed, POST required."));
    }
    if path.starts_with("/stats") {
        (admin.refresh)();
    }
    (endpoint.handle)(admin, &Query::parse(query))
}

/// A path that `allow_paths` leaves out.
pub(crate) fn forbidden(path: &str) -> Answer {
    Answer::text(StatusCode::FORBIDDEN, format!("request to path {path} not allowed"))
}

fn help() -> String {
    let lines = ENDPOINTS.iter().map(|Endpoint { path, help, mutates, .. }| {
        format!("  {path}{}: {help}\n", if *mutates { " (POST)" } else { "" })
    });
    format!("admin commands are:\n{}", lines.collect::<String>())
}

fn home(admin: &Admin, _query: &Query) -> Answer {
    let info = admin.views.server_info();
    let version = info.get("version").and_then(Value::as_str).unwrap_or_default();
    Answer::typed("text/html; charset=UTF-8", crate::html::index(version, admin.control.state().as_str()))
}

/// Compiles `filter`; the error is the answer.
fn filter(query: &Query) -> Result<Option<regex::Regex>, Answer> {
    let compiled = query.get("filter").filter(|text| !text.is_empty()).map(regex::Regex::new).transpose();
    compiled.map_err(|error| Answer::text(StatusCode::BAD_REQUEST, format!("Invalid re2 regex: {error}\n")))
}

fn clusters(admin: &Admin, query: &Query) -> Answer {
    let regex = match filter(query) {
        Ok(regex) => regex,
        Err(answer) => return answer,
    };
    let matches = |name: &str| regex.as_ref().is_none_or(|regex| regex.is_match(name));
    match admin.views.clusters(query.get("format") == Some("json"), &matches) {
        Rendered::Text(text) => Answer::text(StatusCode::OK, text),
        Rendered::Json(value) => Answer::json(&value),
    }
}

fn listeners(admin: &Admin, query: &Query) -> Answer {
    let views = admin.views.listeners();
    if query.get("format") == Some("json") {
        let mut statuses: Vec<Value> = Vec::new();
        for view in views {
            let same =
                statuses.iter_mut().find(|status| status.get("name").and_then(Value::as_str) == Some(&view.name));
            match same.and_then(Value::as_object_mut) {
                Some(status) => {
                    let more = status.entry("additional_local_addresses").or_insert_with(|| json!([]));
                    if let Some(list) = more.as_array_mut() {
                        list.push(view.json);
                    }
                }
                None => statuses.push(json!({ "name": view.name, "local_address": view.json })),
            }
        }
        return Answer::json(&json!({ "listener_statuses": statuses }));
    }
    Answer::text(
        StatusCode::OK,
        views.iter().map(|view| format!("{}::{}\n", view.name, view.address)).collect::<String>(),
    )
}

fn config_dump(admin: &Admin, query: &Query) -> Answer {
    let regex = match query.get("name_regex").map(regex::Regex::new).transpose() {
        Ok(regex) => regex,
        Err(error) => {
            return Answer::text(StatusCode::BAD_REQUEST, format!("Error while parsing name_regex: {error}\n"));
        }
    };
    let mut sections = admin.views.config_dump();
    if let Some(resource) = query.get("resource") {
        let found = sections.iter().find_map(|section| section.get(resource)).and_then(Value::as_array).cloned();
        let Some(items) = found else {
            return Answer::text(StatusCode::NOT_FOUND, format!("{resource} not found in config dump"));
        };
        let named =
            |item: &Value| regex.as_ref().is_none_or(|regex| name_of(item).is_some_and(|name| regex.is_match(name)));
        sections = items.into_iter().filter(named).collect();
    }
    if query.has("mask") {
        return Answer::text(StatusCode::BAD_REQUEST, "mask is not implemented by adit\n");
    }
    Answer::json(&json!({ "configs": sections }))
}

/// The name of a resource inside one of the dump's wrappers.
fn name_of(item: &Value) -> Option<&str> {
    let direct = item.get("name").and_then(Value::as_str);
    direct.or_else(|| item.as_object()?.values().find_map(|inner| inner.get("name").and_then(Value::as_str)))
}

fn ready(admin: &Admin, _query: &Query) -> Answer {
    let state = admin.control.state();
    let status = if state == State::Live { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    Answer::text(status, format!("{}\n", state.as_str()))
}

fn health(admin: &Admin, failed: bool) -> Answer {
    admin.control.set_health_failed(failed);
    Answer::ok("OK")
}

fn drain_listeners(admin: &Admin, query: &Query) -> Answer {
    let graceful = query.has("graceful");
    if query.has("skip_exit") && !graceful {
        return Answer::text(StatusCode::BAD_REQUEST, "skip_exit requires graceful\n");
    }
    let request = DrainRequest { graceful, skip_exit: query.has("skip_exit"), inbound_only: query.has("inboundonly") };
    admin.control.drain(request);
    Answer::ok("OK")
}

fn quit(_admin: &Admin, _query: &Query) -> Answer {
    Answer { then_quit: true, ..Answer::ok("OK") }
}

fn reopen(admin: &Admin, _query: &Query) -> Answer {
    admin.control.reopen_logs();
    Answer::ok("OK")
}

fn reset(admin: &Admin, _query: &Query) -> Answer {
    admin.stats.reset_counters();
    Answer::ok("OK")
}

fn logging(admin: &Admin, query: &Query) -> Answer {
    let mut result = admin.control.logging(None);
    for (name, value) in query.all() {
        result = match name.as_str() {
            "level" => admin.control.logging(Some((None, value))),
            "paths" => paths(admin, value),
            component => admin.control.logging(Some((Some(component), value))),
        };
        if result.is_err() {
            break;
        }
    }
    match result {
        Ok(levels) => {
            let lines = levels.iter().map(|(name, level)| format!("  {name}: {level}\n"));
            Answer::text(StatusCode::OK, format!("active loggers:\n{}\n", lines.collect::<String>()))
        }
        Err(text) => Answer::text(StatusCode::BAD_REQUEST, format!("{text}\n")),
    }
}

/// `paths=router:debug,http:trace`.
fn paths(admin: &Admin, list: &str) -> Result<Vec<(String, String)>, String> {
    let mut result = admin.control.logging(None);
    for item in list.split(',').filter(|item| !item.is_empty()) {
        let (component, level) =
            item.split_once(':').ok_or_else(|| format!("error: not a name and a level: {item}"))?;
        result = Ok(admin.control.logging(Some((Some(component), level)))?);
    }
    result
}

fn runtime_modify(admin: &Admin, query: &Query) -> Answer {
    if query.all().is_empty() {
        return Answer::text(
            StatusCode::BAD_REQUEST,
            "usage: /runtime_modify?key1=value1&key2=value2&keyN=valueN\n       use an empty value to remove a previously added override\n",
        );
    }
    match admin.control.modify_runtime(query.all()) {
        Ok(()) => Answer::ok("OK"),
        Err(text) => Answer::text(StatusCode::SERVICE_UNAVAILABLE, text),
    }
}
