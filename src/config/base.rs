//! `api_base`: the part of every upstream address that stands before the route.
//!
//! Split once at load, so that no request parses a URL. It refuses to resolve names, and it shows what it refuses only
//! where that is harmless: an address may hold a password.

use std::net::{IpAddr, Ipv6Addr};

use super::syntax::{looks_secret, quoted};

/// A provider's base address.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Base {
    /// `https`.
    pub tls: bool,
    /// Host name in lower case, or an address; IPv6 without brackets.
    pub host: String,
    /// Port, 443 or 80 when the file names none.
    pub port: u16,
    /// What comes before the route: empty, or `/api/v1`; never a trailing slash.
    pub path: String,
}

impl Base {
    /// `host[:port]` as it stands in a `host` header: without a default port, IPv6 in brackets.
    pub fn authority(&self) -> String {
        let host = if self.host.contains(':') { format!("[{}]", self.host) } else { self.host.clone() };
        match (self.tls, self.port) {
            (true, 443) | (false, 80) => host,
            (_, port) => format!("{host}:{port}"),
        }
    }

    /// The address in full, as `nanogate models` shows it.
    pub fn url(&self) -> String {
        let scheme = if self.tls { "https" } else { "http" };
        format!("{scheme}://{}{}", self.authority(), self.path)
    }

    /// Whether what is sent there stays on this machine.
    pub fn is_loopback(&self) -> bool {
        self.host == "localhost"
            || self.host.ends_with(".localhost")
            || self.host.parse().is_ok_and(|address: IpAddr| address.is_loopback())
    }

    /// Splits an address; the error says what would be right.
    pub(super) fn parse(text: &str) -> Result<Base, String> {
        let text = text.trim();
        let Some((scheme, rest)) = text.split_once("://") else {
            return Err(without_scheme(text));
        };
        let tls = match scheme.to_ascii_lowercase().as_str() {
            "https" => true,
            "http" => false,
            _ => return Err("it has to start with `https://` (or `http://`)".to_owned()),
        };
        if rest.contains(['?', '#']) {
            return Err(
                "it cannot have a `?query` or a `#fragment`; it ends with the path, such as `/api/v1`".to_owned()
            );
        }
        let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
        if authority.contains('@') {
            return Err("it cannot hold a user or password (`…@`); the key belongs in `api_key`".to_owned());
        }
        let (host, port) = split_authority(authority)?;
        Ok(Base { tls, host, port: port.unwrap_or(if tls { 443 } else { 80 }), path: checked_path(path)? })
    }
}

fn without_scheme(text: &str) -> String {
    let host = text.split(['/', ':']).next().unwrap_or_default();
    let local = host == "localhost" || host.starts_with("127.");
    let scheme = if local { "http" } else { "https" };
    let plain = !host.is_empty()
        && !looks_secret(text)
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"./:-_".contains(&b));
    match plain && text.contains(['.', ':', '/']) && text.len() <= 80 {
        true => format!("it has no scheme; write `{scheme}://{}`", text.trim_start_matches('/')),
        false => "it has no scheme; write `https://host/path`".to_owned(),
    }
}

fn split_authority(authority: &str) -> Result<(String, Option<u16>), String> {
    let (host, port) = if let Some(rest) = authority.strip_prefix('[') {
        let (host, after) = rest.split_once(']').ok_or("the `[` of its address is not closed")?;
        host.parse::<Ipv6Addr>().map_err(|_| "what stands in `[…]` is not an IPv6 address")?;
        (host, after.strip_prefix(':').or(if after.is_empty() { None } else { Some("?") }))
    } else {
        match authority.split_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (authority, None),
        }
    };
    let name = |b: u8| b.is_ascii_alphanumeric() || b"-._".contains(&b);
    if host.is_empty() {
        return Err("it has no host name".to_owned());
    }
    if !authority.starts_with('[') && !host.bytes().all(name) {
        return Err("its host name may hold letters, digits, `-` and `.` only".to_owned());
    }
    let port = match port {
        Some(port) => {
            Some(port.parse().ok().filter(|port| *port > 0).ok_or("its port must be a number from 1 to 65535")?)
        }
        None => None,
    };
    Ok((host.to_ascii_lowercase(), port))
}

/// Routes the gateway adds itself. `/models` is what people copy out of a browser.
const ROUTES: &[&str] = &["/chat/completions", "/completions", "/embeddings", "/responses", "/messages", "/models"];

fn checked_path(path: &str) -> Result<String, String> {
    if !path.bytes().all(|b| b.is_ascii_graphic()) {
        return Err("its path holds blanks or letters that must be written as `%XX`".to_owned());
    }
    let path = path.trim_end_matches('/');
    match ROUTES.iter().find(|route| path.ends_with(**route)) {
        Some(route) => Err(format!(
            "it must end before the route; leave out `{route}`, the gateway adds it ({})",
            quoted(&format!("…{}", path.strip_suffix(route).unwrap_or_default()))
        )),
        None => Ok(path.to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::Base;

    #[test]
    fn an_address_is_split_once() {
        for (text, url, authority) in [
            ("https://nano-gpt.com/api/v1", "https://nano-gpt.com/api/v1", "nano-gpt.com"),
            ("https://Nano-GPT.com:443/api/v1/", "https://nano-gpt.com/api/v1", "nano-gpt.com"),
            ("http://127.0.0.1:9", "http://127.0.0.1:9", "127.0.0.1:9"),
            ("http://[::1]:8080/v1", "http://[::1]:8080/v1", "[::1]:8080"),
            (" http://my_host ", "http://my_host", "my_host"),
        ] {
            let base = Base::parse(text).unwrap();
            assert_eq!((base.url().as_str(), base.authority().as_str()), (url, authority));
        }
        assert!(Base::parse("http://localhost:1/v1").unwrap().is_loopback());
        assert!(Base::parse("http://[::1]").unwrap().is_loopback());
        assert!(!Base::parse("http://10.0.0.1").unwrap().is_loopback());
    }

    #[test]
    fn a_wrong_address_is_answered_with_the_right_one() {
        for (text, advice) in [
            ("nano-gpt.com/api/v1", "write `https://nano-gpt.com/api/v1`"),
            ("localhost:11434/v1", "write `http://localhost:11434/v1`"),
            ("x", "write `https://host/path`"),
            ("ftp://host", "start with `https://`"),
            ("https://nano-gpt.com/api/v1/chat/completions", "(`…/api/v1`)"),
            ("https://nano-gpt.com/api/v1/chat/completions/", "leave out `/chat/completions`"),
            ("https://host/v1?key=1", "`?query`"),
            ("https://user:pw@host/v1", "belongs in `api_key`"),
            ("https:///v1", "no host name"),
            ("https://host:0/v1", "port"),
            ("https://host:99999", "port"),
            ("https://[::1", "not closed"),
            ("https://[::1]x", "port"),
            ("https://ho st/v1", "letters"),
            ("https://host/v 1", "%XX"),
        ] {
            let fault = Base::parse(text).unwrap_err();
            assert!(fault.contains(advice), "{text}: {fault}");
            assert!(!fault.contains("pw"), "{fault}");
        }
    }
}
