//! The Content-Security-Policy of the page.

/// The value of `Content-Security-Policy` for the page, given the request's `Host`.
///
/// Scripts and styles come from this origin alone and none is inline. The page's MQTT client connects to the WebSocket
/// listeners, which are other ports of the same host: they are allowed by the name that the browser itself used. A
/// `Host` that is not a plain name or address leaves them out.
#[must_use]
pub fn content_security_policy(host: Option<&str>) -> String {
    let mut policy = String::from(
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; font-src 'self'; \
         manifest-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; connect-src 'self'",
    );
    if let Some(name) = host.and_then(host_name) {
        policy.push_str(&format!(" ws://{name}:* wss://{name}:*"));
    }
    policy
}

/// The name or address of a `Host` field without its port, where nothing in it could end the policy's directive.
fn host_name(host: &str) -> Option<&str> {
    let name = match host.strip_prefix('[') {
        Some(rest) => {
            let end = rest.find(']')?;
            rest[..end]
                .bytes()
                .all(|b| b.is_ascii_hexdigit() || b == b':' || b == b'.')
                .then(|| &host[..end + 2])?
        }
        None => host.rsplit_once(':').map_or(host, |(name, _)| name),
    };
    let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b'_');
    (!name.is_empty() && name.len() <= 253 && (name.starts_with('[') || name.bytes().all(plain)))
        .then_some(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn websockets_of_the_same_host_are_allowed_on_every_port() {
        for (host, name) in [
            ("localhost:18083", "localhost"),
            ("10.0.0.1", "10.0.0.1"),
            ("[::1]:18083", "[::1]"),
            ("a-b.c_d", "a-b.c_d"),
        ] {
            let policy = content_security_policy(Some(host));
            assert!(
                policy.ends_with(&format!("connect-src 'self' ws://{name}:* wss://{name}:*")),
                "{policy}"
            );
        }
    }

    #[test]
    fn a_host_that_could_add_to_the_policy_is_left_out() {
        let plain = content_security_policy(None);
        assert!(plain.ends_with("connect-src 'self'"));
        for host in [
            "",
            "*",
            "a; script-src *",
            "a b",
            "x,y",
            "[::1",
            "[::1;]",
            ":80",
            "ä",
            "a'b",
            &"a".repeat(254),
        ] {
            assert_eq!(content_security_policy(Some(host)), plain, "{host:?}");
        }
    }

    #[test]
    fn nothing_inline_is_allowed() {
        let policy = content_security_policy(Some("h"));
        assert!(!policy.contains("unsafe"), "{policy}");
        assert!(policy.starts_with("default-src 'none'"), "{policy}");
    }
}
