//! Where Postgres' programs are: Debian's package of the major version if it is installed, else the cache's bundle.
//!
//! The bundles hold servers only; clients (psql, pg_basebackup) always come from Debian.

use std::path::{Path, PathBuf};

use crate::artifacts::{self, Bundle, Cache};
use crate::server::Error;

/// Where Debian and Ubuntu put each major version.
const DEBIAN: &str = "/usr/lib/postgresql";

/// The directory of the server programs of a major version; fetched into the cache if need be.
pub(super) fn server(major: u16, cache: &Cache) -> Result<PathBuf, Error> {
    let packaged = Path::new(DEBIAN).join(major.to_string()).join("bin");
    if packaged.join("postgres").exists() {
        return Ok(packaged);
    }
    let missing = |remedy: &str| Error::Missing { what: format!("Postgres {major}"), remedy: remedy.to_owned() };
    let bundle = Bundle::postgres(major).ok_or_else(|| missing("the testbed knows 14 to 18"))?;
    if std::env::consts::ARCH != "x86_64" {
        return Err(missing("it can be fetched for x86_64 only: install its package"));
    }
    let folder = cache.ensure(bundle, &|_| {})?;
    artifacts::check_readable(&folder)?;
    Ok(folder.join("native/bin"))
}

/// The newest installed client program of this name.
///
/// Not the one in PATH: that is a Perl wrapper which takes longer than the query.
pub(super) fn client(name: &str) -> Result<PathBuf, Error> {
    newest(Path::new(DEBIAN), name).or_else(|| in_path(name)).ok_or_else(|| Error::Missing {
        what: name.to_owned(),
        remedy: "install Debian's postgresql-client".to_owned(),
    })
}

fn newest(parent: &Path, name: &str) -> Option<PathBuf> {
    let majors = std::fs::read_dir(parent).ok()?.flatten();
    majors
        .filter_map(|entry| {
            let major: u16 = entry.file_name().to_str()?.parse().ok()?;
            let program = entry.path().join("bin").join(name);
            program.exists().then_some((major, program))
        })
        .max()
        .map(|(_, program)| program)
}

/// A program in PATH.
pub(crate) fn in_path(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path).map(|directory| directory.join(name)).find(|program| program.is_file())
}

#[cfg(test)]
mod tests {
    use super::newest;

    #[test]
    fn newest_major_is_taken_as_a_number() {
        let parent = tempfile::tempdir().expect("directory");
        for major in ["9", "15", "16"] {
            let bin = parent.path().join(major).join("bin");
            std::fs::create_dir_all(&bin).expect("bin");
            if major != "16" {
                std::fs::write(bin.join("psql"), "").expect("psql");
            }
        }
        let program = newest(parent.path(), "psql").expect("psql of 15");
        assert!(program.ends_with("15/bin/psql"), "{}", program.display());
        assert_eq!(newest(parent.path(), "nothing"), None);
    }
}
