#![allow(clippy::unwrap_used, clippy::panic)]
use adit_config::pack;
use adit_config::proto::envoy::config::common::mutation_rules::v3 as rules;
use adit_config::proto::envoy::config::core::v3 as core;
use adit_config::proto::envoy::config::rbac::v3 as rbac_pb;
use adit_config::proto::envoy::extensions::filters::common::{fault::v3 as fault_pb, set_filter_state::v3 as state_pb};
use adit_config::proto::envoy::r#type::matcher::v3 as matcher;
use adit_config::proto::envoy::r#type::v3::{FractionalPercent, TokenBucket};
use adit_filter::{HttpFilter, HttpStream, ResponseFlag, Verdict};
use adit_http::{RequestHead, ResponseHead};
use adit_io::{FilterValue, Sharing};
use http::{Method, StatusCode};
use prost_types::Any;

use super::*;
use crate::testing::{Scopes, connect, get, stream};

fn make(any: &Any, scopes: &Scopes) -> Arc<dyn HttpFilterFactory> {
    http_filter(any, &scopes.env(), "f").unwrap().unwrap()
}

/// The filter of one stream, and what it says.
fn run(
    any: &Any,
    scopes: &Scopes,
    route: Option<&Any>,
    request: RequestHead,
) -> (Option<Box<dyn HttpFilter>>, Verdict, HttpStream) {
    let route = route.map(|any| route_config(any, &scopes.env(), "r").unwrap().unwrap());
    let mut stream = stream(request);
    let mut filter = make(any, scopes).create(route.as_ref());
    let verdict = filter.as_mut().map_or(Verdict::Continue, |filter| filter.on_request(&mut stream, false));
    (filter, verdict, stream)
}

fn refused(any: &Any) -> String {
    let scopes = Scopes::new();
    http_filter(any, &scopes.env(), "f").map(drop).unwrap_err().to_string()
}

fn reply(verdict: Verdict) -> (u16, String, String, Option<ResponseFlag>) {
    match verdict {
        Verdict::Reply(reply) => {
            (reply.status.as_u16(), reply.body.into_owned(), reply.details.into_owned(), reply.flag)
        }
        other => panic!("not an answer: {other:?}"),
    }
}

fn passes(verdict: &Verdict) -> bool {
    matches!(verdict, Verdict::Continue)
}

fn percent(numerator: u32) -> Option<FractionalPercent> {
    Some(FractionalPercent { numerator, denominator: 0 })
}

fn fraction(numerator: u32) -> Option<core::RuntimeFractionalPercent> {
    Some(core::RuntimeFractionalPercent { default_value: percent(numerator), runtime_key: String::new() })
}

fn option(key: &str, value: &str) -> core::HeaderValueOption {
    let header = core::HeaderValue { key: key.into(), value: value.into(), raw_value: vec![] };
    core::HeaderValueOption { header: Some(header), ..Default::default() }
}

fn exact(text: &str) -> matcher::StringMatcher {
    let match_pattern = Some(matcher::string_matcher::MatchPattern::Exact(text.into()));
    matcher::StringMatcher { ignore_case: false, match_pattern }
}

fn buffer(bytes: u32) -> pb::buffer::v3::Buffer {
    pb::buffer::v3::Buffer { max_request_bytes: Some(bytes) }
}

