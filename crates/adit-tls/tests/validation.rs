//! What is asked of peers, row by row, on both sides; each refusal counts exactly once.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod rig;

use adit_config::proto::envoy::extensions::transport_sockets::tls::v3 as pb;
use adit_config::proto::envoy::r#type::matcher::v3::StringMatcher;
use adit_config::proto::envoy::r#type::matcher::v3::string_matcher::MatchPattern;
use adit_tls::{ConnectOptions, Fault};
use base64::Engine as _;
use pb::certificate_validation_context::TrustChainVerification;
use pb::subject_alt_name_matcher::SanType;
use rig::{Ca, Cert, Rig, common, downstream, self_signed, shake, trust, upstream};

type Validation = pb::CertificateValidationContext;

/// What the upstream side makes of a server with this certificate.
async fn judge(server: &Cert, validation: Validation) -> Option<Fault> {
    let rig = Rig::default();
    let acceptor = rig.acceptor(&downstream(common(&[server], None)));
    let connector = rig.connector(&upstream(common(&[], Some(validation))));
    let (client, _) = shake(&connector, &acceptor, ConnectOptions::default()).await;
    let fault = client.as_ref().err().map(|error| error.fault);
    assert_eq!(rig.refusals("u"), u64::from(fault.is_some()));
    assert_eq!(rig.count("u.ssl.handshake"), u64::from(fault.is_none()));
    if let Ok(io) = client {
        let tls = io.info.tls.clone().unwrap();
        assert_eq!(tls.peer_certificates[0], server.der);
    }
    fault
}

/// What the downstream side makes of a client with this certificate.
async fn judge_client(client: Option<&Cert>, validation: Option<Validation>, required: bool) -> Option<Fault> {
    let rig = Rig::default();
    let server = Ca::new("server ca").issue(&["server.test"]);
    let mut message = downstream(common(&[&server], validation));
    message.require_client_certificate = Some(required);
    let acceptor = rig.acceptor(&message);
    let connector = rig.connector(&upstream(common(client.as_slice(), None)));
    let (_, accepted) = shake(&connector, &acceptor, ConnectOptions::default()).await;
    let fault = accepted.as_ref().err().map(|error| error.fault);
    assert_eq!(rig.refusals("d"), u64::from(fault.is_some()), "{accepted:?}", accepted = accepted.as_ref().err());
    if let Ok(io) = accepted {
        assert_eq!(rig.count("d.ssl.handshake"), 1);
        let without = io.info.tls.as_ref().unwrap().peer_certificates.is_empty();
        assert_eq!(rig.count("d.ssl.no_certificate"), u64::from(without));
    }
    fault
}

fn san(kind: SanType, pattern: MatchPattern) -> pb::SubjectAltNameMatcher {
    let matcher = Some(StringMatcher { ignore_case: false, match_pattern: Some(pattern) });
    pb::SubjectAltNameMatcher { san_type: kind as i32, matcher, oid: String::new() }
}

fn exact(kind: SanType, text: &str) -> pb::SubjectAltNameMatcher {
    san(kind, MatchPattern::Exact(text.to_owned()))
}

fn sha256(bytes: &[u8]) -> Vec<u8> {
    aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, bytes).as_ref().to_vec()
}

#[tokio::test]
async fn chains_hold_or_not() {
    let (ca, other) = (Ca::new("ca"), Ca::new("other"));
    let leaf = ca.issue(&["a.test"]);
    // Nothing asked: anything goes.
    assert_eq!(judge(&leaf, Validation::default()).await, None);
    // The name is compared with nothing.
    assert_eq!(judge(&leaf, trust(&ca.pem())).await, None);
    assert_eq!(judge(&leaf, trust(&other.pem())).await, Some(Fault::Chain));
    assert_eq!(judge(&leaf, trust(&format!("{}{}", other.pem(), ca.pem()))).await, None);
    let untrusted =
        Validation { trust_chain_verification: TrustChainVerification::AcceptUntrusted as i32, ..trust(&other.pem()) };
    let rig = Rig::default();
    let acceptor = rig.acceptor(&downstream(common(&[&leaf], None)));
    let connector = rig.connector(&upstream(common(&[], Some(untrusted))));
    let (client, _) = shake(&connector, &acceptor, ConnectOptions::default()).await;
    assert!(!client.unwrap().info.tls.as_ref().unwrap().peer_validated);
    assert_eq!((rig.count("u.ssl.handshake"), rig.count("u.ssl.fail_verify_error")), (1, 1));
}

