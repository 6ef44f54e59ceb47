//! The page at `/`.

use crate::handlers::ENDPOINTS;
use crate::handlers::Endpoint;

const STYLE: &str = "body{font:14px/1.5 system-ui,sans-serif;margin:2em auto;max-width:60em;padding:0 1em;color:#222;background:#fff}\
h1{font-size:1.4em}table{border-collapse:collapse;width:100%}td{padding:.3em .6em;border-bottom:1px solid #ddd;vertical-align:top}\
button,a{font:inherit}a{color:#0550ae}pre{overflow:auto}\
@media(prefers-color-scheme:dark){body{color:#ddd;background:#111}td{border-color:#333}a{color:#79b8ff}}";

/// Every endpoint with a link, or a button where it changes something.
pub(crate) fn index(version: &str, state: &str) -> String {
    let mut rows = String::new();
    for Endpoint { path, help, mutates, .. } in ENDPOINTS {
        let (path, help) = (escape(path), escape(help));
        let action = if *mutates {
            format!("<form method=\"post\" action=\"{path}\"><button>{path}</button></form>")
        } else {
            format!("<a href=\"{path}\">{path}</a>")
        };
        rows.push_str(&format!("<tr><td>{action}</td><td>{help}</td></tr>\n"));
    }
    page(
        "adit",
        &format!(
            "<h1>adit</h1><p>{} &middot; <strong>{}</strong></p><table>{rows}</table>",
            escape(version),
            escape(state)
        ),
    )
}

/// Text on a page.
pub(crate) fn preformatted(title: &str, text: &str) -> String {
    page(title, &format!("<h1>{}</h1><pre>{}</pre>", escape(title), escape(text)))
}

fn page(title: &str, body: &str) -> String {
    format!(
        "<!DOCTYPE html><html lang=\"en\"><head><meta charset=\"utf-8\">\
         <meta name=\"viewport\" content=\"width=device-width\"><title>{}</title><style>{STYLE}</style></head>\
         <body>{body}</body></html>\n",
        escape(title)
    )
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}
