//! Addresses: `listeners`, `advertised.listeners`, `listener.security.protocol.map`.

use std::collections::BTreeMap;
use std::fmt;

/// How the bytes of a listener are protected.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Security {
    /// Not at all.
    Plaintext,
    /// By TLS.
    Ssl,
    /// Login, no encryption.
    SaslPlaintext,
    /// Login over TLS.
    SaslSsl,
}

impl Security {
    /// The protocol of this name, in upper or lower case.
    pub fn from_name(name: &str) -> Option<Self> {
        match name.to_ascii_uppercase().as_str() {
            "PLAINTEXT" => Some(Self::Plaintext),
            "SSL" => Some(Self::Ssl),
            "SASL_PLAINTEXT" => Some(Self::SaslPlaintext),
            "SASL_SSL" => Some(Self::SaslSsl),
            _ => None,
        }
    }

    /// Kafka's name of it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Plaintext => "PLAINTEXT",
            Self::Ssl => "SSL",
            Self::SaslPlaintext => "SASL_PLAINTEXT",
            Self::SaslSsl => "SASL_SSL",
        }
    }
}

/// One address of this broker.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Endpoint {
    /// The listener's name, in upper case.
    pub name: String,
    /// The host; `None` when left empty: every interface, or this machine's name when advertised.
    pub host: Option<String>,
    /// The port; 0 lets the system choose.
    pub port: u16,
    /// How its bytes are protected.
    pub security: Security,
}

impl Endpoint {
    /// The address to listen on, as "host:port".
    pub fn bind_address(&self) -> String {
        match self.host.as_deref() {
            Some(host) if host.contains(':') => format!("[{host}]:{}", self.port),
            Some(host) => format!("{host}:{}", self.port),
            None => format!("0.0.0.0:{}", self.port),
        }
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let host = self.host.as_deref().unwrap_or("");
        if host.contains(':') {
            write!(f, "{}://[{host}]:{}", self.name, self.port)
        } else {
            write!(f, "{}://{host}:{}", self.name, self.port)
        }
    }
}

/// Reads `listener.security.protocol.map`: NAME:PROTOCOL, separated by commas.
pub fn parse_protocols(text: &str) -> Result<BTreeMap<String, Security>, String> {
    let mut map = BTreeMap::new();
    for item in text.split(',').map(str::trim).filter(|item| !item.is_empty()) {
        let (name, protocol) = item
            .rsplit_once(':')
            .ok_or_else(|| format!("\"{item}\" is not NAME:PROTOCOL, as in CLIENTS:PLAINTEXT"))?;
        let security = Security::from_name(protocol.trim()).ok_or_else(|| {
            format!("\"{protocol}\" is none of PLAINTEXT, SSL, SASL_PLAINTEXT, SASL_SSL")
        })?;
        map.insert(name.trim().to_ascii_uppercase(), security);
    }
    Ok(map)
}

/// Reads one address of the form NAME://host:port. A host in brackets is an IPv6 address.
///
/// `protocols` is the map of [`parse_protocols`].
pub fn parse_endpoint(
    text: &str,
    protocols: &BTreeMap<String, Security>,
) -> Result<Endpoint, String> {
    let form = || format!("\"{text}\" is not NAME://host:port, as in PLAINTEXT://localhost:9092");
    let (name, address) = text.split_once("://").ok_or_else(form)?;
    let (host, port) = address.rsplit_once(':').ok_or_else(form)?;
    let named = !name.is_empty()
        && name.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.'));
    if !named {
        return Err(form());
    }
    let host = match host.strip_prefix('[') {
        Some(rest) => rest.strip_suffix(']').ok_or_else(form)?,
        None => host,
    };
    let legal = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_' | ':' | '%');
    if !host.chars().all(legal) {
        return Err(form());
    }
    let port = port
        .parse::<u16>()
        .map_err(|_| format!("\"{port}\" in \"{text}\" is no port: ports are 0 to 65535"))?;
    let name = name.to_ascii_uppercase();
    let security = *protocols.get(&name).ok_or_else(|| {
        format!(
            "listener {name} has no protocol; add {name}:PLAINTEXT to \
             listener.security.protocol.map"
        )
    })?;
    let host = (!host.is_empty()).then(|| host.to_owned());
    Ok(Endpoint { name, host, port, security })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_read_or_refused_with_a_sentence() {
        let map = parse_protocols("PLAINTEXT:PLAINTEXT, tls:ssl").expect("well formed");
        let endpoint = |name: &str, host: Option<&str>, port, security| Endpoint {
            name: name.to_owned(),
            host: host.map(str::to_owned),
            port,
            security,
        };
        let good = [
            (
                "PLAINTEXT://127.0.0.1:9092",
                endpoint("PLAINTEXT", Some("127.0.0.1"), 9092, Security::Plaintext),
                "127.0.0.1:9092",
            ),
            ("plaintext://:0", endpoint("PLAINTEXT", None, 0, Security::Plaintext), "0.0.0.0:0"),
            ("TLS://[::1]:93", endpoint("TLS", Some("::1"), 93, Security::Ssl), "[::1]:93"),
        ];
        for (text, expected, address) in good {
            let found = parse_endpoint(text, &map).expect(text);
            assert_eq!(found, expected, "{text}");
            assert_eq!(found.bind_address(), address);
        }
        let bad = [
            ("localhost:9092", "is not NAME://host:port"),
            ("PLAINTEXT://localhost", "is not NAME://host:port"),
            ("PLAINTEXT://localhost:99999", "is no port"),
            ("PLAINTEXT://a b:1", "is not NAME://host:port"),
            ("OTHER://h:1", "listener OTHER has no protocol"),
        ];
        for (text, part) in bad {
            let error = parse_endpoint(text, &map).expect_err(text);
            assert!(error.contains(part), "{text}: {error}");
        }
        assert!(parse_protocols("A").is_err());
        assert!(parse_protocols("A:TLS").is_err());
    }
}