#[tokio::test]
async fn a_listed_certificate_is_accepted_as_the_peers_own() {
    for is_ca in [false, true] {
        let cert = self_signed(&["self.test"], |params| {
            if is_ca {
                params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
            }
        });
        assert_eq!(judge(&cert, trust(&cert.chain)).await, None, "CA:{is_ca}");
        assert_eq!(judge_client(Some(&cert), Some(trust(&cert.chain)), true).await, None, "CA:{is_ca}");
        let other = self_signed(&["self.test"], |_| {});
        assert_eq!(judge(&cert, trust(&other.chain)).await, Some(Fault::Chain));
    }
}

#[tokio::test]
async fn time_counts_unless_it_is_left_out() {
    let ca = Ca::new("ca");
    let past = ca.issue_with(&["a.test"], |params| params.not_after = rcgen::date_time_ymd(2020, 1, 1));
    let future = ca.issue_with(&["a.test"], |params| params.not_before = rcgen::date_time_ymd(4000, 1, 1));
    let listed = self_signed(&["a.test"], |params| params.not_after = rcgen::date_time_ymd(2020, 1, 1));
    for (cert, anchor) in [(&past, ca.pem()), (&future, ca.pem()), (&listed, listed.chain.clone())] {
        assert_eq!(judge(cert, trust(&anchor)).await, Some(Fault::Chain));
        let allowed = Validation { allow_expired_certificate: true, ..trust(&anchor) };
        assert_eq!(judge(cert, allowed).await, None);
    }
}

#[tokio::test]
async fn names_of_every_kind_are_matched() {
    let ca = Ca::new("ca");
    let leaf = ca.issue(&["*.a.test", "uri:spiffe://td/ns/x", "mail:x@a.test", "10.0.0.1", "fd00::1"]);
    for (matcher, fits) in [
        (exact(SanType::Dns, "b.a.test"), true),
        (exact(SanType::Dns, "*.a.test"), true),
        (exact(SanType::Dns, "a.test"), false),
        (exact(SanType::Dns, "c.b.a.test"), false),
        (san(SanType::Dns, MatchPattern::Suffix(".a.test".into())), true),
        (exact(SanType::Uri, "spiffe://td/ns/x"), true),
        (san(SanType::Uri, MatchPattern::Prefix("spiffe://td/".into())), true),
        (san(SanType::Uri, MatchPattern::Prefix("spiffe://other/".into())), false),
        (exact(SanType::Email, "x@a.test"), true),
        (exact(SanType::IpAddress, "10.0.0.1"), true),
        (exact(SanType::IpAddress, "fd00::1"), true),
        (exact(SanType::IpAddress, "10.0.0.2"), false),
        (exact(SanType::Uri, "b.a.test"), false),
    ] {
        let validation = Validation { match_typed_subject_alt_names: vec![matcher.clone()], ..trust(&ca.pem()) };
        let expected = (!fits).then_some(Fault::Name);
        assert_eq!(judge(&leaf, validation.clone()).await, expected, "{matcher:?}");
        assert_eq!(judge_client(Some(&leaf), Some(validation), false).await, expected, "{matcher:?}");
    }
    // One of several is enough.
    let several = vec![exact(SanType::Dns, "x"), exact(SanType::IpAddress, "10.0.0.1")];
    let validation = Validation { match_typed_subject_alt_names: several, ..trust(&ca.pem()) };
    assert_eq!(judge(&leaf, validation).await, None);
}

