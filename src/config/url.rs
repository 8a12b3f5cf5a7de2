//! Reads a Postgres URL: `postgres://user@host:port/database?sslmode=verify-full`, sockets as `?host=/run/postgresql`.
//!
//! Only what the bridge can honour is accepted: an unknown parameter is refused, not ignored. Errors never show the
//! URL, for it may hold a password.

use super::keys;
use super::secret::Secret;

const PARAMETERS: &[&str] = &["host", "port", "user", "dbname", "password", "sslmode", "sslrootcert"];

/// The parts that the URL names; the rest is left to the other settings.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Parts {
    /// A name, an address, or the absolute path of a socket's folder.
    pub host: Option<String>,
    pub port: Option<String>,
    pub user: Option<String>,
    pub password: Option<Secret>,
    pub database: Option<String>,
    pub tls_mode: Option<String>,
    pub tls_root_certificate: Option<String>,
}

/// Why the URL is refused.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum UrlError {
    #[error("it does not begin with postgres:// or postgresql://")]
    Scheme,
    #[error("it names more than one host")]
    SeveralHosts,
    #[error("the brackets around its address are not closed")]
    Brackets,
    #[error("a % in it is not followed by two hexadecimal digits, or they do not give UTF-8")]
    Percent,
    #[error("its parameter {name:?} is not known; {remedy}")]
    Parameter { name: String, remedy: String },
    #[error("an @ stands behind a ?; a ? in a user or a password is written %3F, and an @ behind one %40")]
    Question,
}

/// Takes the URL apart.
pub(super) fn parse(url: &str) -> Result<Parts, UrlError> {
    let rest = url.strip_prefix("postgres://").or_else(|| url.strip_prefix("postgresql://")).ok_or(UrlError::Scheme)?;
    let (rest, parameters) = split_off(rest, '?');
    let (authority, path) = split_off(rest, '/');
    let (login, address) = match authority.rsplit_once('@') {
        Some((login, address)) => (login, address),
        None => ("", authority),
    };
    let (user, password) = split_off(login, ':');
    let (host, port) = split_port(address)?;
    let mut parts = Parts {
        host: some_text(host)?,
        port: port.map(str::to_owned),
        user: some_text(user)?,
        password: password.map(decode).transpose()?.map(Secret::new),
        database: some_text(path.unwrap_or_default())?,
        tls_mode: None,
        tls_root_certificate: None,
    };
    // What follows may be the rest of a password, and is not shown.
    if parameters.is_some_and(|parameters| parameters.contains('@')) {
        return Err(UrlError::Question);
    }
    for parameter in parameters.unwrap_or_default().split('&').filter(|parameter| !parameter.is_empty()) {
        let (name, value) = split_off(parameter, '=');
        parts.set(name, decode(value.unwrap_or_default())?)?;
    }
    if parts.host.as_deref().is_some_and(|host| host.contains(',')) {
        return Err(UrlError::SeveralHosts);
    }
    Ok(parts)
}

impl Parts {
    fn set(&mut self, name: &str, value: String) -> Result<(), UrlError> {
        match name {
            "host" => self.host = Some(value),
            "port" => self.port = Some(value),
            "user" => self.user = Some(value),
            "dbname" => self.database = Some(value),
            "password" => self.password = Some(Secret::new(value)),
            "sslmode" => self.tls_mode = Some(value),
            "sslrootcert" => self.tls_root_certificate = Some(value),
            _ => {
                let remedy = keys::suggest(name, PARAMETERS.iter().copied());
                return Err(UrlError::Parameter { name: name.to_owned(), remedy });
            }
        }
        Ok(())
    }
}

fn split_off(text: &str, separator: char) -> (&str, Option<&str>) {
    match text.split_once(separator) {
        Some((before, after)) => (before, Some(after)),
        None => (text, None),
    }
}

