//! Which certificate, protocol, version and session two sides agree on, and what they say of it.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod rig;

use std::sync::Arc;

use adit_config::proto::envoy::config::core::v3::CidrRange;
use adit_config::proto::envoy::extensions::transport_sockets::tls::v3 as pb;
use adit_config::proto::envoy::r#type::matcher::v3::{StringMatcher, string_matcher};
use adit_io::TlsInfo;
use adit_testkit::TempDir;
use adit_tls::{Acceptor, ConnectOptions, Connector};
use base64::Engine as _;
use pb::downstream_tls_context::SessionTicketKeysType;
use pb::tls_parameters::TlsProtocol;
use rig::{Ca, Cert, Rig, common, downstream, exercise, pair_with, shake, trust, upstream};

fn plain(rig: &Rig) -> Arc<Connector> {
    rig.connector(&upstream(common(&[], None)))
}

fn by_name(sni: &str) -> ConnectOptions<'_> {
    ConnectOptions { sni: Some(sni), ..ConnectOptions::default() }
}

async fn settled(connector: &Connector, acceptor: &Acceptor, options: ConnectOptions<'_>) -> (TlsInfo, TlsInfo) {
    let (client, server) = exercise(connector, acceptor, options).await;
    let of = |io: adit_io::Io| TlsInfo::clone(io.info.tls.as_ref().unwrap());
    (of(client), of(server))
}

fn with_params(message: &mut pb::CommonTlsContext, least: TlsProtocol, most: TlsProtocol) {
    message.tls_params = Some(pb::TlsParameters {
        tls_minimum_protocol_version: least as i32,
        tls_maximum_protocol_version: most as i32,
        ..pb::TlsParameters::default()
    });
}

#[tokio::test]
async fn the_name_chooses_the_certificate() {
    let ca = Ca::new("ca");
    let rsa = |names: &[&str]| {
        let params =
            rcgen::CertificateParams::new(names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>()).unwrap();
        let key = rcgen::KeyPair::generate_for(&rcgen::PKCS_RSA_SHA256).unwrap();
        let cert = params.signed_by(&key, &ca.0).unwrap();
        Cert { der: cert.der().to_vec(), chain: cert.pem(), key: key.serialize_pem() }
    };
    let common_name = {
        let mut params = rcgen::CertificateParams::new(Vec::new()).unwrap();
        params.distinguished_name = rcgen::DistinguishedName::new();
        params.distinguished_name.push(rcgen::DnType::CommonName, "cn.test");
        let key = rcgen::KeyPair::generate().unwrap();
        let cert = params.signed_by(&key, &ca.0).unwrap();
        Cert { der: cert.der().to_vec(), chain: cert.pem(), key: key.serialize_pem() }
    };
    let certs = [
        ca.issue(&["default.test"]),
        ca.issue(&["*.wild.test"]),
        ca.issue(&["a.wild.test"]),
        rsa(&["both.test"]),
        ca.issue(&["both.test"]),
        common_name,
    ];
    let rig = Rig::default();
    let all: Vec<&Cert> = certs.iter().collect();
    let acceptor = rig.acceptor(&downstream(common(&all, None)));
    let connector = plain(&rig);
    for (name, expected) in [
        ("default.test", 0),
        ("b.wild.test", 1),
        ("A.wild.test", 2),
        ("c.b.wild.test", 0),
        ("both.test", 4),
        ("cn.test", 5),
        ("unknown.test", 0),
        ("127.0.0.1", 0),
    ] {
        let (client, server) = settled(&connector, &acceptor, by_name(name)).await;
        assert_eq!(client.peer_certificates[0], certs[expected].der, "{name}");
        assert_eq!(server.local_certificate.as_deref(), Some(&*certs[expected].der), "{name}");
    }
    // A client that knows only RSA in TLS 1.2.
    let mut message = upstream(common(&[], None));
    let params = pb::TlsParameters {
        tls_maximum_protocol_version: TlsProtocol::TlSv12 as i32,
        cipher_suites: vec!["ECDHE-RSA-AES256-GCM-SHA384".into()],
        ..pb::TlsParameters::default()
    };
    message.common_tls_context.as_mut().unwrap().tls_params = Some(params);
    let (client, _) = settled(&rig.connector(&message), &acceptor, by_name("both.test")).await;
    assert_eq!(client.peer_certificates[0], certs[3].der);
    assert_eq!((client.version, &*client.cipher), ("TLSv1.2", "ECDHE-RSA-AES256-GCM-SHA384"));
}