#[tokio::test]
async fn hashes_pin_a_certificate_or_a_key() {
    let ca = Ca::new("ca");
    let (leaf, other) = (ca.issue(&["a.test"]), ca.issue(&["a.test"]));
    let hash = |cert: &Cert| adit_match::certificate::hex(&sha256(&cert.der));
    let colons =
        hash(&leaf).as_bytes().chunks(2).map(|pair| String::from_utf8_lossy(pair)).collect::<Vec<_>>().join(":");
    let spki = |cert: &Cert| {
        let (_, parsed) = x509_parser::parse_x509_certificate(&cert.der).unwrap();
        base64::engine::general_purpose::STANDARD.encode(sha256(parsed.public_key().raw))
    };
    let pinned = |hashes: Vec<String>, spki: Vec<String>| Validation {
        verify_certificate_hash: hashes,
        verify_certificate_spki: spki,
        ..Validation::default()
    };
    for (validation, expected) in [
        (pinned(vec![hash(&leaf)], vec![]), None),
        (pinned(vec![colons.to_uppercase()], vec![]), None),
        (pinned(vec![hash(&other)], vec![]), Some(Fault::Hash)),
        (pinned(vec![hash(&other), hash(&leaf)], vec![]), None),
        (pinned(vec![], vec![spki(&leaf)]), None),
        (pinned(vec![], vec![spki(&other)]), Some(Fault::Hash)),
        (pinned(vec![hash(&other)], vec![spki(&leaf)]), None),
        (
            Validation { trusted_ca: trust(&ca.pem()).trusted_ca, ..pinned(vec![hash(&other)], vec![]) },
            Some(Fault::Hash),
        ),
    ] {
        assert_eq!(judge(&leaf, validation.clone()).await, expected);
        assert_eq!(judge_client(Some(&leaf), Some(validation), true).await, expected);
    }
}

#[tokio::test]
async fn revoked_certificates_are_refused() {
    let (ca, other) = (Ca::new("ca"), Ca::new("other"));
    let serial = |number: u64| move |params: &mut rcgen::CertificateParams| params.serial_number = Some(number.into());
    let (good, bad) = (ca.issue_with(&["a.test"], serial(7)), ca.issue_with(&["a.test"], serial(8)));
    let with = |crl: &str| Validation { crl: rig::inline(crl), ..trust(&ca.pem()) };
    assert_eq!(judge(&good, with(&ca.crl(&[8]))).await, None);
    assert_eq!(judge(&bad, with(&ca.crl(&[8]))).await, Some(Fault::Chain));
    assert_eq!(judge_client(Some(&bad), Some(with(&ca.crl(&[8]))), true).await, Some(Fault::Chain));
    // No list of its issuer: its state is unknown.
    assert_eq!(judge(&good, with(&other.crl(&[]))).await, Some(Fault::Chain));
    let stale = ca.crl_until(&[8], std::time::SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(1_710_000_000));
    assert_eq!(judge(&good, with(&stale)).await, Some(Fault::Chain));
    let only_leaf = Validation { only_verify_leaf_cert_crl: true, ..with(&ca.crl(&[8])) };
    assert_eq!(judge(&bad, only_leaf.clone()).await, Some(Fault::Chain));
    assert_eq!(judge(&good, only_leaf).await, None);
}

