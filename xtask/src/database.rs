//! A Postgres database, spoken to through psql: SQL that is run to its end, and sessions that stay open.
//!
//! Invariant: a password never stands in a command line, which everybody on the machine can read; psql gets it in its
//! environment. A session ends with us: its input does.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::thread::JoinHandle;

use anyhow::{Context as _, bail, ensure};

/// A database, by its URL.
#[derive(Debug, Clone)]
pub struct Database {
    /// `postgres://user@host:port/database?parameters`, without the password.
    url: String,
    password: Option<String>,
}

impl Database {
    /// Takes a URL apart as far as the password.
    pub fn new(url: &str) -> anyhow::Result<Self> {
        let (scheme, rest) = url.split_once("://").with_context(|| format!("{url:?} is no URL"))?;
        ensure!(matches!(scheme, "postgres" | "postgresql"), "{scheme}:// is not Postgres; write postgres://…");
        let end = rest.find(['/', '?']).unwrap_or(rest.len());
        let (authority, rest) = rest.split_at(end);
        let (login, host) = authority.rsplit_once('@').map_or((None, authority), |(login, host)| (Some(login), host));
        let (user, password) = match login {
            Some(login) => login.split_once(':').map_or((Some(login), None), |(user, word)| (Some(user), Some(word))),
            None => (None, None),
        };
        let user = user.map(|user| format!("{user}@")).unwrap_or_default();
        Ok(Self { url: format!("{scheme}://{user}{host}{rest}"), password: password.map(percent_decoded).transpose()? })
    }

    /// The same server, another database.
    pub fn with_name(&self, name: &str) -> Self {
        let (head, parameters) = self.url.split_once('?').map_or((self.url.as_str(), None), |(a, b)| (a, Some(b)));
        let start = head.find("://").map_or(0, |place| place + 3);
        let authority_end = head.get(start..).and_then(|rest| rest.find('/')).map_or(head.len(), |place| start + place);
        let authority = head.get(..authority_end).unwrap_or(head);
        let parameters = parameters.map(|text| format!("?{text}")).unwrap_or_default();
        Self { url: format!("{authority}/{name}{parameters}"), password: self.password.clone() }
    }

    /// The URL without the password: to be shown.
    pub fn shown(&self) -> &str {
        &self.url
    }

    /// The URL with the password: for a file that only its owner reads, or for servers whose password is no secret.
    pub fn url(&self) -> String {
        match (&self.password, self.url.split_once('@')) {
            (Some(password), Some((user, rest))) => format!("{user}:{}@{rest}", percent_encoded(password)),
            (Some(_), None) | (None, _) => self.url.clone(),
        }
    }

    /// Runs SQL; the rows as psql prints them unaligned, columns separated by `|`.
    pub fn run(&self, sql: &str) -> anyhow::Result<String> {
        let mut session = self.session()?;
        session.run(sql)
    }

    /// Runs a file of SQL after some settings, in one session.
    pub fn run_file(&self, settings: &str, file: &Path) -> anyhow::Result<()> {
        let mut command = self.psql();
        if !settings.is_empty() {
            command.args(["--command", settings]);
        }
        let output = command.arg("--file").arg(file).stdin(Stdio::null()).output().context("starting psql")?;
        ensure!(
            output.status.success(),
            "psql --file {}: {}",
            file.display(),
            String::from_utf8_lossy(&output.stderr).trim()
        );
        Ok(())
    }

    /// A session that stays open.
    pub fn session(&self) -> anyhow::Result<Session> {
        use std::os::unix::process::CommandExt as _;

        let mut command = self.psql();
        command.args(["--file", "-"]).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        // Ctrl-C on the terminal is for us: we end the session.
        let mut child = command.process_group(0).spawn().context("starting psql")?;
        let pipes = (child.stdin.take(), child.stdout.take(), child.stderr.take());
        let (Some(input), Some(output), Some(mut errors)) = pipes else {
            bail!("psql has no pipes");
        };
        let errors = std::thread::spawn(move || {
            let mut text = String::new();
            let _ = errors.read_to_string(&mut text);
            text
        });
        Ok(Session { child, input: Some(input), output: BufReader::new(output), errors: Some(errors), asked: 0 })
    }

