//! `nanogate health`: one question to a running gateway, for images without a shell or curl.

use super::{FAILED, HealthArgs, INVALID, OK, complain, say};
use crate::config::Environment;
use crate::server::control;
use std::io::{Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::time::Duration;

/// The gateway is on this machine: an answer takes microseconds, or it is not well.
const PATIENCE: Duration = Duration::from_secs(3);

pub fn run(args: &HealthArgs) -> u8 {
    let url = args.url.clone().unwrap_or_else(|| {
        let environment = Environment::of_process();
        let named = environment.get("PORT").and_then(|port| port.parse().ok());
        // The one that runs here knows best: its --port may differ from PORT.
        let port: u16 = control::serving_port().or(named).unwrap_or(4000);
        format!("http://127.0.0.1:{port}/health/readiness")
    });
    let Some((authority, path)) = split(&url) else {
        complain(format_args!("`{url}` is not an http:// address"));
        return INVALID;
    };
    match ask(authority, path) {
        Ok(status) if (200..300).contains(&status) => {
            say(format_args!("{url}: {status}"));
            OK
        }
        Ok(status) => {
            say(format_args!("{url}: {status}"));
            FAILED
        }
        Err(cause) => {
            say(format_args!("{url}: {cause}"));
            FAILED
        }
    }
}

fn split(url: &str) -> Option<(&str, &str)> {
    let rest = url.strip_prefix("http://")?;
    let at = rest.find('/').unwrap_or(rest.len());
    (at > 0).then(|| (&rest[..at], if at == rest.len() { "/" } else { &rest[at..] }))
}

fn ask(authority: &str, path: &str) -> std::io::Result<u16> {
    let with_port = if authority.contains(':') { authority.to_owned() } else { format!("{authority}:80") };
    let address = with_port.to_socket_addrs()?.next().ok_or(std::io::ErrorKind::NotFound)?;
    let mut stream = TcpStream::connect_timeout(&address, PATIENCE)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    write!(stream, "GET {path} HTTP/1.1\r\nHost: {authority}\r\nConnection: close\r\n\r\n")?;
    let mut head = Vec::new();
    stream.take(4096).read_to_end(&mut head)?;
    let text = String::from_utf8_lossy(&head);
    let status = text.split(' ').nth(1).and_then(|status| status.parse().ok());
    status.ok_or_else(|| std::io::Error::from(std::io::ErrorKind::InvalidData))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_split_where_the_path_begins() {
        assert_eq!(split("http://a:1/b/c"), Some(("a:1", "/b/c")));
        assert_eq!(split("http://a"), Some(("a", "/")));
        assert_eq!(split("https://a"), None);
        assert_eq!(split("http:///x"), None);
    }
}
