//! Certificates for a test's server, Postgres or another: an authority of its own, a server certificate signed by it, and a second authority
//! that signed nothing, for the tests in which the client must refuse.
//!
//! They are made by the openssl command, anew for each server: nothing secret is committed.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::server::{self, Error, account};

/// The files; all in PEM.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Certificates {
    /// The authority that signed the server's certificate: what a client must trust.
    pub authority: PathBuf,
    /// Another authority: who trusts only this one must refuse the server.
    pub foreign_authority: PathBuf,
    /// The server's own.
    pub certificate: PathBuf,
    /// Its key.
    pub key: PathBuf,
}

impl Certificates {
    /// Makes the files in `directory`; `names` are host names and IP addresses that the server's certificate is for.
    ///
    /// # Errors
    /// If the openssl command is missing or fails.
    pub fn generate(directory: &Path, names: &[String]) -> Result<Self, Error> {
        let authority = make_authority(directory, "authority")?;
        let foreign_authority = make_authority(directory, "foreign-authority")?;
        let file = |name: &str| directory.join(name);

        let extensions = file("server.extensions");
        let text = format!("subjectAltName={}\n", alternative_names(names));
        std::fs::write(&extensions, text).map_err(Error::io(format!("writing {}", extensions.display())))?;
        let mut request = openssl(&["req", "-new", "-nodes", "-subj", "/CN=penstock-testbed"]);
        with_new_key(&mut request, &file("server.key"));
        request.arg("-out").arg(file("server.csr"));
        server::run(&mut request, None)?;

        let mut sign = openssl(&["x509", "-req", "-days", "30", "-CAcreateserial"]);
        sign.arg("-in").arg(file("server.csr"));
        sign.arg("-CA").arg(&authority);
        sign.arg("-CAkey").arg(file("authority.key"));
        sign.arg("-extfile").arg(&extensions);
        sign.arg("-out").arg(file("server.pem"));
        server::run(&mut sign, None)?;

        let key = file("server.key");
        restrict(&key)?;
        account::give(&key)?;
        account::give(&file("server.pem"))?;
        Ok(Self { authority, foreign_authority, certificate: file("server.pem"), key })
    }
}

fn make_authority(directory: &Path, name: &str) -> Result<PathBuf, Error> {
    let certificate = directory.join(format!("{name}.pem"));
    let mut command = openssl(&["req", "-x509", "-new", "-nodes", "-days", "30", "-subj"]);
    command.arg(format!("/CN=penstock-testbed-{name}"));
    with_new_key(&mut command, &directory.join(format!("{name}.key")));
    // rustls refuses a certificate authority that doesn't say it is one.
    command.args(["-addext", "keyUsage=critical,keyCertSign,cRLSign"]);
    command.arg("-out").arg(&certificate);
    server::run(&mut command, None)?;
    Ok(certificate)
}

fn openssl(arguments: &[&str]) -> Command {
    let mut command = Command::new("openssl");
    command.args(arguments);
    command
}

fn with_new_key(command: &mut Command, key: &Path) {
    command.args(["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1"]);
    command.arg("-keyout").arg(key);
}

fn alternative_names(names: &[String]) -> String {
    let entries: Vec<String> = names
        .iter()
        .map(|name| match name.parse::<std::net::IpAddr>() {
            Ok(_) => format!("IP:{name}"),
            Err(_) => format!("DNS:{name}"),
        })
        .collect();
    entries.join(",")
}

/// Postgres refuses a key that others may read.
fn restrict(key: &Path) -> Result<(), Error> {
    use std::os::unix::fs::PermissionsExt as _;

    std::fs::set_permissions(key, std::fs::Permissions::from_mode(0o600))
        .map_err(Error::io(format!("closing {}", key.display())))
}

#[cfg(test)]
mod tests {
    use super::alternative_names;

    #[test]
    fn addresses_and_names_are_told_apart() {
        let names = ["localhost", "127.0.0.1", "::1"].map(str::to_owned);
        assert_eq!(alternative_names(&names), "DNS:localhost,IP:127.0.0.1,IP:::1");
    }
}
