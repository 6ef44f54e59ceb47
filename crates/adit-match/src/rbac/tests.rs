#![allow(clippy::unwrap_used)]
use std::sync::Arc;

use super::*;
use adit_config::proto::envoy::config::core::v3::CidrRange;
use adit_config::proto::envoy::config::route::v3::HeaderMatcher;
use adit_config::proto::envoy::r#type::matcher::v3::{
    PathMatcher, StringMatcher, path_matcher, string_matcher::MatchPattern,
};
use adit_config::proto::envoy::r#type::v3::Int32Range;
use adit_http::RequestKind;
use adit_io::TlsInfo;
use http::Method;
use pb::permission::Rule;
use pb::principal::Identifier;

fn text(text: &str) -> StringMatcher {
    StringMatcher { ignore_case: false, match_pattern: Some(MatchPattern::Exact(text.into())) }
}

fn path(path: &str) -> PathMatcher {
    PathMatcher { rule: Some(path_matcher::Rule::Path(text(path))) }
}

fn range(prefix: &str, length: u32) -> CidrRange {
    CidrRange { address_prefix: prefix.into(), prefix_len: Some(length) }
}

fn rule(rule: Rule) -> pb::Permission {
    pb::Permission { rule: Some(rule) }
}

fn id(identifier: Identifier) -> pb::Principal {
    pb::Principal { identifier: Some(identifier) }
}

fn engine(action: pb::rbac::Action, permission: Rule, principal: Identifier) -> Result<Engine, ConfigError> {
    let policy =
        pb::Policy { permissions: vec![rule(permission)], principals: vec![id(principal)], ..Default::default() };
    let message = pb::Rbac {
        action: action as i32,
        policies: [("my policy".to_owned(), policy)].into(),
        audit_logging_options: None,
    };
    Engine::from_proto(&message, "rules")
}

fn info() -> StreamInfo {
    let mut conn = ConnInfo::new(
        1,
        "127.0.0.1:8080".parse::<std::net::SocketAddr>().unwrap().into(),
        "10.0.0.9:5".parse::<std::net::SocketAddr>().unwrap().into(),
    );
    conn.direct_remote = Some(Box::new("192.168.0.1:6".parse::<std::net::SocketAddr>().unwrap().into()));
    conn.server_name = Some("sni.example".into());
    StreamInfo::new(Arc::new(conn))
}

fn request(target: Option<&str>) -> RequestHead {
    let kind = match target {
        Some(_) => RequestKind::Plain,
        None => RequestKind::Connect("a:1".parse().unwrap()),
    };
    let mut head = RequestHead::new(kind, Method::GET);
    head.path = target.map(|target| target.parse().unwrap());
    head
}

/// Whether a permission (and anyone) matches, on a request and on a bare connection.
fn permits(permission: Rule, target: Option<&str>) -> (bool, bool) {
    let engine = engine(pb::rbac::Action::Allow, permission, Identifier::Any(true)).unwrap();
    both(&engine, target)
}

fn identifies(principal: Identifier, target: Option<&str>) -> (bool, bool) {
    let engine = engine(pb::rbac::Action::Allow, Rule::Any(true), principal).unwrap();
    both(&engine, target)
}

fn both(engine: &Engine, target: Option<&str>) -> (bool, bool) {
    let (info, head) = (info(), request(target));
    let subject = Subject::request(&head, &info);
    let bare = Subject { head: None, ..subject };
    (engine.decide(&subject).allowed, engine.decide(&bare).allowed)
}

#[test]
fn every_permission() {
    let set = |rules: Vec<Rule>| pb::permission::Set { rules: rules.into_iter().map(rule).collect() };
    let header = || HeaderMatcher { name: ":method".into(), ..Default::default() };
    for (permission, target, expected) in [
        (Rule::Any(true), None, (true, true)),
        (Rule::Header(header()), None, (true, false)),
        (Rule::UrlPath(path("/a")), Some("/a?q=1"), (true, false)),
        (Rule::UrlPath(path("/a")), Some("/b"), (false, false)),
        (Rule::UrlPath(path("")), None, (false, false)),
        (Rule::NotRule(Box::new(rule(Rule::UrlPath(path("/a"))))), None, (true, true)),
        (Rule::DestinationIp(range("127.0.0.0", 8)), None, (true, true)),
        (Rule::DestinationPort(8080), None, (true, true)),
        (Rule::DestinationPort(8081), None, (false, false)),
        (Rule::DestinationPortRange(Int32Range { start: 8080, end: 8081 }), None, (true, true)),
        (Rule::DestinationPortRange(Int32Range { start: 8000, end: 8080 }), None, (false, false)),
        (Rule::RequestedServerName(text("sni.example")), None, (true, true)),
        (Rule::AndRules(set(vec![Rule::Any(true), Rule::DestinationPort(1)])), None, (false, false)),
        (Rule::OrRules(set(vec![Rule::DestinationPort(1), Rule::Any(true)])), None, (true, true)),
    ] {
        assert_eq!(permits(permission.clone(), target), expected, "{permission:?}");
    }
}