#[tokio::test]
async fn a_name_may_be_required() {
    let rig = Rig::default();
    let cert = Ca::new("ca").issue(&["a.test"]);
    let mut message = downstream(common(&[&cert], None));
    message.require_sni = Some(true);
    let acceptor = rig.acceptor(&message);
    assert!(shake(&plain(&rig), &acceptor, ConnectOptions::default()).await.1.is_err());
    assert_eq!(rig.count("d.ssl.connection_error"), 1);
    assert!(shake(&plain(&rig), &acceptor, by_name("x.test")).await.1.is_ok());
}

#[tokio::test]
async fn the_servers_order_of_protocols_counts_and_none_in_common_is_none() {
    let rig = Rig::default();
    let cert = Ca::new("ca").issue(&["a.test"]);
    let mut message = downstream(common(&[&cert], None));
    message.common_tls_context.as_mut().unwrap().alpn_protocols = vec!["h2".into(), "http/1.1".into()];
    let acceptor = rig.acceptor(&message);
    let connector = plain(&rig);
    for (offered, expected) in
        [(&["http/1.1", "h2"][..], Some("h2")), (&["http/1.1"], Some("http/1.1")), (&["spdy/3"], None), (&[], None)]
    {
        let options = ConnectOptions { alpn: offered, ..ConnectOptions::default() };
        let (client, server) = settled(&connector, &acceptor, options).await;
        assert_eq!((client.alpn.as_deref(), server.alpn.as_deref()), (expected, expected));
    }
    // A list of its own wins over what the caller would offer.
    let mut message = upstream(common(&[], None));
    message.common_tls_context.as_mut().unwrap().alpn_protocols = vec!["http/1.1".into()];
    let options = ConnectOptions { alpn: &["h2"], ..ConnectOptions::default() };
    let (client, _) = settled(&rig.connector(&message), &acceptor, options).await;
    assert_eq!(client.alpn.as_deref(), Some("http/1.1"));
}

#[tokio::test]
async fn versions_are_limited_and_counted() {
    let rig = Rig::default();
    let ca = Ca::new("ca");
    let cert = ca.issue(&["a.test"]);
    use TlsProtocol::{TlSv12, TlSv13, TlsAuto};
    for (server, client, expected) in [
        ((TlsAuto, TlsAuto), (TlsAuto, TlsAuto), Some("TLSv1.3")),
        ((TlsAuto, TlSv12), (TlsAuto, TlsAuto), Some("TLSv1.2")),
        ((TlsAuto, TlsAuto), (TlSv12, TlSv12), Some("TLSv1.2")),
        ((TlSv13, TlsAuto), (TlSv12, TlSv12), None),
        ((TlsAuto, TlSv12), (TlSv13, TlsAuto), None),
    ] {
        let mut down = downstream(common(&[&cert], Some(trust(&ca.pem()))));
        with_params(down.common_tls_context.as_mut().unwrap(), server.0, server.1);
        let mut up = upstream(common(&[&cert], Some(trust(&ca.pem()))));
        with_params(up.common_tls_context.as_mut().unwrap(), client.0, client.1);
        let (connected, accepted) = shake(&rig.connector(&up), &rig.acceptor(&down), ConnectOptions::default()).await;
        let version = |io: Result<adit_io::Io, _>| io.ok().map(|io| io.info.tls.as_ref().unwrap().version);
        let _: &Result<_, adit_tls::TlsError> = &connected;
        assert_eq!((version(connected), version(accepted)), (expected, expected));
    }
    assert_eq!((rig.count("d.ssl.versions.TLSv1.3"), rig.count("d.ssl.versions.TLSv1.2")), (1, 2));
    assert_eq!((rig.count("d.ssl.connection_error"), rig.count("u.ssl.connection_error")), (2, 2));
    assert_eq!(rig.count("u.ssl.sigalgs.ecdsa_secp256r1_sha256"), 3);
    assert_eq!(rig.count("d.ssl.sigalgs.ecdsa_secp256r1_sha256"), 3);
    assert_eq!(rig.count("d.ssl.curves.X25519"), 3);
}