/// An address in brackets holds colons of its own.
fn split_port(address: &str) -> Result<(&str, Option<&str>), UrlError> {
    if address.contains(',') {
        return Err(UrlError::SeveralHosts);
    }
    let Some(inner) = address.strip_prefix('[') else { return Ok(split_off(address, ':')) };
    let (host, after) = inner.split_once(']').ok_or(UrlError::Brackets)?;
    match after.strip_prefix(':') {
        Some(port) => Ok((host, Some(port))),
        None if after.is_empty() => Ok((host, None)),
        None => Err(UrlError::Brackets),
    }
}

fn some_text(text: &str) -> Result<Option<String>, UrlError> {
    if text.is_empty() { Ok(None) } else { decode(text).map(Some) }
}

/// Replaces `%HH`.
fn decode(text: &str) -> Result<String, UrlError> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut parts = text.split('%');
    bytes.extend_from_slice(parts.next().unwrap_or_default().as_bytes());
    for part in parts {
        let (digits, rest) = part.split_at_checked(2).ok_or(UrlError::Percent)?;
        if !digits.bytes().all(|digit| digit.is_ascii_hexdigit()) {
            return Err(UrlError::Percent);
        }
        bytes.push(u8::from_str_radix(digits, 16).map_err(|_| UrlError::Percent)?);
        bytes.extend_from_slice(rest.as_bytes());
    }
    String::from_utf8(bytes).map_err(|_| UrlError::Percent)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Host, port, user, password, database, mode as one line.
    fn line(url: &str) -> Result<String, UrlError> {
        let parts = parse(url)?;
        let password = parts.password.map(|secret| secret.expose().to_owned());
        let all = [parts.host, parts.port, parts.user, password, parts.database, parts.tls_mode];
        Ok(all.map(|part| part.unwrap_or("-".into())).join(" "))
    }

    #[test]
    fn urls_are_taken_apart() {
        for (url, expected) in [
            ("postgres://u@h:5433/d", "h 5433 u - d -"),
            ("postgresql://u:p%40ss@h/d", "h - u p@ss d -"),
            ("postgres://u:p@ss@h/d", "h - u p@ss d -"),
            ("postgres://u@[::1]:5432/d", "::1 5432 u - d -"),
            ("postgres://[::1]/d", "::1 - - - d -"),
            ("postgres://u@/d?host=/run/postgresql&port=5433", "/run/postgresql 5433 u - d -"),
            ("postgres:///d?host=/run/postgresql&user=u", "/run/postgresql - u - d -"),
            ("postgres://u@%2Frun%2Fpg/d", "/run/pg - u - d -"),
            ("postgres://h/d?sslmode=verify-ca", "h - - - d verify-ca"),
            ("postgres://", "- - - - - -"),
        ] {
            assert_eq!(line(url).as_deref(), Ok(expected), "{url}");
        }
    }

    #[test]
    fn what_cannot_be_honoured_is_refused() {
        for (url, expected) in [
            ("mysql://h/d", UrlError::Scheme),
            ("postgres://a,b/d", UrlError::SeveralHosts),
            ("postgres://a:1,b:2/d", UrlError::SeveralHosts),
            ("postgres:///d?host=a,b", UrlError::SeveralHosts),
            ("postgres://[::1/d", UrlError::Brackets),
            ("postgres://[::1]5/d", UrlError::Brackets),
            ("postgres://h/%4", UrlError::Percent),
            ("postgres://h/%+1", UrlError::Percent),
            ("postgres://h/%ff", UrlError::Percent),
            ("postgres://h/%é", UrlError::Percent),
            ("postgres://u:hunter?2@h/d", UrlError::Question),
            ("postgres://u:hunter?sslmode=2@h/d", UrlError::Question),
            ("postgres:///d?user=u&password=p@ss", UrlError::Question),
        ] {
            assert_eq!(line(url), Err(expected), "{url}");
        }
        let error = line("postgres://u:hunter2@h/d?ssl_mode=require").unwrap_err().to_string();
        assert_eq!(error, "its parameter \"ssl_mode\" is not known; did you mean sslmode?");
    }
}
