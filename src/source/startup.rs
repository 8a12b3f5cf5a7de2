//! From a connected transport to a session that is ready for commands: startup message and authentication.
//!
//! Invariants: the password itself leaves only over TLS; a server that began SCRAM must prove that it knows the password
//! before it is believed; where both sides can bind SCRAM to the TLS channel, it is bound.

use postgres_protocol::authentication::md5_hash;
use postgres_protocol::authentication::sasl::{ChannelBinding, SCRAM_SHA_256, SCRAM_SHA_256_PLUS, ScramSha256};

use super::SourceError;
use super::error::ServerError;
use super::fields::Fields;
use super::limits::STARTUP_MESSAGE_BYTES_MAX;
use super::link::Link;
use super::options::ConnectOptions;

/// Protocol 3.0.
const PROTOCOL_VERSION: i32 = 3 << 16;

/// What a server's Authentication message asks.
#[derive(Debug, PartialEq, Eq)]
enum Request {
    Nothing,
    ClearText,
    Md5 { salt: [u8; 4] },
    Sasl { mechanisms: Vec<String> },
    SaslContinue(Vec<u8>),
    SaslFinal(Vec<u8>),
    Unsupported(String),
}

/// Opens the session; returns the id of the server's process.
pub(super) async fn start(link: &mut Link, options: &ConnectOptions) -> Result<i32, SourceError> {
    let parameters = options.startup_parameters()?;
    link.queue(None, |body| {
        body.extend(PROTOCOL_VERSION.to_be_bytes());
        for (name, value) in &parameters {
            put_text(body, name);
            put_text(body, value);
        }
        body.push(0);
    })?;
    link.flush().await?;
    authenticate(link, options).await?;
    wait_until_ready(link).await
}

async fn authenticate(link: &mut Link, options: &ConnectOptions) -> Result<(), SourceError> {
    let mut scram: Option<ScramSha256> = None;
    loop {
        let request = receive_request(link).await?;
        match (request, scram.take()) {
            (Request::Nothing, None) => return Ok(()),
            (Request::ClearText, None) => {
                if !link.transport().is_encrypted() {
                    return Err(SourceError::PasswordInClear);
                }
                let password = password(options)?.to_owned();
                send_password(link, &password).await?;
            }
            (Request::Md5 { salt }, None) => {
                let hash = md5_hash(options.user.as_bytes(), password(options)?.as_bytes(), salt);
                send_password(link, &hash).await?;
            }
            (Request::Sasl { mechanisms }, None) => {
                scram = Some(begin_scram(link, options, &mechanisms).await?);
            }
            (Request::SaslContinue(challenge), Some(mut exchange)) => {
                exchange.update(&challenge).map_err(unproven)?;
                let answer = exchange.message().to_vec();
                link.queue(Some(b'p'), |body| body.extend(answer))?;
                link.flush().await?;
                scram = Some(exchange);
            }
            (Request::SaslFinal(proof), Some(mut exchange)) => {
                exchange.finish(&proof).map_err(unproven)?;
            }
            (Request::Unsupported(method), _) => {
                return Err(SourceError::AuthenticationUnsupported { method });
            }
            // Out of turn: above all, "you are in" from a server that has not proven itself.
            (_, _) => return Err(SourceError::ServerUnproven(None)),
        }
    }
}

async fn begin_scram(
    link: &mut Link,
    options: &ConnectOptions,
    mechanisms: &[String],
) -> Result<ScramSha256, SourceError> {
    let offers = |name: &str| mechanisms.iter().any(|mechanism| mechanism == name);
    let (mechanism, binding) = match link.transport().channel_binding() {
        Some(hash) if offers(SCRAM_SHA_256_PLUS) => (SCRAM_SHA_256_PLUS, ChannelBinding::tls_server_end_point(hash)),
        // We could, the server says it can't; if it never said so, it will see this and refuse.
        Some(_) => (SCRAM_SHA_256, ChannelBinding::unrequested()),
        None => (SCRAM_SHA_256, ChannelBinding::unsupported()),
    };
    if !offers(mechanism) {
        return Err(SourceError::AuthenticationUnsupported { method: mechanisms.join(", ") });
    }
    let scram = ScramSha256::new(password(options)?.as_bytes(), binding);
    let first = scram.message().to_vec();
    let too_long = SourceError::MessageTooLong { bytes: first.len() };
    let length = i32::try_from(first.len()).map_err(|_| too_long)?;
    link.queue(Some(b'p'), |body| {
        put_text(body, mechanism);
        body.extend(length.to_be_bytes());
        body.extend(first);
    })?;
    link.flush().await?;
    Ok(scram)
}