#[tokio::test]
async fn what_was_settled_is_told() {
    let rig = Rig::default();
    let ca = Ca::new("ca");
    let (server_cert, client_cert) = (ca.issue(&["a.test"]), ca.issue(&["client"]));
    let mut message = downstream(common(&[&server_cert], Some(trust(&ca.pem()))));
    message.common_tls_context.as_mut().unwrap().tls_params =
        Some(pb::TlsParameters { ecdh_curves: vec!["P-256".into()], ..pb::TlsParameters::default() });
    let acceptor = rig.acceptor(&message);
    let connector = rig.connector(&upstream(common(&[&client_cert], Some(trust(&ca.pem())))));
    let (client, server) = pair_with(&connector, &acceptor, by_name("a.test")).await;
    for io in [&client, &server] {
        assert_eq!((io.info.transport, io.info.server_name.as_deref()), ("tls", Some("a.test")));
        let tls = io.info.tls.as_ref().unwrap();
        assert_eq!((tls.version, tls.resumed, tls.peer_validated), ("TLSv1.3", false, true));
        assert!(tls.cipher.starts_with("TLS_"), "{}", tls.cipher);
        assert_eq!(rig.count(&format!("d.ssl.ciphers.{}", tls.cipher)), 1);
    }
    let tls = server.info.tls.as_ref().unwrap();
    assert_eq!(tls.peer_certificates[0], client_cert.der);
    assert_eq!(tls.local_certificate.as_deref(), Some(&*server_cert.der));
    assert_eq!(client.info.tls.as_ref().unwrap().local_certificate.as_deref(), Some(&*client_cert.der));
    assert_eq!(rig.count("d.ssl.curves.P-256"), 1);
}

#[tokio::test]
async fn sessions_are_resumed_across_acceptors_that_ask_the_same() {
    for version in [TlsProtocol::TlSv12, TlsProtocol::TlSv13] {
        let rig = Rig::default();
        let ca = Ca::new("ca");
        let cert = ca.issue(&["a.test"]);
        let message = downstream(common(&[&cert], None));
        let (one, two) = (rig.acceptor(&message), rig.acceptor(&message));
        let mut strict = downstream(common(&[&cert], Some(trust(&ca.pem()))));
        strict.require_client_certificate = Some(false);
        let other = rig.acceptor(&strict);
        let mut up = upstream(common(&[], None));
        with_params(up.common_tls_context.as_mut().unwrap(), version, version);
        let connector = rig.connector(&up);
        let (first, _) = settled(&connector, &one, by_name("a.test")).await;
        assert!(!first.resumed);
        let (client, server) = settled(&connector, &two, by_name("a.test")).await;
        assert!(client.resumed && server.resumed, "{version:?}");
        assert_eq!((rig.count("d.ssl.session_reused"), rig.count("u.ssl.session_reused")), (1, 1));
        // One that asks for more does not know the session.
        let (client, _) = settled(&connector, &other, by_name("a.test")).await;
        assert!(!client.resumed, "{version:?}");
    }
}

#[tokio::test]
async fn a_resumed_session_keeps_the_peers_certificate() {
    let rig = Rig::default();
    let ca = Ca::new("ca");
    let cert = ca.issue(&["a.test"]);
    let mut message = downstream(common(&[&cert], Some(trust(&ca.pem()))));
    message.require_client_certificate = Some(true);
    let acceptor = rig.acceptor(&message);
    let connector = rig.connector(&upstream(common(&[&cert], Some(trust(&ca.pem())))));
    for resumed in [false, true] {
        let (client, server) = settled(&connector, &acceptor, by_name("a.test")).await;
        for tls in [client, server] {
            assert_eq!((tls.resumed, tls.peer_validated, tls.peer_certificates.len()), (resumed, true, 1));
        }
    }
}

