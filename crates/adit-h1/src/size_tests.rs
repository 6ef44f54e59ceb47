//! What a connection costs while nothing happens on it: these structs, and no buffer.

use std::mem::size_of;

use crate::client::Client;
use crate::recv::Recv;
use crate::send::Sender;
use crate::server::Server;
use crate::slot::Slot;

#[test]
fn an_idle_connection_stays_small() {
    assert!(size_of::<Server>() + size_of::<Slot>() <= 500, "{} + {}", size_of::<Server>(), size_of::<Slot>());
    assert!(size_of::<Client>() + size_of::<Slot>() <= 450, "{} + {}", size_of::<Client>(), size_of::<Slot>());
}

#[test]
fn the_halves_of_a_tunnel_stay_small() {
    assert!(size_of::<Recv>() + size_of::<Sender>() <= 400, "{} + {}", size_of::<Recv>(), size_of::<Sender>());
}
