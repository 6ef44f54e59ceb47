//! Writing access-log lines.

use adit_filter::{AccessLogType, LogContext, StreamInfo};

use crate::TcpProxy;

impl TcpProxy {
    /// Writes a line about `info` to each log.
    pub(crate) fn log(&self, info: &StreamInfo, kind: AccessLogType) {
        for log in &self.logs.logs {
            log.log(&LogContext { kind, ..LogContext::new(info) });
        }
    }

    /// The last line of a connection.
    pub(crate) fn log_end(&self, info: &mut StreamInfo) {
        info.timing.end.get_or_insert_with(|| info.started.elapsed());
        self.log(info, AccessLogType::TcpConnectionEnd);
    }
}