#[tokio::test]
async fn tickets_may_be_off_or_have_keys() {
    let ca = Ca::new("ca");
    let cert = ca.issue(&["a.test"]);
    let keys = |list: &[u8]| {
        let key = |byte: &u8| rig::inline(&String::from_utf8(vec![*byte; 80]).unwrap()).unwrap();
        SessionTicketKeysType::SessionTicketKeys(pb::TlsSessionTicketKeys { keys: list.iter().map(key).collect() })
    };
    let off = SessionTicketKeysType::DisableStatelessSessionResumption(true);
    for version in [TlsProtocol::TlSv12, TlsProtocol::TlSv13] {
        // Two processes with keys of their configuration share sessions, also while keys are rotated.
        for (one, two, stateful, resumed) in [
            (Some(keys(b"a")), Some(keys(b"a")), true, true),
            (Some(keys(b"a")), Some(keys(b"ba")), true, true),
            (Some(keys(b"a")), Some(keys(b"b")), true, false),
            (None, None, true, false),
            (Some(off.clone()), Some(off.clone()), true, false),
        ] {
            let (a, b) = (Rig::default(), Rig::default());
            let build = |rig: &Rig, kind| {
                let mut message = downstream(common(&[&cert], None));
                message.session_ticket_keys_type = kind;
                message.disable_stateful_session_resumption = !stateful;
                rig.acceptor(&message)
            };
            let (one, two) = (build(&a, one), build(&b, two));
            let mut up = upstream(common(&[], None));
            with_params(up.common_tls_context.as_mut().unwrap(), version, version);
            let connector = a.connector(&up);
            settled(&connector, &one, by_name("a.test")).await;
            assert_eq!(settled(&connector, &two, by_name("a.test")).await.0.resumed, resumed);
        }
        // Without tickets the server keeps sessions itself, unless it may not.
        for (stateful, resumed) in [(true, true), (false, false)] {
            let rig = Rig::default();
            let mut message = downstream(common(&[&cert], None));
            message.session_ticket_keys_type = Some(off.clone());
            message.disable_stateful_session_resumption = !stateful;
            let acceptor = rig.acceptor(&message);
            let mut up = upstream(common(&[], None));
            with_params(up.common_tls_context.as_mut().unwrap(), version, version);
            let connector = rig.connector(&up);
            settled(&connector, &acceptor, by_name("a.test")).await;
            assert_eq!(settled(&connector, &acceptor, by_name("a.test")).await.0.resumed, resumed, "{version:?}");
        }
    }
    let rig = Rig::default();
    let mut message = downstream(common(&[&cert], None));
    let short = pb::TlsSessionTicketKeys { keys: vec![rig::inline("short").unwrap()] };
    message.session_ticket_keys_type = Some(SessionTicketKeysType::SessionTicketKeys(short));
    assert!(rig.refused(&message).contains("expected 80"), "{}", rig.refused(&message));
}

#[tokio::test]
async fn sessions_end_after_their_time_and_clients_may_keep_none() {
    let rig = Rig::default();
    let cert = Ca::new("ca").issue(&["a.test"]);
    let mut up = upstream(common(&[], None));
    up.max_session_keys = Some(0);
    let forgetful = rig.connector(&up);
    let acceptor = rig.acceptor(&downstream(common(&[&cert], None)));
    for _ in 0..2 {
        assert!(!settled(&forgetful, &acceptor, by_name("a.test")).await.0.resumed);
    }
    let mut message = downstream(common(&[&cert], None));
    message.session_timeout = Some(Default::default());
    let acceptor = rig.acceptor(&message);
    let connector = plain(&rig);
    settled(&connector, &acceptor, by_name("a.test")).await;
    tokio::time::sleep(std::time::Duration::from_millis(1100)).await;
    assert!(!settled(&connector, &acceptor, by_name("a.test")).await.0.resumed);
}

#[tokio::test]
async fn secrets_are_logged_for_chosen_addresses() {
    let dir = TempDir::new();
    let rig = Rig::default();
    let cert = Ca::new("ca").issue(&["a.test"]);
    let log = |name: &str, range: Option<&str>| pb::TlsKeyLog {
        path: dir.path().join(name).to_str().unwrap().to_owned(),
        local_address_range: range
            .map(|prefix| CidrRange { address_prefix: prefix.to_owned(), prefix_len: Some(8) })
            .into_iter()
            .collect(),
        remote_address_range: Vec::new(),
    };
    let mut lines = Vec::new();
    for (name, range) in [("all", None), ("here", Some("127.0.0.0")), ("elsewhere", Some("10.0.0.0"))] {
        let mut down = downstream(common(&[&cert], None));
        down.common_tls_context.as_mut().unwrap().key_log = Some(log(name, range));
        let mut up = upstream(common(&[], None));
        up.common_tls_context.as_mut().unwrap().key_log = Some(log(name, range));
        settled(&rig.connector(&up), &rig.acceptor(&down), ConnectOptions::default()).await;
        let text = std::fs::read_to_string(dir.path().join(name)).unwrap();
        assert!(text.lines().all(|line| line.split(' ').count() == 3));
        lines.push(text.lines().count());
    }
    // Five secrets, from each side.
    assert_eq!(lines, [10, 10, 0]);
}

