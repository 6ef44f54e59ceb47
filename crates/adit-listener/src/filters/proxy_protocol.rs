//! Takes the addresses of a connection from a PROXY protocol header (`envoy.filters.listener.proxy_protocol`).

use std::net::SocketAddr;
use std::sync::Arc;

use adit_config::proto::envoy::config::core::v3::proxy_protocol_config::Version as VersionMessage;
use adit_config::proto::envoy::extensions::filters::listener::proxy_protocol::v3 as pb;
use adit_config::{Diagnostic, Path};
use adit_filter::{BoxFuture, ListenerFilter, ListenerFilterVerdict};
use adit_io::{Address, Io, Value};
use adit_stats::{Counter, Scope};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use pb::proxy_protocol::TlvLocation;
use pb::proxy_protocol::key_value_pair::ValueStringEncoding;

use super::proxy_header::{Command, Progress, ProxyHeader, Tlv, Version, parse_proxy_header};

/// The longest header: 16 bytes, and what 16 bits can count.
const MAX_HEADER: usize = 16 + 65_535;
/// `metadata_namespace` where it is absent.
const NAMESPACE: &str = "envoy.filters.listener.proxy_protocol";

/// Reads a PROXY protocol header, takes it out of the stream, and gives the connection the addresses in it.
pub struct ProxyProtocol {
    optional: bool,
    disallowed: Vec<Version>,
    rules: Vec<Rule>,
    errors: Counter,
    not_found_allowed: Counter,
    not_found_disallowed: Counter,
    v1: VersionStats,
    v2: VersionStats,
}

/// What to do with a TLV: keep its value as dynamic metadata.
struct Rule {
    kind: u8,
    namespace: Box<str>,
    key: Box<str>,
    base64: bool,
}

struct VersionStats {
    found: Counter,
    disallowed: Counter,
    error: Counter,
}

impl VersionStats {
    fn new(scope: &Scope, version: &str) -> Self {
        let scope =
            scope.tagged(&format!("versions.{version}"), "versions", &[("envoy_proxy_protocol_version", version)]);
        Self { found: scope.counter("found"), disallowed: scope.counter("disallowed"), error: scope.counter("error") }
    }
}

impl ProxyProtocol {
    /// From its message. Counts at `proxy_proto.` below `scope`.
    pub fn from_proto(message: &pb::ProxyProtocol, scope: &Scope, path: &Path) -> Result<Self, Diagnostic> {
        if message.pass_through_tlvs.is_some() {
            return Err(Diagnostic::error(path.field("pass_through_tlvs"), "pass_through_tlvs is not supported"));
        }
        if message.tlv_location() == TlvLocation::FilterState {
            return Err(Diagnostic::error(path.field("tlv_location"), "FILTER_STATE is not supported"));
        }
        let rules = message.rules.iter().enumerate();
        let disallowed = message.disallowed_versions().map(|version| match version {
            VersionMessage::V1 => Version::V1,
            VersionMessage::V2 => Version::V2,
        });
        // Its older name has no prefix.
        let errors = scope.counter("downstream_cx_proxy_proto_error");
        let scope = match message.stat_prefix.as_str() {
            "" => scope.scope("proxy_proto"),
            prefix => scope.tagged(
                &format!("proxy_proto.{prefix}"),
                "proxy_proto",
                &[("envoy_proxy_protocol_prefix", prefix)],
            ),
        };
        Ok(Self {
            optional: message.allow_requests_without_proxy_protocol,
            disallowed: disallowed.collect(),
            rules: rules
                .filter_map(|(index, rule)| Rule::from_proto(rule, &path.item("rules", index)).transpose())
                .collect::<Result<_, _>>()?,
            errors,
            not_found_allowed: scope.counter("not_found_allowed"),
            not_found_disallowed: scope.counter("not_found_disallowed"),
            v1: VersionStats::new(&scope, "v1"),
            v2: VersionStats::new(&scope, "v2"),
        })
    }

    fn stats(&self, version: Version) -> &VersionStats {
        match version {
            Version::V1 => &self.v1,
            Version::V2 => &self.v2,
        }
    }

