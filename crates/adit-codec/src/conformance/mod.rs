//! What every codec must do, as tests over the traits alone; and [`memory`], a codec without a wire that passes them.
//!
//! A codec's crate implements [`Harness`] and calls [`suite!`](crate::conformance_suite) in a test file: one test for each
//! case. What a protocol cannot carry is said in [`Abilities`], never by leaving a case out.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "test support")]

pub mod memory;
pub mod messages;
pub mod peers;
pub mod tunnels;

use std::future::Future;
use std::pin::Pin;
use std::time::Duration;

use crate::{ClientParts, ServerConn};

/// Both sides of one connection, connected with each other.
pub struct Pair {
    /// The serving side.
    pub server: Box<dyn ServerConn>,
    /// The requesting side.
    pub client: ClientParts,
}

/// What a protocol can carry.
#[derive(Debug, Clone, Copy)]
#[expect(clippy::struct_excessive_bools, reason = "independent facts")]
pub struct Abilities {
    /// Trailers in both directions.
    pub trailers: bool,
    /// Streams beside each other.
    pub parallel: bool,
    /// Reset codes arrive as they were sent; otherwise only that there was a reset.
    pub codes: bool,
    /// A receiver that stops is noticed by the sender without the connection's end.
    pub stops: bool,
    /// A refused upgrade or CONNECT leaves the connection usable.
    pub survives_refusal: bool,
    /// The connection goes on after a stream was reset.
    pub survives_reset: bool,
    /// Bytes that sender, wire and receiver may hold together while the receiver does not read.
    pub in_flight: usize,
}

/// Makes connections to test.
pub trait Harness: Sync {
    /// What the protocol can carry.
    fn abilities(&self) -> Abilities;

    /// A fresh connection.
    fn pair(&self) -> Pin<Box<dyn Future<Output = Pair> + Send + '_>>;
}

/// Runs one case; a case that hangs fails.
pub async fn run(name: &str, case: impl Future<Output = ()>) {
    assert!(tokio::time::timeout(Duration::from_secs(60), case).await.is_ok(), "{name} did not end");
}

/// One test for each case of the suite, over the harness that the expression gives.
#[macro_export]
macro_rules! conformance_suite {
    ($harness:expr) => {
        $crate::conformance_suite!(@ $harness, messages:
            get_without_a_body, post_with_a_length, post_without_a_length, head_has_no_body, interim_heads_come_first,
            trailers_in_both_directions, early_answer, full_duplex, an_end_stays_an_end, empty_data_does_nothing,
            many_in_sequence, many_in_parallel, big_bodies_arrive_intact, a_slow_reader_bounds_the_writer,
            an_unfinished_answer_is_a_reset, an_unfinished_request_is_a_reset, a_responder_dropped_is_a_reset,
            a_reset_answer_carries_its_code, a_reset_responder_carries_its_code, a_reset_request_carries_its_code,
            a_receiver_that_stops_is_noticed, cancelled_before_the_answer, abort_resets_what_lives,
            drain_finishes_what_lives, a_drained_client_opens_nothing, a_stream_outlives_its_connection_handle,
        );
        $crate::conformance_suite!(@ $harness, tunnels:
            an_accepted_upgrade_is_a_tunnel, an_accepted_connect_is_a_tunnel, a_refused_upgrade_is_an_answer,
            a_refused_connect_is_an_answer, the_client_ends_first, the_server_ends_first, payload_arrives_intact,
            a_tunnel_reset_by_the_client, a_tunnel_reset_by_the_server, a_tunnel_half_dropped_is_a_reset,
            drain_spares_a_tunnel, interim_heads_before_acceptance,
        );
    };
    (@ $harness:expr, $group:ident: $($case:ident),* $(,)?) => {
        $(
            #[tokio::test]
            async fn $case() {
                let harness = $harness;
                $crate::conformance::run(stringify!($case), $crate::conformance::$group::$case(&harness)).await;
            }
        )*
    };
}