#[tokio::test]
async fn certificates_follow_their_files() {
    let dir = TempDir::new();
    let rig = Rig::default();
    let ca = Ca::new("ca");
    let (old, new, odd) = (ca.issue(&["old.test"]), ca.issue(&["new.test"]), ca.issue(&["odd.test"]));
    let put = |cert: &Cert, key: &Cert| (dir.write("chain.pem", &cert.chain), dir.write("key.pem", &key.key));
    let (chain, key) = put(&old, &old);
    let certificate = pb::TlsCertificate {
        certificate_chain: rig::file(&chain),
        private_key: rig::file(&key),
        ..pb::TlsCertificate::default()
    };
    let context = pb::CommonTlsContext { tls_certificates: vec![certificate], ..pb::CommonTlsContext::default() };
    let acceptor = rig.acceptor(&downstream(context));
    let connector = plain(&rig);
    let shown = async || {
        let (client, _) = shake(&connector, &acceptor, ConnectOptions::default()).await;
        client.unwrap().info.tls.as_ref().unwrap().peer_certificates[0].clone()
    };
    let store = rig.env.store().clone();
    assert_eq!(shown().await, old.der);
    assert_eq!(store.poll_files(), 0);
    // A certificate whose key has not arrived yet changes nothing, and is counted once.
    put(&odd, &old);
    assert_eq!((store.poll_files(), store.poll_files()), (0, 0));
    assert_eq!(shown().await, old.der);
    assert_eq!(rig.count("d.server_ssl_socket_factory.ssl_context_update_rejected"), 1);
    put(&new, &new);
    assert_eq!(store.poll_files(), 1);
    assert_eq!(shown().await, new.der);
    assert_eq!(rig.count("d.server_ssl_socket_factory.ssl_context_update_by_sds"), 1);
    assert!(rig.store.gauge_value("d.ssl.certificate.chain.expiration_unix_time_seconds").unwrap() > 0);

    let certs = store.describe();
    let one = &certs["certificates"][0]["cert_chain"][0];
    assert_eq!(one["path"], chain.to_str().unwrap());
    assert_eq!(one["subject_alt_names"][0]["dns"], "new.test");
    assert!(one["expiration_time"].as_str().unwrap().ends_with('Z'));
    assert!(store.days_until_first_expiring().unwrap() > 365);
    drop(acceptor);
    assert_eq!(store.describe()["certificates"], serde_json::json!([]));
}