    fn psql(&self) -> Command {
        let mut command = Command::new("psql");
        command
            .args(["--no-psqlrc", "--quiet", "--no-align", "--tuples-only", "--set", "ON_ERROR_STOP=1"])
            .args(["--dbname", &self.url])
            .env("PGCLIENTENCODING", "UTF8")
            .env("PGAPPNAME", "penstock demo")
            .env_remove("PGOPTIONS")
            .env_remove("PGSERVICE");
        if let Some(password) = &self.password {
            command.env("PGPASSWORD", password);
        }
        command
    }
}

/// A psql that reads SQL from us. The first statement that fails ends it.
#[derive(Debug)]
pub struct Session {
    child: Child,
    input: Option<ChildStdin>,
    output: BufReader<ChildStdout>,
    errors: Option<JoinHandle<String>>,
    asked: u64,
}

impl Session {
    /// Runs SQL (it must end with a semicolon) and returns its rows when all of it is done.
    pub fn run(&mut self, sql: &str) -> anyhow::Result<String> {
        self.asked += 1;
        let end = format!("-- done {}", self.asked);
        let sent = match &mut self.input {
            Some(input) => input.write_all(format!("{sql}\n\\echo '{end}'\n").as_bytes()).and_then(|()| input.flush()),
            None => Err(std::io::ErrorKind::BrokenPipe.into()),
        };
        let mut rows = String::new();
        // A psql that failed has closed its input: what it said is worth more than that.
        while sent.is_ok() {
            let before = rows.len();
            if self.output.read_line(&mut rows).context("reading from psql")? == 0 {
                break;
            }
            if rows.get(before..).is_some_and(|line| line.trim_end() == end) {
                rows.truncate(before);
                return Ok(rows.trim_end_matches('\n').to_owned());
            }
        }
        bail!("psql ended: {}", self.last_words())
    }

    fn last_words(&mut self) -> String {
        self.input = None;
        let _ = self.child.wait();
        let errors = self.errors.take().and_then(|thread| thread.join().ok()).unwrap_or_default();
        errors.trim().to_owned()
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        // The end of its input ends psql, once the statement that runs is done.
        self.input = None;
        let _ = self.child.wait();
    }
}

fn percent_decoded(text: &str) -> anyhow::Result<String> {
    let mut bytes = Vec::new();
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        if byte != b'%' {
            bytes.push(byte);
            continue;
        }
        let digits: String = rest.by_ref().take(2).map(char::from).collect();
        let byte = u8::from_str_radix(&digits, 16).ok().filter(|_| digits.len() == 2);
        bytes.push(byte.context("the password of the URL holds a % that is not followed by two hexadecimal digits")?);
    }
    String::from_utf8(bytes).context("the password of the URL is not UTF-8")
}

fn percent_encoded(text: &str) -> String {
    text.bytes()
        .map(|byte| match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => char::from(byte).to_string(),
            other => format!("%{other:02X}"),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::Database;

    #[test]
    fn password_is_taken_out_and_put_back() {
        let cases = [
            ("postgres://u:p@h:5432/d", "postgres://u@h:5432/d"),
            ("postgres://u:a%40b%2F%3A@h/d?sslmode=require", "postgres://u@h/d?sslmode=require"),
            ("postgres://u@h/d", "postgres://u@h/d"),
            ("postgresql://h", "postgresql://h"),
            ("postgres://u:p@/d?host=/run/postgresql", "postgres://u@/d?host=/run/postgresql"),
        ];
        for (url, shown) in cases {
            let database = Database::new(url).expect(url);
            assert_eq!(database.shown(), shown);
            assert_eq!(database.url(), url);
        }
    }

    #[test]
    fn name_is_replaced_and_parameters_stay() {
        let cases = [
            ("postgres://u:p@h:5432/d", "postgres://u@h:5432/x"),
            ("postgres://h", "postgres://h/x"),
            ("postgres://h?sslmode=require", "postgres://h/x?sslmode=require"),
            ("postgres://u@/d?host=/run/postgresql", "postgres://u@/x?host=/run/postgresql"),
        ];
        for (url, expected) in cases {
            assert_eq!(Database::new(url).expect(url).with_name("x").shown(), expected);
        }
    }

    #[test]
    fn other_urls_are_refused() {
        for url in ["", "h:5432", "mysql://h/d", "postgres://u:%4@h/d", "postgres://u:%zz@h/d", "postgres://u:%ff@h/d"]
        {
            assert!(Database::new(url).is_err(), "{url}");
        }
    }
}
