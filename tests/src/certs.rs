//! Certificates by openssl: a CA and what it signs.

use std::path::{Path, PathBuf};
use std::process::Command;

/// A CA in a folder of its own, with one certificate for `localhost`, `a.example` and 127.0.0.1.
pub struct Certs {
    folder: PathBuf,
}

impl Certs {
    /// Makes both.
    pub fn new() -> Self {
        use std::sync::atomic::{AtomicU32, Ordering};
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let name = format!("adit-certs-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let folder = std::env::temp_dir().join(name);
        std::fs::create_dir_all(&folder).expect("a folder");
        let certs = Self { folder };
        certs.openssl("req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -keyout ca.key -out ca.pem -days 2 -subj /CN=ca");
        certs.issue("server", "DNS:localhost,DNS:a.example,IP:127.0.0.1");
        certs.issue("client", "DNS:client.example");
        certs
    }

    /// Signs a certificate `<name>.pem` with its key `<name>.key`.
    pub fn issue(&self, name: &str, names: &str) {
        std::fs::write(self.folder.join("ext"), format!("subjectAltName={names}\n")).expect("a file");
        self.openssl(&format!(
            "req -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -keyout {name}.key -out {name}.csr -subj /CN={name}"
        ));
        self.openssl(&format!(
            "x509 -req -in {name}.csr -CA ca.pem -CAkey ca.key -CAcreateserial -out {name}.pem -days 2 -extfile ext"
        ));
    }

    fn openssl(&self, args: &str) {
        let out = Command::new("openssl").current_dir(&self.folder).args(args.split(' ')).output().expect("openssl");
        assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    }

    /// The path of a file.
    pub fn path(&self, file: &str) -> String {
        self.folder.join(file).display().to_string()
    }

    /// The folder.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// `common_tls_context` with the server's certificate and these protocols, in flow style.
    pub fn server_context(&self, alpn: &str) -> String {
        format!(
            "common_tls_context: {{ alpn_protocols: [{alpn}], tls_certificates: [{{ certificate_chain: {{ filename: {} }}, \
             private_key: {{ filename: {} }} }}] }}",
            self.path("server.pem"),
            self.path("server.key")
        )
    }

    /// A listener's `transport_socket`, at four spaces, for its filter chain.
    pub fn downstream(&self, alpn: &str, more: &str) -> String {
        format!(
            "transport_socket: {{ name: tls, typed_config: {{ \"@type\": \
             type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext, {}{more} }} }}\n",
            self.server_context(alpn)
        )
    }

    /// A cluster's `transport_socket` that validates by the CA.
    pub fn upstream(&self, sni: &str, alpn: &str, more: &str) -> String {
        format!(
            "transport_socket: {{ name: tls, typed_config: {{ \"@type\": \
             type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext, sni: {sni}, \
             common_tls_context: {{ alpn_protocols: [{alpn}], validation_context: {{ trusted_ca: {{ filename: {} }} }} }}{more} }} }}\n",
            self.path("ca.pem")
        )
    }
}

impl Default for Certs {
    fn default() -> Self {
        Self::new()
    }
}

impl Drop for Certs {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}