async fn receive_request(link: &mut Link) -> Result<Request, SourceError> {
    let message = link.receive(STARTUP_MESSAGE_BYTES_MAX).await?;
    match message.tag {
        b'R' => Request::parse(message.body),
        b'E' => Err(Box::new(ServerError::parse(message.body)?).into()),
        tag => Err(SourceError::Unexpected { tag, during: "while logging in" }),
    }
}

async fn wait_until_ready(link: &mut Link) -> Result<i32, SourceError> {
    let mut process_id = 0;
    loop {
        let message = link.receive(STARTUP_MESSAGE_BYTES_MAX).await?;
        match message.tag {
            b'K' => process_id = Fields::new("the backend's key data", message.body).i32()?,
            b'Z' => return Ok(process_id),
            b'E' => return Err(Box::new(ServerError::parse(message.body)?).into()),
            tag => {
                return Err(SourceError::Unexpected { tag, during: "before the session was ready" });
            }
        }
    }
}

async fn send_password(link: &mut Link, password: &str) -> Result<(), SourceError> {
    if password.contains('\0') {
        return Err(SourceError::ZeroByte { in_what: "password" });
    }
    link.queue(Some(b'p'), |body| put_text(body, password))?;
    link.flush().await
}

fn password(options: &ConnectOptions) -> Result<&str, SourceError> {
    let password = options.password.as_ref();
    Ok(password.ok_or(SourceError::PasswordMissing)?.expose())
}

fn unproven(reason: std::io::Error) -> SourceError {
    SourceError::ServerUnproven(Some(reason))
}

/// Appends a zero-terminated string; the callers have made sure that it holds no zero.
pub(super) fn put_text(body: &mut Vec<u8>, text: &str) {
    body.extend(text.as_bytes());
    body.push(0);
}

impl Request {
    fn parse(body: &[u8]) -> Result<Self, SourceError> {
        let mut fields = Fields::new("an authentication request", body);
        let request = match fields.i32()? {
            0 => Self::Nothing,
            3 => Self::ClearText,
            5 => Self::Md5 { salt: fields.array()? },
            10 => {
                let mut mechanisms = Vec::new();
                loop {
                    let name = fields.text()?;
                    if name.is_empty() {
                        break;
                    }
                    mechanisms.push(name);
                }
                Self::Sasl { mechanisms }
            }
            11 => return Ok(Self::SaslContinue(fields.remainder().to_vec())),
            12 => return Ok(Self::SaslFinal(fields.remainder().to_vec())),
            7 | 8 => return Ok(Self::Unsupported("GSSAPI".to_owned())),
            9 => return Ok(Self::Unsupported("SSPI".to_owned())),
            number => return Ok(Self::Unsupported(format!("number {number}"))),
        };
        fields.end()?;
        Ok(request)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_read() {
        for (body, expected) in [
            (&b"\0\0\0\0"[..], Request::Nothing),
            (b"\0\0\0\x03", Request::ClearText),
            (b"\0\0\0\x05salt", Request::Md5 { salt: *b"salt" }),
            (
                b"\0\0\0\x0aSCRAM-SHA-256-PLUS\0SCRAM-SHA-256\0\0",
                Request::Sasl { mechanisms: vec!["SCRAM-SHA-256-PLUS".into(), "SCRAM-SHA-256".into()] },
            ),
            (b"\0\0\0\x0br=x", Request::SaslContinue(b"r=x".to_vec())),
            (b"\0\0\0\x0cv=x", Request::SaslFinal(b"v=x".to_vec())),
            (b"\0\0\0\x07", Request::Unsupported("GSSAPI".into())),
            (b"\0\0\0\x63", Request::Unsupported("number 99".into())),
        ] {
            assert_eq!(Request::parse(body).unwrap(), expected);
        }
    }

    #[test]
    fn cut_requests_are_malformed() {
        for body in
            [&b""[..], b"\0\0\0", b"\0\0\0\x05sal", b"\0\0\0\x05salty", b"\0\0\0\x0aSCRAM", b"\0\0\0\x0aSCRAM\0"]
        {
            assert!(Request::parse(body).is_err(), "{body:?}");
        }
    }
}