#[test]
#[expect(deprecated)]
fn every_principal() {
    let set = |ids: Vec<Identifier>| pb::principal::Set { ids: ids.into_iter().map(id).collect() };
    let authenticated = || Identifier::Authenticated(pb::principal::Authenticated { principal_name: None });
    for (principal, expected) in [
        (Identifier::Any(true), (true, true)),
        (Identifier::RemoteIp(range("10.0.0.0", 8)), (true, true)),
        (Identifier::DirectRemoteIp(range("192.168.0.0", 16)), (true, true)),
        (Identifier::DirectRemoteIp(range("10.0.0.0", 8)), (false, false)),
        (Identifier::SourceIp(range("192.168.0.0", 16)), (true, false)),
        (Identifier::SourceIp(range("10.0.0.0", 8)), (false, true)),
        (Identifier::UrlPath(path("/a")), (false, false)),
        (authenticated(), (false, false)),
        (Identifier::NotId(Box::new(id(authenticated()))), (true, true)),
        (Identifier::AndIds(set(vec![Identifier::Any(true), authenticated()])), (false, false)),
        (Identifier::OrIds(set(vec![authenticated(), Identifier::Any(true)])), (true, true)),
    ] {
        assert_eq!(identifies(principal.clone(), None), expected, "{principal:?}");
    }
}

#[test]
fn authentication_takes_a_verified_certificate_and_its_first_kind_of_name() {
    let mut params = rcgen::CertificateParams::new(vec!["dns.example".to_owned()]).unwrap();
    params.subject_alt_names.push(rcgen::SanType::URI("spiffe://td/a".try_into().unwrap()));
    let der = params.self_signed(&rcgen::KeyPair::generate().unwrap()).unwrap().der().to_vec();
    let allowed = |name: Option<&str>, validated: bool| {
        let mut info = info();
        Arc::make_mut(&mut info.conn).tls = Some(Arc::new(TlsInfo {
            peer_certificates: vec![der.clone()],
            peer_validated: validated,
            ..TlsInfo::default()
        }));
        let principal = Identifier::Authenticated(pb::principal::Authenticated { principal_name: name.map(text) });
        let engine = engine(pb::rbac::Action::Allow, Rule::Any(true), principal).unwrap();
        let head = request(None);
        engine.decide(&Subject::request(&head, &info)).allowed
    };
    assert!(allowed(None, true));
    assert!(!allowed(None, false));
    assert!(allowed(Some("spiffe://td/a"), true));
    assert!(!allowed(Some("spiffe://td/a"), false));
    assert!(!allowed(Some("dns.example"), true));
}

#[test]
fn actions_and_details() {
    let (info, head) = (info(), request(None));
    let subject = Subject::request(&head, &info);
    let decide = |action, port| {
        let engine = engine(action, Rule::DestinationPort(port), Identifier::Any(true)).unwrap();
        let decision = engine.decide(&subject);
        (decision.allowed, decision.denied_details())
    };
    let (matched, none) = (
        "rbac_access_denied_matched_policy[my_policy]".to_owned(),
        "rbac_access_denied_matched_policy[none]".to_owned(),
    );
    assert_eq!(decide(pb::rbac::Action::Allow, 8080), (true, matched.clone()));
    assert_eq!(decide(pb::rbac::Action::Allow, 1), (false, none.clone()));
    assert_eq!(decide(pb::rbac::Action::Deny, 8080), (false, matched.clone()));
    assert_eq!(decide(pb::rbac::Action::Deny, 1), (true, none.clone()));
    assert_eq!(decide(pb::rbac::Action::Log, 8080), (true, matched));
    assert_eq!(decide(pb::rbac::Action::Log, 1), (true, none));
}

#[test]
fn what_is_not_supported_is_refused_by_name() {
    let error = engine(pb::rbac::Action::Allow, Rule::Matcher(Default::default()), Identifier::Any(true)).unwrap_err();
    assert_eq!(error.path, "rules.policies[\"my policy\"].permissions[0].matcher");
    let policy = pb::Policy { condition: Some(Default::default()), ..Default::default() };
    let message = pb::Rbac { policies: [("p".to_owned(), policy)].into(), ..Default::default() };
    assert_eq!(Engine::from_proto(&message, "r").unwrap_err().path, "r.policies[\"p\"].condition");
}