#[tokio::test]
async fn only_the_leafs_list_is_needed_where_asked() {
    let root = Ca::new("root");
    let mut params = rcgen::CertificateParams::new(Vec::new()).unwrap();
    params.distinguished_name.push(rcgen::DnType::CommonName, "middle");
    params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    params.key_usages = vec![rcgen::KeyUsagePurpose::KeyCertSign, rcgen::KeyUsagePurpose::CrlSign];
    let middle = Ca(rcgen::CertifiedIssuer::signed_by(params, rcgen::KeyPair::generate().unwrap(), &root.0).unwrap());
    let mut leaf = middle.issue(&["a.test"]);
    leaf.chain = format!("{}{}", leaf.chain, middle.pem());
    assert_eq!(judge(&leaf, trust(&root.pem())).await, None);
    // An intermediate may be trusted itself.
    assert_eq!(judge(&leaf, trust(&middle.pem())).await, None);
    let with =
        |only| Validation { crl: rig::inline(&middle.crl(&[])), only_verify_leaf_cert_crl: only, ..trust(&root.pem()) };
    assert_eq!(judge(&leaf, with(true)).await, None);
    assert_eq!(judge(&leaf, with(false)).await, Some(Fault::Chain));
}

#[tokio::test]
async fn clients_show_certificates_where_they_must() {
    let ca = Ca::new("ca");
    let (good, stranger) = (ca.issue(&["client"]), Ca::new("other").issue(&["client"]));
    let asks = || Some(trust(&ca.pem()));
    assert_eq!(judge_client(None, None, false).await, None);
    assert_eq!(judge_client(None, asks(), false).await, None);
    assert_eq!(judge_client(None, asks(), true).await, Some(Fault::NoCertificate));
    assert_eq!(judge_client(Some(&good), asks(), true).await, None);
    assert_eq!(judge_client(Some(&stranger), asks(), false).await, Some(Fault::Chain));
    // Required, and nothing more asked of it.
    assert_eq!(judge_client(Some(&stranger), None, true).await, None);
    assert_eq!(judge_client(None, None, true).await, Some(Fault::NoCertificate));
}

#[tokio::test]
async fn a_certificate_must_be_for_the_name_where_that_is_asked() {
    let ca = Ca::new("ca");
    let leaf = ca.issue(&["a.test", "127.0.0.1"]);
    let rig = Rig::default();
    let acceptor = rig.acceptor(&downstream(common(&[&leaf], None)));
    let mut message = upstream(common(&[], Some(trust(&ca.pem()))));
    message.sni = "a.test".into();
    let by_option = rig.connector(&message);
    message.auto_sni_san_validation = true;
    message.auto_host_sni = true;
    let by_config = rig.connector(&message);
    let asked = |sni, auto_san| ConnectOptions { sni, auto_san, ..ConnectOptions::default() };
    let host = |host_name| ConnectOptions { host_name, ..ConnectOptions::default() };
    for (connector, options, expected) in [
        (&by_option, asked(Some("b.test"), false), None),
        (&by_option, asked(Some("a.test"), true), None),
        (&by_option, asked(Some("b.test"), true), Some(Fault::Name)),
        (&by_option, asked(None, true), None),
        (&by_option, asked(Some("127.0.0.1"), true), None),
        (&by_config, host("b.test"), Some(Fault::Name)),
        (&by_config, host("a.test"), None),
        (&by_config, host(""), None),
    ] {
        let (client, _) = shake(connector, &acceptor, options).await;
        assert_eq!(client.err().map(|error| error.fault), expected, "{options:?}");
    }
    // The name to verify may be another than the one to ask by, and a session with one says nothing of the other.
    for (sni, verify_name, expected) in [
        (Some("a.test"), "a.test", None),
        (Some("a.test"), "b.test", Some(Fault::Name)),
        (Some("b.test"), "a.test", None),
        (Some("b.test"), "b.test", Some(Fault::Name)),
        (Some("b.test"), "127.0.0.1", None),
        (None, "127.0.0.1", None),
        (None, "127.0.0.2", Some(Fault::Name)),
        (None, "", Some(Fault::Name)),
    ] {
        for resumed in [false, true] {
            let options = ConnectOptions { verify_name: Some(verify_name), ..asked(sni, true) };
            let (client, _) = shake(&by_option, &acceptor, options).await;
            assert_eq!(client.err().map(|error| error.fault), expected, "{options:?} {resumed}");
        }
    }
    let idle = ConnectOptions { verify_name: Some("b.test"), ..asked(None, false) };
    assert!(shake(&by_option, &acceptor, idle).await.0.is_ok(), "only where it is asked");
}