#[test]
fn buffer_holds_what_it_says_and_routes_override_it() {
    use pb::buffer::v3::{BufferPerRoute, buffer_per_route::Override};
    let scopes = Scopes::new();
    let any = pack(&buffer(10));
    let route = |it| pack(&BufferPerRoute { r#override: Some(it) });
    let (_, verdict, _) = run(&any, &scopes, None, connect());
    assert!(matches!(verdict, Verdict::Buffer(10)));
    let (_, verdict, _) = run(&any, &scopes, Some(&route(Override::Buffer(buffer(5)))), connect());
    assert!(matches!(verdict, Verdict::Buffer(5)));
    let (filter, ..) = run(&any, &scopes, Some(&route(Override::Disabled(true))), connect());
    assert!(filter.is_none());
    let mut stream = stream(get("/", &[]));
    assert!(passes(&make(&any, &scopes).create(None).unwrap().on_request(&mut stream, true)));
    assert_eq!(refused(&pack(&buffer(0))), "f.max_request_bytes: must be greater than 0");
}

fn mutation(action: rules::header_mutation::Action) -> rules::HeaderMutation {
    rules::HeaderMutation { action: Some(action) }
}

fn mutations() -> pb::header_mutation::v3::Mutations {
    use rules::header_mutation::{Action, RemoveOnMatch};
    pb::header_mutation::v3::Mutations {
        request_mutations: vec![
            mutation(Action::Remove("x-gone".into())),
            mutation(Action::RemoveOnMatch(RemoveOnMatch { key_matcher: Some(exact("x-matched")) })),
            mutation(Action::Append(option("x-path", "[%REQ(:PATH)%]"))),
        ],
        response_mutations: vec![mutation(Action::Append(option("x-method", "%REQ(:METHOD)%")))],
        ..Default::default()
    }
}

#[test]
fn header_mutation_changes_both_heads_and_routes_follow() {
    use pb::header_mutation::v3::{HeaderMutation, HeaderMutationPerRoute, Mutations};
    let scopes = Scopes::new();
    let any = pack(&HeaderMutation { mutations: Some(mutations()), ..Default::default() });
    let own = Mutations {
        request_mutations: vec![mutation(rules::header_mutation::Action::Append(option("x-path", "route")))],
        ..Default::default()
    };
    let route = pack(&HeaderMutationPerRoute { mutations: Some(own) });
    let request = get("/a", &[("x-gone", "1"), ("x-matched", "1"), ("x-stays", "1")]);
    let (filter, verdict, mut stream) = run(&any, &scopes, Some(&route), request);
    assert!(passes(&verdict));
    let headers = &stream.request.headers;
    assert!(!headers.contains_key("x-gone") && !headers.contains_key("x-matched") && headers.contains_key("x-stays"));
    assert_eq!(headers.get_all("x-path").iter().collect::<Vec<_>>(), ["[/a]", "route"]);
    let mut response = ResponseHead::new(StatusCode::OK);
    filter.unwrap().on_response(&mut response, &mut stream.info);
    assert_eq!(response.headers["x-method"], "GET");

    let bad = Mutations {
        request_mutations: vec![mutation(rules::header_mutation::Action::Remove(":path".into()))],
        ..Default::default()
    };
    let error = refused(&pack(&HeaderMutation { mutations: Some(bad), ..Default::default() }));
    assert_eq!(error, "f.mutations.request_mutations[0].remove: :-prefixed or host headers may not be modified");
}

fn state_value(key: &str, factory: &str, text: &str) -> state_pb::FilterStateValue {
    use core::substitution_format_string::Format;
    let source = core::data_source::Specifier::InlineString(text.into());
    let source = core::DataSource { specifier: Some(source), ..Default::default() };
    let format =
        core::SubstitutionFormatString { format: Some(Format::TextFormatSource(source)), ..Default::default() };
    state_pb::FilterStateValue {
        key: Some(state_pb::filter_state_value::Key::ObjectKey(key.into())),
        factory_key: factory.into(),
        value: Some(state_pb::filter_state_value::Value::FormatString(format)),
        shared_with_upstream: state_pb::filter_state_value::SharedWithUpstream::Transitive as i32,
        ..Default::default()
    }
}

fn set_state(values: Vec<state_pb::FilterStateValue>) -> Any {
    pack(&pb::set_filter_state::v3::Config { on_request_headers: values, clear_route_cache: false })
}

#[test]
fn set_filter_state_makes_objects_of_every_kind() {
    let scopes = Scopes::new();
    let skipped = state_pb::FilterStateValue { skip_if_empty: true, ..state_value("skipped", "envoy.string", "") };
    let values = vec![
        state_value("my.key", "envoy.string", "%REQ(:AUTHORITY)%"),
        state_value("envoy.tcp_proxy.cluster", "", "c"),
        state_value("yes", "envoy.bool", "true"),
        state_value("envoy.tcp_proxy.per_connection_idle_timeout_ms", "", "1500"),
        state_value("envoy.network.transport_socket.original_dst_address", "", "1.2.3.4:5"),
        state_value("not.a.bool", "envoy.bool", "perhaps"),
        skipped,
    ];
    let (_, verdict, stream) = run(&set_state(values), &scopes, None, connect());
    assert!(passes(&verdict));
    let state = &stream.info.state;
    assert_eq!(state.text("my.key"), Some("a.example:443"));
    assert_eq!(state.get("my.key").unwrap().sharing, Sharing::Transitive);
    assert_eq!(state.text("envoy.tcp_proxy.cluster"), Some("c"));
    assert!(matches!(state.get("yes").unwrap().value, FilterValue::Bool(true)));
    let plain = |key: &str| state.get(key).and_then(|object| object.value.to_plain());
    assert_eq!(plain("envoy.tcp_proxy.per_connection_idle_timeout_ms").as_deref(), Some("1500"));
    assert_eq!(plain("envoy.network.transport_socket.original_dst_address").as_deref(), Some("1.2.3.4:5"));
    assert!(state.get("not.a.bool").is_none() && state.get("skipped").is_none());
    assert_eq!(
        refused(&set_state(vec![state_value("what.is.this", "", "x")])),
        "f.on_request_headers[0].object_key: 'what.is.this' does not have an object factory"
    );
}

fn engine(action: rbac_pb::rbac::Action, method: &str) -> Option<rbac_pb::Rbac> {
    use adit_config::proto::envoy::config::route::v3::{HeaderMatcher, header_matcher::HeaderMatchSpecifier};
    let header = HeaderMatcher {
        name: ":method".into(),
        header_match_specifier: Some(HeaderMatchSpecifier::StringMatch(exact(method))),
        ..Default::default()
    };
    let policy = rbac_pb::Policy {
        permissions: vec![rbac_pb::Permission { rule: Some(rbac_pb::permission::Rule::Header(header)) }],
        principals: vec![rbac_pb::Principal { identifier: Some(rbac_pb::principal::Identifier::Any(true)) }],
        ..Default::default()
    };
    let policies = [("the policy".to_owned(), policy)].into();
    Some(rbac_pb::Rbac { action: action as i32, policies, ..Default::default() })
}

#[test]
fn rbac_lets_in_refuses_and_shadows() {
    use pb::rbac::v3::{Rbac, RbacPerRoute};
    use rbac_pb::rbac::Action;
    let scopes = Scopes::new();
    let any = pack(&Rbac {
        rules: engine(Action::Deny, "CONNECT"),
        shadow_rules: engine(Action::Allow, "CONNECT"),
        shadow_rules_stat_prefix: "s_".into(),
        ..Default::default()
    });
    let (_, verdict, stream) = run(&any, &scopes, None, connect());
    let denied =
        (403, "RBAC: access denied".to_owned(), "rbac_access_denied_matched_policy[the_policy]".to_owned(), None);
    assert_eq!(reply(verdict), denied);
    let found = stream.info.metadata.get("envoy.filters.http.rbac").unwrap();
    assert_eq!(found.walk(["s_shadow_engine_result"]), Some(&adit_io::Value::String("allowed".into())));
    assert_eq!(found.walk(["enforced_effective_policy_id"]), Some(&adit_io::Value::String("the policy".into())));
    let (_, verdict, _) = run(&any, &scopes, None, get("/", &[]));
    assert!(passes(&verdict));
    let counts = ["allowed", "denied", "s_shadow_allowed", "s_shadow_denied"];
    assert_eq!(counts.map(|name| scopes.counter(&format!("http.p.rbac.{name}"))), [1, 1, 1, 1]);

    let open = pack(&RbacPerRoute { rbac: None });
    assert!(run(&any, &scopes, Some(&open), connect()).0.is_none());
    let strict = pack(&RbacPerRoute { rbac: Some(Rbac { rules: engine(Action::Allow, "PUT"), ..Default::default() }) });
    let (_, verdict, _) = run(&any, &scopes, Some(&strict), get("/", &[]));
    assert_eq!(reply(verdict).2, "rbac_access_denied_matched_policy[none]");
}

fn rate_limit(tokens: u32, enabled: u32, enforced: u32) -> pb::local_ratelimit::v3::LocalRateLimit {
    let fill_interval = Some(prost_types::Duration { seconds: 3_600, nanos: 0 });
    pb::local_ratelimit::v3::LocalRateLimit {
        stat_prefix: "rl".into(),
        token_bucket: Some(TokenBucket { max_tokens: tokens, tokens_per_fill: Some(1), fill_interval }),
        filter_enabled: fraction(enabled),
        filter_enforced: fraction(enforced),
        response_headers_to_add: vec![option("x-limited", "%REQ(:METHOD)%")],
        request_headers_to_add_when_not_enforced: vec![option("x-would", "yes")],
        ..Default::default()
    }
}

#[test]
fn local_ratelimit_counts_down_over_all_streams() {
    let scopes = Scopes::new();
    let factory = make(&pack(&rate_limit(2, 100, 100)), &scopes);
    let ask = || factory.create(None).unwrap().on_request(&mut stream(connect()), false);
    assert!(passes(&ask()) && passes(&ask()));
    let Verdict::Reply(answer) = ask() else { panic!("let in") };
    assert_eq!(answer.headers["x-limited"], "CONNECT");
    let limited =
        (429, "local_rate_limited".to_owned(), "local_rate_limited".to_owned(), Some(ResponseFlag::RateLimited));
    assert_eq!(reply(Verdict::Reply(answer)), limited);
    let counts = ["enabled", "ok", "rate_limited", "enforced"];
    assert_eq!(counts.map(|name| scopes.counter(&format!("rl.http_local_rate_limit.{name}"))), [3, 2, 1, 1]);
}

#[test]
fn local_ratelimit_may_be_off_or_only_watch() {
    let scopes = Scopes::new();
    let off = make(&pack(&rate_limit(1, 0, 100)), &scopes);
    let watch = make(&pack(&rate_limit(1, 100, 0)), &scopes);
    for _ in 0..3 {
        assert!(passes(&off.create(None).unwrap().on_request(&mut stream(connect()), false)));
    }
    let mut last = stream(connect());
    watch.create(None).unwrap().on_request(&mut stream(connect()), false);
    assert!(passes(&watch.create(None).unwrap().on_request(&mut last, false)));
    assert_eq!(last.request.headers["x-would"], "yes");
    let mut bad = rate_limit(1, 100, 100);
    bad.token_bucket.as_mut().unwrap().fill_interval = Some(prost_types::Duration { seconds: 0, nanos: 1 });
    assert!(refused(&pack(&bad)).starts_with("f.token_bucket.fill_interval: local rate limit token bucket fill timer"));
    bad.local_rate_limit_per_downstream_connection = true;
    assert_eq!(refused(&pack(&bad)), "f.local_rate_limit_per_downstream_connection: not supported");
}

fn cors_policy() -> pb::cors::v3::CorsPolicy {
    pb::cors::v3::CorsPolicy {
        allow_origin_string_match: vec![exact("https://a")],
        allow_methods: "GET".into(),
        allow_headers: "x-a".into(),
        expose_headers: "x-b".into(),
        max_age: "60".into(),
        allow_credentials: Some(true),
        allow_private_network_access: Some(true),
        ..Default::default()
    }
}

#[test]
fn cors_answers_preflights_and_marks_answers() {
    let scopes = Scopes::new();
    let any = pack(&pb::cors::v3::Cors {});
    let route = pack(&cors_policy());
    assert!(run(&any, &scopes, None, get("/", &[("origin", "https://a")])).0.is_none());

    let mut preflight = get(
        "/",
        &[
            ("origin", "https://a"),
            ("access-control-request-method", "GET"),
            ("access-control-request-private-network", "true"),
        ],
    );
    preflight.method = Method::OPTIONS;
    let (_, verdict, _) = run(&any, &scopes, Some(&route), preflight.clone());
    let Verdict::Reply(answer) = verdict else { panic!("not answered") };
    assert_eq!(answer.status, StatusCode::OK);
    for (name, value) in [
        ("access-control-allow-origin", "https://a"),
        ("access-control-allow-methods", "GET"),
        ("access-control-allow-headers", "x-a"),
        ("access-control-max-age", "60"),
        ("access-control-allow-credentials", "true"),
        ("access-control-allow-private-network", "true"),
    ] {
        assert_eq!(answer.headers[name], value);
    }

    let (filter, verdict, mut stream) = run(&any, &scopes, Some(&route), get("/", &[("origin", "https://a")]));
    assert!(passes(&verdict));
    let mut head = ResponseHead::new(StatusCode::OK);
    filter.unwrap().on_response(&mut head, &mut stream.info);
    assert_eq!(head.headers["access-control-allow-origin"], "https://a");
    assert_eq!(head.headers["access-control-expose-headers"], "x-b");

    let stranger = get("/", &[("origin", "https://b")]);
    let (filter, verdict, mut stream) = run(&any, &scopes, Some(&route), stranger);
    assert!(passes(&verdict));
    let mut head = ResponseHead::new(StatusCode::OK);
    filter.unwrap().on_response(&mut head, &mut stream.info);
    assert!(head.headers.is_empty());
    assert_eq!((scopes.counter("http.p.cors.origin_valid"), scopes.counter("http.p.cors.origin_invalid")), (2, 1));

    let closed = pb::cors::v3::CorsPolicy {
        allow_origin_string_match: vec![],
        forward_not_matching_preflights: Some(false),
        ..cors_policy()
    };
    let (_, verdict, _) = run(&any, &scopes, Some(&pack(&closed)), preflight);
    let Verdict::Reply(answer) = verdict else { panic!("forwarded") };
    assert!(answer.headers.is_empty());
}

fn fault(delay: Option<fault_pb::FaultDelay>, abort: Option<pb::fault::v3::FaultAbort>) -> pb::fault::v3::HttpFault {
    pb::fault::v3::HttpFault { delay, abort, ..Default::default() }
}

fn abort(error: pb::fault::v3::fault_abort::ErrorType) -> Option<pb::fault::v3::FaultAbort> {
    let percentage = percent(100);
    Some(pb::fault::v3::FaultAbort { percentage, error_type: Some(error), response_body: String::new() })
}

fn delay(by: fault_pb::fault_delay::FaultDelaySecifier) -> Option<fault_pb::FaultDelay> {
    Some(fault_pb::FaultDelay { percentage: percent(100), fault_delay_secifier: Some(by) })
}

#[test]
fn fault_delays_then_aborts() {
    use fault_pb::fault_delay::{FaultDelaySecifier, HeaderDelay};
    use pb::fault::v3::fault_abort::{ErrorType, HeaderAbort};
    let scopes = Scopes::new();
    let ms = prost_types::Duration { seconds: 0, nanos: 250_000_000 };
    let any = pack(&fault(delay(FaultDelaySecifier::FixedDelay(ms)), abort(ErrorType::HttpStatus(503))));
    let (filter, verdict, mut stream) = run(&any, &scopes, None, connect());
    assert!(matches!(verdict, Verdict::Delay(time) if time.as_millis() == 250));
    assert!(stream.info.flags.has(ResponseFlag::DelayInjected));
    assert_eq!(scopes.gauge("http.p.fault.active_faults"), 1);
    let mut filter = filter.unwrap();
    let aborted =
        (503, "fault filter abort".to_owned(), "fault_filter_abort".to_owned(), Some(ResponseFlag::FaultInjected));
    assert_eq!(reply(filter.after_delay(&mut stream)), aborted);
    drop(filter);
    assert_eq!(scopes.gauge("http.p.fault.active_faults"), 0);
    let counts = ["delays_injected", "aborts_injected"].map(|name| scopes.counter(&format!("http.p.fault.{name}")));
    assert_eq!(counts, [1, 1]);

    // A delay alone is no active fault once it is over.
    let any = pack(&fault(delay(FaultDelaySecifier::FixedDelay(ms)), None));
    let (filter, _, mut stream) = run(&any, &scopes, None, connect());
    let mut filter = filter.unwrap();
    assert_eq!(scopes.gauge("http.p.fault.active_faults"), 1);
    assert!(passes(&filter.after_delay(&mut stream)));
    assert_eq!(scopes.gauge("http.p.fault.active_faults"), 0);
    drop(filter);
    assert_eq!(scopes.gauge("http.p.fault.active_faults"), 0);

    let by_header = pack(&fault(
        delay(FaultDelaySecifier::HeaderDelay(HeaderDelay {})),
        abort(ErrorType::HeaderAbort(HeaderAbort {})),
    ));
    assert!(passes(&run(&by_header, &scopes, None, connect()).1));
    let asked = get("/", &[("x-envoy-fault-delay-request", "7")]);
    assert!(matches!(run(&by_header, &scopes, None, asked).1, Verdict::Delay(time) if time.as_millis() == 7));
    let asked = get("/", &[("x-envoy-fault-abort-request", "418")]);
    assert_eq!(reply(run(&by_header, &scopes, None, asked).1).0, 418);
    let asked = get("/", &[("x-envoy-fault-abort-request", "418"), ("x-envoy-fault-abort-request-percentage", "0")]);
    assert!(passes(&run(&by_header, &scopes, None, asked).1));
    assert!(refused(&pack(&fault(None, abort(ErrorType::GrpcStatus(1))))).ends_with("grpc_status: not supported"));
}

#[test]
fn fault_slows_answers() {
    use fault_pb::fault_rate_limit::{FixedLimit, HeaderLimit, LimitType};
    let scopes = Scopes::new();
    let limit = |by, out_of| {
        let limit = fault_pb::FaultRateLimit { percentage: percent(out_of), limit_type: by };
        pack(&pb::fault::v3::HttpFault { response_rate_limit: Some(limit), ..Default::default() })
    };
    let fixed = Some(LimitType::FixedLimit(FixedLimit { limit_kbps: 7 }));
    let run = |any: &prost_types::Any, head| {
        let (_, verdict, stream) = run(any, &scopes, None, head);
        assert!(passes(&verdict));
        stream.response_limit.map(std::num::NonZeroU32::get)
    };
    assert_eq!(run(&limit(fixed, 100), connect()), Some(7));
    assert_eq!(run(&limit(fixed, 0), connect()), None);
    let by_header = limit(Some(LimitType::HeaderLimit(HeaderLimit {})), 100);
    assert_eq!(run(&by_header, connect()), None);
    let asks = |more: &[(&'static str, &'static str)]| {
        let mut fields = vec![("x-envoy-fault-throughput-response", "9")];
        fields.extend(more);
        get("/", &fields)
    };
    assert_eq!(run(&by_header, asks(&[])), Some(9));
    assert_eq!(run(&by_header, asks(&[("x-envoy-fault-throughput-response-percentage", "0")])), None);
    assert_eq!(scopes.counter("http.p.fault.response_rl_injected"), 2);
    assert!(refused(&limit(None, 100)).contains("fixed_limit or header_limit"));
}

#[test]
fn slow_answers_are_active_faults_and_bounded_like_others() {
    use fault_pb::fault_rate_limit::{FixedLimit, LimitType};
    let scopes = Scopes::new();
    let limit_type = Some(LimitType::FixedLimit(FixedLimit { limit_kbps: 7 }));
    let message = pb::fault::v3::HttpFault {
        response_rate_limit: Some(fault_pb::FaultRateLimit { percentage: percent(100), limit_type }),
        max_active_faults: Some(1),
        ..Default::default()
    };
    let factory = make(&pack(&message), &scopes);
    let (mut first, mut second) = (factory.create(None).unwrap(), factory.create(None).unwrap());
    let slowed = |filter: &mut Box<dyn HttpFilter>| {
        let mut stream = stream(connect());
        assert!(passes(&filter.on_request(&mut stream, false)));
        stream.response_limit.is_some()
    };
    assert!(slowed(&mut first));
    assert_eq!(scopes.gauge("http.p.fault.active_faults"), 1);
    assert!(!slowed(&mut second));
    let counts =
        ["response_rl_injected", "faults_overflow"].map(|name| scopes.counter(&format!("http.p.fault.{name}")));
    assert_eq!(counts, [1, 1]);
    drop(first);
    assert_eq!(scopes.gauge("http.p.fault.active_faults"), 0);
    assert!(slowed(&mut second));
}

#[test]
fn faults_are_bounded_by_number_and_runtime() {
    use pb::fault::v3::fault_abort::ErrorType;
    let scopes = Scopes::new();
    let mut message = fault(None, abort(ErrorType::HttpStatus(503)));
    message.max_active_faults = Some(1);
    let factory = make(&pack(&message), &scopes);
    let (mut first, mut second) = (factory.create(None).unwrap(), factory.create(None).unwrap());
    assert!(!passes(&first.on_request(&mut stream(connect()), false)));
    assert!(passes(&second.on_request(&mut stream(connect()), false)));
    assert_eq!(scopes.counter("http.p.fault.faults_overflow"), 1);
    drop(first);
    let mut stream = stream(connect());
    stream.worker.runtime.set("fault.http.abort.abort_percent", "0");
    assert!(passes(&second.on_request(&mut stream, false)));
    stream.worker.runtime.set("fault.http.abort.abort_percent", "");
    stream.worker.runtime.set("fault.http.abort.http_status", "500");
    assert_eq!(reply(second.on_request(&mut stream, false)).0, 500);
}

/// Attack C23: no filter may trip over a request without a path, not even one configured to look at it.
#[test]
fn a_request_without_a_path_goes_through_every_filter() {
    use pb::header_mutation::v3::HeaderMutation;
    use rbac_pb::permission::Rule;
    let scopes = Scopes::new();
    let on_path = {
        let rule = matcher::PathMatcher { rule: Some(matcher::path_matcher::Rule::Path(exact("/"))) };
        let mut rules = engine(rbac_pb::rbac::Action::Deny, "x").unwrap();
        let policy = rules.policies.values_mut().next().unwrap();
        policy.permissions = vec![rbac_pb::Permission { rule: Some(Rule::UrlPath(rule)) }];
        pb::rbac::v3::Rbac { rules: Some(rules), ..Default::default() }
    };
    let ms = prost_types::Duration { seconds: 0, nanos: 1 };
    let faults = fault(delay(fault_pb::fault_delay::FaultDelaySecifier::FixedDelay(ms)), None);
    let cors = pack(&cors_policy());
    for (any, route) in [
        (pack(&buffer(1)), None),
        (pack(&HeaderMutation { mutations: Some(mutations()), ..Default::default() }), None),
        (set_state(vec![state_value("k", "envoy.string", "%REQ(:PATH)%%PATH(NQ)%%QUERY_PARAM(a)%")]), None),
        (pack(&on_path), None),
        (pack(&rate_limit(1, 100, 100)), None),
        (pack(&pb::cors::v3::Cors {}), Some(&cors)),
        (pack(&faults), None),
    ] {
        let (filter, verdict, mut stream) = run(&any, &scopes, route, connect());
        assert!(!matches!(verdict, Verdict::Reply(_)), "{}", any.type_url);
        let mut head = ResponseHead::new(StatusCode::OK);
        filter.unwrap().on_response(&mut head, &mut stream.info);
    }
}

#[test]
fn other_types_are_left_to_others() {
    let scopes = Scopes::new();
    let any =
        Any { type_url: "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router".into(), value: vec![] };
    assert!(http_filter(&any, &scopes.env(), "f").unwrap().is_none());
    assert!(route_config(&any, &scopes.env(), "f").unwrap().is_none());
}
