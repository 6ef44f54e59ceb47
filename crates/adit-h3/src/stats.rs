//! What a codec counts, under Envoy's names below `http3.` where Envoy has one.

/// Receives the codec's events; must be cheap and must not call back.
pub trait CodecStats: Send + Sync {
    /// One event.
    fn count(&self, counter: Counter);
    /// A gauge moved.
    fn gauge(&self, gauge: Gauge, delta: i64);
}

macro_rules! names {
    ($(#[$meta:meta])* $kind:ident { $($(#[$doc:meta])* $variant:ident = $name:literal,)* }) => {
        $(#[$meta])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum $kind { $($(#[$doc])* $variant,)* }

        impl $kind {
            /// Every one, for registering them all at once.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)*];

            /// The name below `http3.`.
            pub fn name(self) -> &'static str {
                match self { $(Self::$variant => $name,)* }
            }
        }
    };
}

names! {
    /// An event.
    Counter {
        /// RESET_STREAM or STOP_SENDING received.
        RxReset = "rx_reset",
        /// RESET_STREAM sent.
        TxReset = "tx_reset",
        /// A connection of QUIC version 1.
        QuicVersionRfcV1 = "quic_version_rfc_v1",
        /// GOAWAY sent.
        GoawaySent = "goaway_sent",
        /// A message broke RFC 9114 section 4.
        RxMessagingError = "rx_messaging_error",
        /// A header section above `max_request_headers_kb` or `max_headers_count`.
        HeaderOverflow = "header_overflow",
        /// Trailers received.
        Trailers = "trailers",
        /// A datagram for which there was no room, or no stream.
        RxDatagramDropped = "rx_datagram_dropped",
    }
}

names! {
    /// A level.
    Gauge {
        /// Streams open now.
        StreamsActive = "streams_active",
    }
}
