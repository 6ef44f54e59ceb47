//! Envoy's response flags, kept in the order in which they were set.

use std::fmt;

macro_rules! flags {
    ($($(#[$doc:meta])* $name:ident = $code:literal, $short:literal, $long:literal;)*) => {
        /// One response flag (`%RESPONSE_FLAGS%`).
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        #[repr(u8)]
        pub enum ResponseFlag { $($(#[$doc])* $name = $code,)* }

        impl ResponseFlag {
            /// Every flag.
            pub const ALL: &'static [Self] = &[$(Self::$name,)*];

            /// As `%RESPONSE_FLAGS%` prints it.
            pub fn short(self) -> &'static str {
                match self { $(Self::$name => $short,)* }
            }

            /// As `%RESPONSE_FLAGS_LONG%` prints it.
            pub fn long(self) -> &'static str {
                match self { $(Self::$name => $long,)* }
            }
        }
    };
}

flags! {
    /// Local service failed its health check.
    FailedLocalHealthCheck = 1, "LH", "FailedLocalHealthCheck";
    /// No healthy upstream host.
    NoHealthyUpstream = 2, "UH", "NoHealthyUpstream";
    /// The upstream did not answer in time.
    UpstreamRequestTimeout = 3, "UT", "UpstreamRequestTimeout";
    /// We reset the stream.
    LocalReset = 4, "LR", "LocalReset";
    /// The upstream reset the stream.
    UpstreamRemoteReset = 5, "UR", "UpstreamRemoteReset";
    /// The upstream connection could not be made.
    UpstreamConnectionFailure = 6, "UF", "UpstreamConnectionFailure";
    /// The upstream connection ended under the stream.
    UpstreamConnectionTermination = 7, "UC", "UpstreamConnectionTermination";
    /// A circuit breaker refused.
    UpstreamOverflow = 8, "UO", "UpstreamOverflow";
    /// No route, or no filter chain, matched.
    NoRouteFound = 9, "NR", "NoRouteFound";
    /// A delay was injected.
    DelayInjected = 10, "DI", "DelayInjected";
    /// A fault was injected.
    FaultInjected = 11, "FI", "FaultInjected";
    /// Rate limited.
    RateLimited = 12, "RL", "RateLimited";
    /// External authorisation refused.
    UnauthorizedExternalService = 13, "UAEX", "UnauthorizedExternalService";
    /// The rate-limit service failed.
    RateLimitServiceError = 14, "RLSE", "RateLimitServiceError";
    /// The downstream connection ended.
    DownstreamConnectionTermination = 15, "DC", "DownstreamConnectionTermination";
    /// Every allowed attempt failed.
    UpstreamRetryLimitExceeded = 16, "URX", "UpstreamRetryLimitExceeded";
    /// The stream was idle too long.
    StreamIdleTimeout = 17, "SI", "StreamIdleTimeout";
    /// A request header that adit checks was invalid.
    InvalidEnvoyRequestHeaders = 18, "IH", "InvalidEnvoyRequestHeaders";
    /// The client broke the protocol.
    DownstreamProtocolError = 19, "DPE", "DownstreamProtocolError";
    /// The upstream stream lived too long.
    UpstreamMaxStreamDurationReached = 20, "UMSDR", "UpstreamMaxStreamDurationReached";
    /// Served from a cache.
    ResponseFromCacheFilter = 21, "RFCF", "ResponseFromCacheFilter";
    /// A filter had no configuration.
    NoFilterConfigFound = 22, "NFCF", "NoFilterConfigFound";
    /// The connection lived too long.
    DurationTimeout = 23, "DT", "DurationTimeout";
    /// The upstream broke the protocol.
    UpstreamProtocolError = 24, "UPE", "UpstreamProtocolError";
    /// The cluster is not known.
    NoClusterFound = 25, "NC", "NoClusterFound";
    /// The overload manager refused.
    OverloadManager = 26, "OM", "OverloadManagerTerminated";
    /// A name did not resolve.
    DnsResolutionFailed = 27, "DF", "DnsResolutionFailed";
    /// Dropped by load-assignment policy.
    DropOverLoad = 28, "DO", "DropOverload";
    /// The client reset the stream.
    DownstreamRemoteReset = 29, "DR", "DownstreamRemoteReset";
    /// Dropped without condition.
    UnconditionalDropOverload = 30, "UDO", "UnconditionalDropOverload";
}

/// The flags of one stream or connection: at most ten, each once, in the order of setting.
#[derive(Clone, Copy, PartialEq, Eq, Default)]
pub struct ResponseFlags(u64);

impl ResponseFlags {
    const BITS: u32 = 6;
    const MASK: u64 = 0x3f;

    /// Adds a flag, unless it is set already.
    pub fn set(&mut self, flag: ResponseFlag) {
        if !self.has(flag) && self.0.leading_zeros() >= Self::BITS + 4 {
            let used = self.iter().count() as u32;
            self.0 |= u64::from(flag as u8) << (used * Self::BITS);
        }
    }

    /// Whether a flag is set.
    pub fn has(self, flag: ResponseFlag) -> bool {
        self.iter().any(|set| set == flag)
    }

    /// Whether none is set.
    pub fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// The flags, in the order of setting.
    pub fn iter(self) -> impl Iterator<Item = ResponseFlag> {
        let mut rest = self.0;
        std::iter::from_fn(move || {
            let code = (rest & Self::MASK) as usize;
            rest >>= Self::BITS;
            ResponseFlag::ALL.get(code.checked_sub(1)?).copied()
        })
    }

    /// As a number, for [`adit_io::Refusal::flags`].
    pub fn to_bits(self) -> u64 {
        self.0
    }

    /// From the number that [`ResponseFlags::to_bits`] gave.
    pub fn from_bits(bits: u64) -> Self {
        Self(bits)
    }

    /// Their long names, joined by commas; `-` when there is none.
    pub fn to_long(self) -> String {
        join(self.iter().map(ResponseFlag::long))
    }
}

impl From<ResponseFlag> for ResponseFlags {
    fn from(flag: ResponseFlag) -> Self {
        let mut flags = Self::default();
        flags.set(flag);
        flags
    }
}

fn join(names: impl Iterator<Item = &'static str>) -> String {
    let names: Vec<_> = names.collect();
    if names.is_empty() { "-".into() } else { names.join(",") }
}

impl fmt::Display for ResponseFlags {
    /// Short names, joined by commas; `-` when there is none.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&join(self.iter().map(ResponseFlag::short)))
    }
}

impl fmt::Debug for ResponseFlags {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ResponseFlags({self})")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_print_in_the_order_of_setting() {
        let mut flags = ResponseFlags::default();
        assert_eq!(flags.to_string(), "-");
        flags.set(ResponseFlag::UpstreamRetryLimitExceeded);
        flags.set(ResponseFlag::UpstreamConnectionFailure);
        flags.set(ResponseFlag::UpstreamRetryLimitExceeded);
        assert_eq!(flags.to_string(), "URX,UF");
        assert_eq!(flags.to_long(), "UpstreamRetryLimitExceeded,UpstreamConnectionFailure");
    }

    #[test]
    fn codes_index_the_table() {
        for (index, flag) in ResponseFlag::ALL.iter().enumerate() {
            assert_eq!(*flag as usize, index + 1);
            assert_eq!(ResponseFlags::from(*flag).iter().next(), Some(*flag));
        }
    }

    #[test]
    fn more_flags_than_fit_are_dropped_not_mixed_up() {
        let mut flags = ResponseFlags::default();
        for flag in ResponseFlag::ALL.iter().rev() {
            flags.set(*flag);
        }
        let set: Vec<_> = flags.iter().collect();
        let first: Vec<_> = ResponseFlag::ALL.iter().rev().take(set.len()).copied().collect();
        assert!(set.len() >= 9);
        assert_eq!(set, first);
    }
}
