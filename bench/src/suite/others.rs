//! Configurations of the peers that have their own language.

use std::path::Path;

use crate::spec::Transport;
use crate::suite::plan::{Role, Scenario};
use crate::suite::proxies::Ports;

/// HAProxy's configuration.
pub fn haproxy(scenario: &Scenario, hop: usize, ports: &Ports, splice: bool) -> String {
    let (listen, upstream) = ends(scenario, hop, ports);
    let (h2_down, h2_up) = versions(scenario, hop);
    let mode = if scenario.role == Role::Tcp { "tcp" } else { "http" };
    let splice = if splice { "  option splice-auto\n" } else { "" };
    let reuse = if mode == "http" { "  option http-keep-alive\n  http-reuse always\n" } else { "" };
    let proto = |h2: bool| if h2 { " proto h2" } else { "" };
    let websocket = if h2_up && scenario.role == Role::UpgradeTwoHops { " ws h2" } else { "" };
    format!(
        "global\n  nbthread 1\n  maxconn 6000\n  maxpipes 1000\n  tune.h2.max-concurrent-streams 1000\n\
         defaults\n  timeout connect 5s\n  timeout client 1h\n  timeout server 1h\n  timeout tunnel 1h\n\
         listen bench\n  mode {mode}\n{splice}{reuse}  bind 127.0.0.1:{listen} backlog 4096{}\n  \
         server one 127.0.0.1:{upstream}{}{websocket}\n",
        proto(h2_down),
        proto(h2_up)
    )
}

/// nginx's configuration.
pub fn nginx(scenario: &Scenario, hop: usize, ports: &Ports, folder: &Path) -> String {
    let (listen, upstream) = ends(scenario, hop, ports);
    let folder = folder.display();
    let module = "/usr/lib/nginx/modules/ngx_stream_module.so";
    let load = if scenario.role == Role::Tcp && Path::new(module).exists() {
        format!("load_module {module};\n")
    } else {
        String::new()
    };
    let head = format!(
        "{load}user root;\nworker_processes 1;\nworker_rlimit_nofile 18000;\ndaemon off;\npid {folder}/nginx.pid;\nerror_log stderr crit;\n\
         events {{ worker_connections 16000; }}\n"
    );
    if scenario.role == Role::Tcp {
        return format!(
            "{head}stream {{\n  server {{\n    listen 127.0.0.1:{listen} backlog=4096;\n    \
             proxy_pass 127.0.0.1:{upstream};\n    proxy_timeout 1h;\n  }}\n}}\n"
        );
    }
    let h2 = if versions(scenario, hop).0 { " http2" } else { "" };
    let upgrade = if scenario.role == Role::Upgrade {
        "      proxy_set_header Upgrade $http_upgrade;\n      proxy_set_header Connection \"upgrade\";\n      \
         proxy_read_timeout 1h;\n      proxy_send_timeout 1h;\n"
    } else {
        "      proxy_set_header Connection \"\";\n"
    };
    let paths: String = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
        .iter()
        .map(|name| format!("  {name}_temp_path {folder}/{name};\n"))
        .collect();
    format!(
        "{head}http {{\n{paths}  access_log off;\n  keepalive_requests 1000000000;\n  \
         upstream one {{ server 127.0.0.1:{upstream}; keepalive 256; keepalive_requests 1000000000; }}\n  \
         server {{\n    listen 127.0.0.1:{listen}{h2} backlog=4096;\n    \
         http2_max_concurrent_streams 1000;\n    location / {{\n      proxy_pass http://one;\n      \
         proxy_http_version 1.1;\n{upgrade}    }}\n  }}\n}}\n"
    )
}

/// nghttpx's configuration file.
pub fn nghttpx(scenario: &Scenario, hop: usize, ports: &Ports) -> String {
    let (listen, upstream) = ends(scenario, hop, ports);
    let proto = if versions(scenario, hop).1 { "h2" } else { "http/1.1" };
    format!(
        "frontend=127.0.0.1,{listen};no-tls\nbackend=127.0.0.1,{upstream};;proto={proto}\nworkers=1\n\
         rlimit-nofile=18000\nbacklog=4096\naccesslog-file=/dev/null\nerrorlog-file=/dev/stderr\nlog-level=ERROR\n\
         frontend-http2-max-concurrent-streams=1000\nbackend-http2-max-concurrent-streams=1000\n\
         frontend-read-timeout=1h\nfrontend-write-timeout=1h\nbackend-read-timeout=1h\nbackend-write-timeout=1h\n\
         stream-read-timeout=1h\nstream-write-timeout=1h\nno-via=yes\nno-server-rewrite=yes\nno-ocsp=yes\n"
    )
}

/// Where a hop listens, and where it connects.
fn ends(scenario: &Scenario, hop: usize, ports: &Ports) -> (u16, u16) {
    match (scenario.hops(), hop) {
        (1, _) => (ports.listen, ports.origin),
        (_, 0) => (ports.listen, ports.between),
        _ => (ports.between, ports.origin),
    }
}

/// Whether a hop speaks HTTP/2 downstream, and upstream.
fn versions(scenario: &Scenario, hop: usize) -> (bool, bool) {
    let h2_client = matches!(scenario.transport, Transport::H2load | Transport::H2Connect | Transport::H2Extended);
    match scenario.role {
        Role::Requests { h2_upstream } => (h2_client, h2_upstream),
        Role::UpgradeTwoHops => (hop == 1, hop == 0),
        _ => (h2_client, false),
    }
}