    async fn read(&self, io: &mut Io) -> ListenerFilterVerdict {
        let mut need = 1;
        loop {
            let Ok(ahead) = io.fill(need, MAX_HEADER).await else { return ListenerFilterVerdict::RemoteClose };
            let short = ahead.len() < need;
            match parse_proxy_header(ahead) {
                Ok(Progress::Incomplete { version: Some(version), .. }) if self.disallowed.contains(&version) => {
                    return self.refuse(version);
                }
                // The peer ended before a header was whole.
                Ok(Progress::Incomplete { version, .. }) if short => {
                    return self.cut_short(version, ahead.is_empty());
                }
                Ok(Progress::Incomplete { need: more, .. }) => need = more,
                Ok(Progress::Absent) => return self.absent(),
                Ok(Progress::Complete { header, .. }) if self.disallowed.contains(&header.version) => {
                    return self.refuse(header.version);
                }
                Err(error) if self.disallowed.contains(&error.version) => return self.refuse(error.version),
                Err(error) => {
                    tracing::debug!(%error, remote = %io.info.remote, "closing connection");
                    self.stats(error.version).error.inc();
                    self.errors.inc();
                    return ListenerFilterVerdict::Error;
                }
                Ok(Progress::Complete { len, .. }) => {
                    let bytes = io.take_ahead(len);
                    if let Ok(Progress::Complete { header, .. }) = parse_proxy_header(&bytes) {
                        self.stats(header.version).found.inc();
                        self.apply(&header, io);
                    }
                    return ListenerFilterVerdict::Continue;
                }
            }
        }
    }

    fn absent(&self) -> ListenerFilterVerdict {
        if self.optional {
            self.not_found_allowed.inc();
            ListenerFilterVerdict::Continue
        } else {
            self.not_found_disallowed.inc();
            self.errors.inc();
            ListenerFilterVerdict::Error
        }
    }

    /// A version that is not allowed: what is optional is then not looked for, what is required is refused.
    fn refuse(&self, version: Version) -> ListenerFilterVerdict {
        if self.optional {
            return self.absent();
        }
        self.stats(version).disallowed.inc();
        ListenerFilterVerdict::Error
    }

    fn cut_short(&self, version: Option<Version>, empty: bool) -> ListenerFilterVerdict {
        match version {
            _ if empty => ListenerFilterVerdict::RemoteClose,
            Some(version) => {
                self.stats(version).error.inc();
                ListenerFilterVerdict::RemoteClose
            }
            None if self.optional => self.absent(),
            None => ListenerFilterVerdict::RemoteClose,
        }
    }

    fn apply(&self, header: &ProxyHeader<'_>, io: &mut Io) {
        if let (Command::Proxy, Some((source, destination))) = (header.command, header.addresses) {
            let info = Arc::make_mut(&mut io.info);
            let direct = std::mem::replace(&mut info.remote, Address::Ip(canonical(source)));
            info.direct_remote.get_or_insert(Box::new(direct));
            info.local = Address::Ip(canonical(destination));
        }
        for Tlv { kind, value } in &header.tlvs {
            for rule in self.rules.iter().filter(|rule| rule.kind == *kind) {
                io.metadata.merge(&rule.namespace, [(rule.key.clone(), Value::String(rule.text(value).into()))]);
            }
        }
    }
}

fn canonical(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip().to_canonical(), address.port())
}

impl Rule {
    /// A rule without `on_tlv_present` does nothing.
    fn from_proto(message: &pb::proxy_protocol::Rule, path: &Path) -> Result<Option<Self>, Diagnostic> {
        let kind = u8::try_from(message.tlv_type)
            .map_err(|_| Diagnostic::error(path.field("tlv_type"), "value must be less than 256"))?;
        let Some(pair) = &message.on_tlv_present else { return Ok(None) };
        let namespace = if pair.metadata_namespace.is_empty() { NAMESPACE } else { &pair.metadata_namespace };
        Ok(Some(Self {
            kind,
            namespace: namespace.into(),
            key: pair.key.as_str().into(),
            base64: pair.value_string_encoding() == ValueStringEncoding::Base64,
        }))
    }

    fn text(&self, value: &[u8]) -> String {
        if self.base64 {
            return STANDARD.encode(value);
        }
        // Envoy writes `!` for each octet that is no UTF-8.
        let mut text = String::with_capacity(value.len());
        for chunk in value.utf8_chunks() {
            text.push_str(chunk.valid());
            text.extend(chunk.invalid().iter().map(|_| '!'));
        }
        text
    }
}

impl ListenerFilter for ProxyProtocol {
    fn accept<'a>(&'a self, io: &'a mut Io) -> BoxFuture<'a, ListenerFilterVerdict> {
        Box::pin(self.read(io))
    }
}
