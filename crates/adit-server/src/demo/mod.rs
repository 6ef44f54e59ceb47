//! The demonstration: what a start without arguments runs. Loopback only.

mod origin;

pub(crate) use origin::serve as serve_origin;

/// Where the demonstration's origin listens; the configuration names it.
pub(crate) const ORIGIN: &str = "127.0.0.1:10080";

/// The embedded configuration.
pub(crate) const CONFIG: &str = include_str!("demo.yaml");

/// What is where, and a line to try for each.
pub(crate) const GUIDE: &str = "\
adit is running its demonstration on loopback (no argument was given; `adit -c FILE` runs yours).

  127.0.0.1:10000  WebSocket and HTTP, proxied to the origin
      curl -sN --http1.1 --max-time 2 -H 'Connection: Upgrade' -H 'Upgrade: websocket' -H 'Sec-WebSocket-Version: 13' -H 'Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==' http://127.0.0.1:10000/ws --output -
  127.0.0.1:10001  CONNECT, terminated here: the payload goes to the origin as TCP
      curl -sp -x http://127.0.0.1:10001 http://origin.example/
  127.0.0.1:10002  TCP, carried in a CONNECT to port 10001
      curl -s http://127.0.0.1:10002/
  127.0.0.1:10080  the origin itself
      curl -s http://127.0.0.1:10080/
  127.0.0.1:9901   the admin interface
      curl -s 'http://127.0.0.1:9901/stats?filter=upgrades_total'

Ctrl-C ends it.
";