#[tokio::test]
async fn static_secrets_are_found_by_name() {
    let ca = Ca::new("ca");
    let cert = ca.issue(&["a.test"]);
    let secret = |name: &str, kind| pb::Secret { name: name.into(), r#type: Some(kind) };
    let rig = Rig::with_secrets(&[
        secret("cert", pb::secret::Type::TlsCertificate(rig::tls_certificate(&cert))),
        secret("ca", pb::secret::Type::ValidationContext(trust(&ca.pem()))),
    ]);
    let named = |name: &str| pb::SdsSecretConfig { name: name.into(), sds_config: None };
    let context = |cert: &str, ca: &str| pb::CommonTlsContext {
        tls_certificate_sds_secret_configs: vec![named(cert)],
        validation_context_type: Some(pb::common_tls_context::ValidationContextType::ValidationContextSdsSecretConfig(
            named(ca),
        )),
        ..pb::CommonTlsContext::default()
    };
    let acceptor = rig.acceptor(&downstream(context("cert", "ca")));
    let connector = rig.connector(&upstream(context("cert", "ca")));
    let (client, server) = settled(&connector, &acceptor, ConnectOptions::default()).await;
    assert!(client.peer_validated && server.peer_validated);
    assert!(rig.refused(&downstream(context("x", "ca"))).contains("Unknown static secret: x"));
    assert!(rig.refused(&downstream(context("ca", "cert"))).contains("is not a tls_certificate"));
}

/// A combined context is its default part with the named one merged into it.
#[tokio::test]
async fn a_combined_context_holds_both_parts() {
    let (ca, stranger) = (Ca::new("ca"), Ca::new("stranger"));
    let cert = ca.issue(&["a.test"]);
    let secret = |name: &str, ca: &Ca| pb::Secret {
        name: name.into(),
        r#type: Some(pb::secret::Type::ValidationContext(trust(&ca.pem()))),
    };
    let rig = Rig::with_secrets(&[secret("ca", &ca), secret("stranger", &stranger)]);
    let combined = |name: &str, secret: &str| {
        let matcher = StringMatcher {
            match_pattern: Some(string_matcher::MatchPattern::Exact(name.into())),
            ..StringMatcher::default()
        };
        let name = pb::SubjectAltNameMatcher {
            san_type: pb::subject_alt_name_matcher::SanType::Dns as i32,
            matcher: Some(matcher),
            oid: String::new(),
        };
        // Names without an authority are refused: it comes from the secret.
        let default = pb::CertificateValidationContext {
            match_typed_subject_alt_names: vec![name],
            ..pb::CertificateValidationContext::default()
        };
        let combined = pb::common_tls_context::CombinedCertificateValidationContext {
            default_validation_context: Some(default),
            validation_context_sds_secret_config: Some(pb::SdsSecretConfig { name: secret.into(), sds_config: None }),
            ..Default::default()
        };
        upstream(pb::CommonTlsContext {
            validation_context_type: Some(pb::common_tls_context::ValidationContextType::CombinedValidationContext(
                combined,
            )),
            ..pb::CommonTlsContext::default()
        })
    };
    let acceptor = rig.acceptor(&downstream(common(&[&cert], None)));
    for (name, secret, holds) in [("a.test", "ca", true), ("b.test", "ca", false), ("a.test", "stranger", false)] {
        let connector = rig.connector(&combined(name, secret));
        let (client, _) = shake(&connector, &acceptor, ConnectOptions::default()).await;
        assert_eq!(client.is_ok(), holds, "{name}, {secret}");
    }
    assert!(rig.refused_upstream(&combined("a.test", "x")).contains("Unknown static secret: x"));
}

struct Der<'a>(&'a [u8]);

impl<'a> Der<'a> {
    /// The next element's tag and content.
    fn next(&mut self) -> (u8, &'a [u8]) {
        let (tag, first, rest) = (self.0[0], usize::from(self.0[1]), &self.0[2..]);
        let wide = if first & 0x80 == 0 { 0 } else { first & 0x7f };
        let length = rest[..wide].iter().fold(0, |sum, byte| sum << 8 | usize::from(*byte));
        let length = if wide == 0 { first } else { length };
        self.0 = &rest[wide + length..];
        (tag, &rest[wide..wide + length])
    }
}

#[tokio::test]
async fn keys_come_in_three_forms() {
    // PKCS#8 is what every other test uses; the older forms are what it wraps.
    let rig = Rig::default();
    for (kind, label) in
        [(&rcgen::PKCS_ECDSA_P256_SHA256, "EC PRIVATE KEY"), (&rcgen::PKCS_RSA_SHA256, "RSA PRIVATE KEY")]
    {
        let key = rcgen::KeyPair::generate_for(kind).unwrap();
        let chain = rcgen::CertificateParams::new(vec!["a.test".to_owned()]).unwrap().self_signed(&key).unwrap().pem();
        let pkcs8 = key.serialize_der();
        let mut outer = Der(Der(&pkcs8).next().1);
        let inner = [outer.next(), outer.next(), outer.next()][2].1;
        let key = base64::engine::general_purpose::STANDARD.encode(inner);
        let key = format!("-----BEGIN {label}-----\n{key}\n-----END {label}-----\n");
        let cert = Cert { der: Vec::new(), chain, key };
        let acceptor = rig.acceptor(&downstream(common(&[&cert], None)));
        settled(&plain(&rig), &acceptor, ConnectOptions::default()).await;
    }
}