#[tokio::test]
async fn configurations_that_cannot_be_held_are_refused() {
    let ca = Ca::new("ca");
    let leaf = ca.issue(&["a.test"]);
    let rig = Rig::default();
    let validated = |validation| downstream(common(&[&leaf], Some(validation)));
    let bad = |change: &dyn Fn(&mut pb::TlsCertificate)| {
        let mut message = downstream(common(&[&leaf], None));
        change(&mut message.common_tls_context.as_mut().unwrap().tls_certificates[0]);
        rig.refused(&message)
    };
    let other = ca.issue(&["b.test"]);
    let mut params = downstream(common(&[&leaf], None));
    let tls = params.common_tls_context.as_mut().unwrap();
    tls.tls_params = Some(pb::TlsParameters {
        cipher_suites: vec!["[ECDHE-RSA-AES128-GCM-SHA256|AES128-SHA]".into()],
        ecdh_curves: vec!["P-521".into()],
        tls_minimum_protocol_version: 1,
        ..pb::TlsParameters::default()
    });
    let names = vec![exact(SanType::Dns, "a")];
    for (text, expected) in [
        (rig.refused(&downstream(common(&[], None))), "No TLS certificates found for server context"),
        (bad(&|one| one.private_key = rig::inline(&other.key)), "does not belong to the certificate"),
        (bad(&|one| one.private_key = None), "tls_certificates[0].private_key: value is required"),
        (bad(&|one| one.certificate_chain = rig::inline("x")), "there is no certificate in PEM"),
        (bad(&|one| one.password = rig::inline("x")), "tls_certificates[0].password"),
        (
            bad(&|one| {
                one.private_key =
                    rig::inline("-----BEGIN ENCRYPTED PRIVATE KEY-----\nAA==\n-----END ENCRYPTED PRIVATE KEY-----")
            }),
            "need a password",
        ),
        (bad(&|one| one.certificate_chain = rig::file("/nonexistent".as_ref())), "/nonexistent"),
        (rig.refused(&params), "AES128-SHA is not supported"),
        (rig.refused(&params), "P-521 is not supported"),
        (rig.refused(&params), "TLS 1.0 and 1.1"),
        (
            rig.refused(&validated(Validation { match_typed_subject_alt_names: names, ..Validation::default() })),
            "SAN-based verification of peer certificates without trusted CA",
        ),
        (
            rig.refused(&validated(Validation { verify_certificate_hash: vec!["zz".into()], ..Validation::default() })),
            "Invalid hex-encoded SHA-256 zz",
        ),
        (
            rig.refused(&validated(Validation { verify_certificate_spki: vec!["zz".into()], ..Validation::default() })),
            "Invalid base64-encoded SHA-256 zz",
        ),
        (rig.refused(&validated(Validation { crl: rig::inline("x"), ..trust(&ca.pem()) })), "Failed to load CRL"),
        (rig.refused(&validated(trust("x"))), "Failed to load trusted CA certificates"),
        (rig.refused_upstream(&upstream(common(&[&leaf, &other], None))), "Multiple TLS certificates"),
        (
            rig.refused_upstream(&pb::UpstreamTlsContext { allow_renegotiation: true, ..Default::default() }),
            "at.allow_renegotiation",
        ),
        (
            rig.refused_upstream(&pb::UpstreamTlsContext { auto_sni_san_validation: true, ..Default::default() }),
            "at.auto_sni_san_validation",
        ),
    ] {
        assert!(text.contains(expected), "{text} has no {expected}");
    }
}
