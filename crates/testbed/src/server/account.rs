//! The account that servers run under: ourselves, or, if we are root, an unprivileged one.
//!
//! Postgres refuses to run as root, and nothing that a test starts needs root's rights.

use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::Command;
use std::sync::OnceLock;

use super::Error;

/// An account of this machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Account {
    /// Login name.
    pub name: String,
    /// User id.
    pub uid: u32,
    /// Group id.
    pub gid: u32,
}

/// Accounts to run servers under, best first: Debian's postgres owns nothing a test could hurt, nobody is always there.
const CANDIDATES: [&str; 2] = ["postgres", "nobody"];

/// The account that servers run under; `None` means our own, because we are not root.
pub fn unprivileged() -> Option<&'static Account> {
    static ACCOUNT: OnceLock<Option<Account>> = OnceLock::new();
    ACCOUNT
        .get_or_init(|| {
            if !rustix::process::geteuid().is_root() {
                return None;
            }
            let passwd = std::fs::read_to_string("/etc/passwd").unwrap_or_default();
            // 65534 is nobody on every Linux: the fallback for a machine without a readable /etc/passwd.
            let nobody = || Account { name: "nobody".to_owned(), uid: 65_534, gid: 65_534 };
            Some(pick(&passwd).unwrap_or_else(nobody))
        })
        .as_ref()
}

fn pick(passwd: &str) -> Option<Account> {
    CANDIDATES.iter().find_map(|name| find(passwd, name))
}

fn find(passwd: &str, name: &str) -> Option<Account> {
    passwd.lines().find_map(|line| {
        let mut fields = line.split(':');
        if fields.next()? != name {
            return None;
        }
        let uid = fields.nth(1)?.parse().ok()?;
        let gid = fields.next()?.parse().ok()?;
        Some(Account { name: name.to_owned(), uid, gid })
    })
}

/// Lets `command` run under the servers' account.
pub(crate) fn demote(command: &mut Command) {
    if let Some(account) = unprivileged() {
        command.uid(account.uid).gid(account.gid);
    }
}

/// Gives one file or directory to the servers' account.
pub(crate) fn give(path: &Path) -> Result<(), Error> {
    match unprivileged() {
        Some(account) => std::os::unix::fs::chown(path, Some(account.uid), Some(account.gid))
            .map_err(Error::io(format!("giving {} to {}", path.display(), account.name))),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::{find, pick};

    const PASSWD: &str = "root:x:0:0:root:/root:/bin/bash\nnobody:x:65534:65534:nobody:/:/usr/sbin/nologin\n";

    #[test]
    fn postgres_is_preferred_to_nobody() {
        assert_eq!(pick(PASSWD).map(|account| account.uid), Some(65_534));
        let with_postgres = format!("{PASSWD}postgres:x:107:112::/var/lib/postgresql:/bin/bash\n");
        let account = pick(&with_postgres).expect("postgres is listed");
        assert_eq!((account.uid, account.gid), (107, 112));
    }

    #[test]
    fn broken_lines_are_no_accounts() {
        for passwd in ["", "postgres", "postgres:x", "postgres:x:a:1", "postgres:x:1"] {
            assert_eq!(find(passwd, "postgres"), None, "{passwd:?}");
        }
    }
}
