//! Messages as they are compared: fields in order, without what is another in every run, bodies without their framing.

/// A head with its fields in order of their names, without what changes with the time; then the rest as it is.
pub fn sorted_head(text: &str) -> String {
    let Some((head, rest)) = text.split_once("\r\n\r\n") else { return text.to_owned() };
    let mut lines = head.split("\r\n");
    let mut out = lines.next().unwrap_or_default().to_owned() + "\n";
    let mut fields: Vec<String> = Vec::new();
    for line in lines.filter_map(field) {
        // One list in several fields is the same list in one (RFC 9110 section 5.3).
        let name = line.split(':').next().unwrap_or_default();
        let listed = ["x-forwarded-for", "connection", "via"].contains(&name);
        match fields.iter_mut().find(|known| listed && known.split(':').next() == Some(name)) {
            Some(known) => {
                known.push(',');
                known.push_str(line.split_once(": ").map_or("", |(_, value)| value));
            }
            None => fields.push(line),
        }
    }
    // The order of fields of one name is kept.
    fields.sort_by_key(|line| line.split(':').next().unwrap_or_default().to_owned());
    for line in fields {
        out.push_str(&line);
        out.push('\n');
    }
    out + "\n" + rest
}

fn field(line: &str) -> Option<String> {
    let (name, value) = line.split_once(':').unwrap_or((line, ""));
    match name.to_ascii_lowercase().as_str() {
        "date" => None,
        // For a client on loopback Envoy names an address of the machine.
        "x-forwarded-for" => {
            let (before, last) = value.rsplit_once(',').unwrap_or(("", value.trim()));
            let sent = ["1.2.3.4", "5.6.7.8", "12", "10.0.0.1", "nonsense", "::1", "1.2.3.4:80"];
            let last = if sent.iter().any(|end| last.ends_with(end)) { last } else { "<peer>" };
            Some(format!(
                "{name}: {}",
                if before.is_empty() { last.to_owned() } else { format!("{},{last}", before.trim()) }
            ))
        }
        "x-request-id" if value.trim().len() == 36 => Some(format!("{name}: <uuid>")),
        "x-envoy-upstream-service-time" => Some(format!("{name}: <ms>")),
        // Less than the whole when an attempt went before; of a long one, perhaps by less than a millisecond.
        "x-envoy-expected-rq-timeout-ms" if value.trim().parse().is_ok_and(|millis: u64| millis > 14_000) => {
            let whole = value.trim().parse::<u64>().unwrap_or_default().next_multiple_of(1000);
            Some(format!("{name}: {whole}"))
        }
        "x-envoy-expected-rq-timeout-ms"
            if value.trim().parse().is_ok_and(|millis: u64| !millis.is_multiple_of(50)) =>
        {
            Some(format!("{name}: <less>"))
        }
        _ => Some(line.to_owned()),
    }
}

/// All answers in what a client received, bodies without their framing.
pub fn answers(data: &[u8], head: bool, connect: bool) -> String {
    let mut out = String::new();
    let mut rest = String::from_utf8_lossy(data).into_owned();
    while rest.starts_with("HTTP/1.") {
        let Some((text, after)) = rest.split_once("\r\n\r\n") else { break };
        out.push_str(&sorted_head(&format!("{text}\r\n\r\n")));
        let lower = text.to_ascii_lowercase();
        let status: u16 = text.get(9..12).and_then(|code| code.parse().ok()).unwrap_or(0);
        let tunnel = status == 101 || connect && (200..300).contains(&status);
        let length = lower.split("\r\n").find_map(|line| line.strip_prefix("content-length: ")?.parse::<usize>().ok());
        if tunnel {
            return out + "|" + after;
        }
        rest = if head || status < 200 || status == 204 || status == 304 {
            after.to_owned()
        } else if lower.contains("transfer-encoding: chunked") {
            let (body, after) = unchunk(after);
            out.push_str(&body);
            after
        } else if let Some(length) = length {
            let (body, after) = after.split_at_checked(length).unwrap_or((after, ""));
            out.push_str(body);
            after.to_owned()
        } else {
            out.push_str(after);
            String::new()
        };
        out.push('\n');
    }
    out + &rest
}

fn unchunk(text: &str) -> (String, String) {
    let (mut body, mut rest) = (String::new(), text);
    while let Some((size, after)) = rest.split_once("\r\n") {
        let Ok(size) = usize::from_str_radix(size, 16) else { break };
        if size == 0 {
            let Some((trailers, after)) = after.split_once("\r\n") else { break };
            if trailers.is_empty() {
                return (body + "[last chunk]", after.to_owned());
            }
            let mut tail = after;
            body.push_str(&format!("[trailer {trailers}]"));
            while let Some((line, after)) = tail.split_once("\r\n") {
                tail = after;
                if line.is_empty() {
                    break;
                }
                body.push_str(&format!("[trailer {line}]"));
            }
            return (body + "[last chunk]", tail.to_owned());
        }
        let Some((chunk, after)) = after.split_at_checked(size) else { break };
        body.push_str(chunk);
        rest = after.strip_prefix("\r\n").unwrap_or(after);
    }
    (body + "[unfinished]", rest.to_owned())
}
