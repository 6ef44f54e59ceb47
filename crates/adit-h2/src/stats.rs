//! What a codec counts, under Envoy's names below `http2.`.

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

            /// Envoy's name, below `http2.`.
            pub fn name(self) -> &'static str {
                match self { $(Self::$variant => $name,)* }
            }
        }
    };
}

names! {
    /// An event.
    Counter {
        /// RST_STREAM received.
        RxReset = "rx_reset",
        /// RST_STREAM sent.
        TxReset = "tx_reset",
        /// GOAWAY sent.
        GoawaySent = "goaway_sent",
        /// A PING was not answered in time.
        KeepaliveTimeout = "keepalive_timeout",
        /// A message broke RFC 9113 section 8.
        RxMessagingError = "rx_messaging_error",
        /// More header fields than `max_headers_count`.
        HeaderOverflow = "header_overflow",
        /// Trailers received.
        Trailers = "trailers",
        /// The peer refused a stream of ours.
        StreamRefusedErrors = "stream_refused_errors",
        /// Too many empty frames.
        InboundEmptyFramesFlood = "inbound_empty_frames_flood",
        /// Too many PRIORITY frames.
        InboundPriorityFramesFlood = "inbound_priority_frames_flood",
        /// Too many WINDOW_UPDATE frames.
        InboundWindowUpdateFramesFlood = "inbound_window_update_frames_flood",
        /// Too many unanswered PING or SETTINGS frames.
        OutboundControlFlood = "outbound_control_flood",
        /// Too many resets, received or provoked.
        ResetFlood = "reset_flood",
    }
}

names! {
    /// A level.
    Gauge {
        /// Streams open now.
        StreamsActive = "streams_active",
        /// Bytes of DATA queued for the socket.
        PendingSendBytes = "pending_send_bytes",
    }
}
