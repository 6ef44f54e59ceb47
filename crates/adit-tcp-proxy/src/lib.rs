//! Terminal network filter: TCP proxy, with tunnelling over HTTP
