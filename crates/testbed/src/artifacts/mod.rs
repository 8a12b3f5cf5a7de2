//! A cache of what the servers are made of.
//!
//! Invariants: a folder of the cache is complete or not there (it is built beside and renamed); its files had the
//! committed SHA-256 sums when it was built; it is fetched once, however many processes want it at the same time (a lock
//! file per bundle). Files come from their registries only through the registries' own clients, Maven and npm.
//!
//! It does not decide what is needed and says nothing to anybody: progress goes to a callback.

mod bundle;
mod sums;

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use rustix::fs::{FlockOperation, flock};

pub use bundle::Bundle;
use bundle::Unpack;
use sums::Sums;

/// Names the cache's folder, and wins over all defaults.
pub const CACHE_VARIABLE: &str = "PENSTOCK_CACHE";

/// Why a bundle can't be had.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The operating system refused something.
    #[error("{context}: {source}")]
    Io {
        /// What was being done, with the path.
        context: String,
        /// The refusal.
        #[source]
        source: std::io::Error,
    },
    /// The registry's client could not be started, or failed.
    #[error(
        "fetching {bundle} with `{command}` failed: {output}\nIs the registry reachable, and the client installed?"
    )]
    Fetch {
        /// What was fetched.
        bundle: Bundle,
        /// The command line.
        command: String,
        /// What the client said, or why it could not be started.
        output: String,
    },
    /// A fetched file is not the one whose sum is committed.
    #[error(
        "{file} of {bundle} is not the file that was committed to: expected SHA-256 {expected}, found {found}.\n\
         Remedy: remove the client's own copy ({copies}) and fetch again; if the sum stays different, \
         the registry serves another file than before: do not use it."
    )]
    WrongSum {
        /// What was fetched.
        bundle: Bundle,
        /// The file.
        file: String,
        /// The committed sum, or that there is no such file.
        expected: String,
        /// The sum of what came.
        found: String,
        /// Where the registry's client keeps its own copies.
        copies: &'static str,
    },
    /// The servers' account can't read the cache.
    #[error("servers run as {account}, who may not enter {directory}; name another cache folder in {CACHE_VARIABLE}")]
    Unreadable {
        /// The unprivileged account.
        account: String,
        /// The first directory on the way that is closed.
        directory: PathBuf,
    },
}

impl Error {
    fn io(context: impl Into<String>) -> impl FnOnce(std::io::Error) -> Self {
        let context = context.into();
        move |source| Self::Io { context, source }
    }
}

/// What the cache is doing, in this order; `Cached` or `Ready` ends it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Progress {
    /// It is there already.
    Cached(Bundle),
    /// Another process is fetching it.
    Waiting(Bundle),
    /// The registry's client is running.
    Fetching {
        /// What is fetched.
        bundle: Bundle,
        /// With which command.
        command: String,
        /// About how many bytes are coming.
        bytes: u64,
    },
    /// Sums are compared.
    Verifying(Bundle),
    /// An archive is unpacked.
    Unpacking(Bundle),
    /// It is there now.
    Ready {
        /// What was fetched.
        bundle: Bundle,
        /// How long it took.
        took: Duration,
    },
}

/// The cache folder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cache {
    root: PathBuf,
}

impl Cache {
    /// The folder that [`CACHE_VARIABLE`] names, else `penstock` in the user's cache directory; for root, whose servers
    /// run under another account that may not enter root's home, `/var/cache/penstock`.
    #[must_use]
    pub fn from_environment() -> Self {
        let root = rustix::process::geteuid().is_root();
        Self::choose(root, |name| std::env::var_os(name).map(PathBuf::from))
    }

    fn choose(root: bool, variable: impl Fn(&str) -> Option<PathBuf>) -> Self {
        let set = |name| variable(name).filter(|path| !path.as_os_str().is_empty());
        // A relative path is the caller's: servers run in directories of their own.
        let here = |path: PathBuf| std::path::absolute(&path).unwrap_or(path);
        let folder = set(CACHE_VARIABLE)
            .map(here)
            .or_else(|| set("XDG_CACHE_HOME").map(|path| path.join("penstock")))
            .or_else(|| root.then(|| PathBuf::from("/var/cache/penstock")))
            .or_else(|| set("HOME").map(|path| path.join(".cache/penstock")))
            .unwrap_or_else(|| std::env::temp_dir().join("penstock-cache"));
        Self { root: folder }
    }

    /// A cache in a folder of your choice.
    #[must_use]
    pub fn at(root: impl Into<PathBuf>) -> Self {
        Self { root: root.into() }
    }

    /// The folder.
    #[must_use]
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Where a bundle is, if it is there.
    #[must_use]
    pub fn find(&self, bundle: Bundle) -> Option<PathBuf> {
        let folder = self.folder(bundle);
        folder.is_dir().then_some(folder)
    }

    /// The folder of a bundle, which is fetched first if it isn't there.
    ///
    /// # Errors
    /// If it can't be fetched, or isn't what was committed to.
    pub fn ensure(&self, bundle: Bundle, progress: &dyn Fn(Progress)) -> Result<PathBuf, Error> {
        if let Some(folder) = self.find(bundle) {
            progress(Progress::Cached(bundle));
            return Ok(folder);
        }
        fs::create_dir_all(&self.root).map_err(Error::io(format!("creating {}", self.root.display())))?;
        let _lock = self.lock(bundle, progress)?;
        if let Some(folder) = self.find(bundle) {
            progress(Progress::Cached(bundle));
            return Ok(folder);
        }
        let started = Instant::now();
        let folder = self.build(bundle, progress)?;
        progress(Progress::Ready { bundle, took: started.elapsed() });
        Ok(folder)
    }

    fn folder(&self, bundle: Bundle) -> PathBuf {
        let fingerprint = Sums::parse(bundle.sums()).fingerprint();
        self.root.join(format!("{}-{fingerprint}", bundle.name()))
    }

    /// Held until the file is closed, also by our death.
    fn lock(&self, bundle: Bundle, progress: &dyn Fn(Progress)) -> Result<File, Error> {
        let path = self.root.join(format!(".{}.lock", bundle.name()));
        let context = format!("locking {}", path.display());
        let file =
            File::options().create(true).truncate(false).write(true).open(&path).map_err(Error::io(context.clone()))?;
        if flock(&file, FlockOperation::NonBlockingLockExclusive).is_err() {
            progress(Progress::Waiting(bundle));
            flock(&file, FlockOperation::LockExclusive).map_err(|error| Error::io(context)(error.into()))?;
        }
        Ok(file)
    }

    fn build(&self, bundle: Bundle, progress: &dyn Fn(Progress)) -> Result<PathBuf, Error> {
        // In the cache itself, because a rename does not cross file systems. Dropped, that is removed, on any error.
        let workshop = tempfile::Builder::new()
            .prefix(".fetch-")
            .tempdir_in(&self.root)
            .map_err(Error::io(format!("creating a folder in {}", self.root.display())))?;
        let fetched = workshop.path().join("fetched");
        fs::create_dir(&fetched).map_err(Error::io(format!("creating {}", fetched.display())))?;

        fetch(bundle, workshop.path(), &fetched, progress)?;
        progress(Progress::Verifying(bundle));
        verify(bundle, &fetched)?;
        let ready = match bundle.unpack() {
            Unpack::Nothing => fetched,
            Unpack::Archive { strip } => {
                progress(Progress::Unpacking(bundle));
                let unpacked = workshop.path().join("unpacked");
                unpack(bundle, &fetched, &unpacked, strip)?;
                unpacked
            }
        };
        open_to_everybody(&ready)?;
        let folder = self.folder(bundle);
        fs::rename(&ready, &folder).map_err(Error::io(format!("creating {}", folder.display())))?;
        Ok(folder)
    }
}

/// Where each client keeps the copy that a second attempt would be served from.
fn client_copies(bundle: Bundle) -> &'static str {
    match bundle {
        Bundle::Kafka | Bundle::Registry => "the artifact's folder under ~/.m2/repository",
        Bundle::Postgres14 | Bundle::Postgres15 | Bundle::Postgres16 | Bundle::Postgres17 | Bundle::Postgres18 => {
            "`npm cache clean --force`"
        }
    }
}

fn fetch(bundle: Bundle, workshop: &Path, target: &Path, progress: &dyn Fn(Progress)) -> Result<(), Error> {
    if let Some(pom) = bundle.pom() {
        let path = workshop.join("pom.xml");
        fs::write(&path, pom).map_err(Error::io(format!("writing {}", path.display())))?;
    }
    let mut command = bundle.fetch(target);
    command.current_dir(workshop);
    progress(Progress::Fetching {
        bundle,
        command: crate::server::command_line(&command),
        bytes: bundle.download_bytes(),
    });
    run(bundle, command)
}

fn verify(bundle: Bundle, folder: &Path) -> Result<(), Error> {
    let mismatch =
        Sums::parse(bundle.sums()).compare(folder).map_err(Error::io(format!("reading {}", folder.display())))?;
    match mismatch {
        None => Ok(()),
        Some(mismatch) => Err(Error::WrongSum {
            bundle,
            file: mismatch.file,
            expected: mismatch.expected,
            found: mismatch.found,
            copies: client_copies(bundle),
        }),
    }
}

fn unpack(bundle: Bundle, fetched: &Path, target: &Path, strip: u8) -> Result<(), Error> {
    fs::create_dir(target).map_err(Error::io(format!("creating {}", target.display())))?;
    for name in Sums::parse(bundle.sums()).names() {
        let mut command = Command::new("tar");
        command.arg("--extract").arg("--no-same-owner");
        command.arg(format!("--strip-components={strip}"));
        command.arg("--directory").arg(target);
        command.arg("--file").arg(fetched.join(name));
        run(bundle, command)?;
    }
    restore_links(target)
}

fn run(bundle: Bundle, mut command: Command) -> Result<(), Error> {
    let failed = |command: &Command, output: String| Error::Fetch {
        bundle,
        command: crate::server::command_line(command),
        output,
    };
    let output = command.stdin(Stdio::null()).output().map_err(|error| failed(&command, error.to_string()))?;
    if output.status.success() {
        return Ok(());
    }
    let said = [output.stdout, output.stderr].concat();
    Err(failed(&command, format!("{}\n{}", output.status, String::from_utf8_lossy(&said).trim())))
}

/// npm packs no symbolic links; the package lists them in a file instead, relative to its own root.
fn restore_links(folder: &Path) -> Result<(), Error> {
    let list = folder.join("native/pg-symlinks.json");
    let Ok(text) = fs::read_to_string(&list) else {
        return Ok(());
    };
    let context = || format!("reading {}", list.display());
    let links: Vec<serde_json::Value> =
        serde_json::from_str(&text).map_err(|error| Error::io(context())(error.into()))?;
    for link in &links {
        let path = |key| link.get(key).and_then(serde_json::Value::as_str).map(Path::new);
        let (Some(source), Some(target)) = (path("source"), path("target")) else {
            continue;
        };
        // Both lie in the same directory, so the link holds the bare name and survives a move of the whole.
        let (Some(name), true) = (source.file_name(), source.parent() == target.parent()) else {
            continue;
        };
        let place = folder.join(target);
        match std::os::unix::fs::symlink(name, &place) {
            Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {}
            other => other.map_err(Error::io(format!("linking {}", place.display())))?,
        }
    }
    Ok(())
}

/// The temporary folder was private, and servers run under another account if we are root.
fn open_to_everybody(folder: &Path) -> Result<(), Error> {
    use std::os::unix::fs::PermissionsExt as _;

    fs::set_permissions(folder, fs::Permissions::from_mode(0o755))
        .map_err(Error::io(format!("opening {}", folder.display())))
}

/// Checks that the account which servers run under may enter the folder, and names the directory that is closed.
pub(crate) fn check_readable(folder: &Path) -> Result<(), Error> {
    use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};

    let Some(account) = crate::server::account::unprivileged() else {
        return Ok(());
    };
    let mut ancestors: Vec<&Path> = folder.ancestors().collect();
    ancestors.reverse();
    for directory in ancestors {
        let metadata = fs::metadata(directory).map_err(Error::io(format!("looking at {}", directory.display())))?;
        let open = metadata.permissions().mode() & 0o001 != 0 || metadata.uid() == account.uid;
        if !open {
            return Err(Error::Unreadable { account: account.name.clone(), directory: directory.to_owned() });
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;
    use std::sync::mpsc;

    use super::{Bundle, Cache, Progress, Sums, verify};

    #[test]
    fn cache_folder_follows_the_environment() {
        let choose = |root, set: &[(&str, &str)]| {
            let variable = |name: &str| set.iter().find(|(key, _)| *key == name).map(|(_, value)| PathBuf::from(value));
            Cache::choose(root, variable).root
        };
        let home = ("HOME", "/home/a");
        let xdg = ("XDG_CACHE_HOME", "/x");
        assert_eq!(choose(false, &[home]), PathBuf::from("/home/a/.cache/penstock"));
        assert_eq!(choose(true, &[home]), PathBuf::from("/var/cache/penstock"));
        assert_eq!(choose(true, &[home, xdg]), PathBuf::from("/x/penstock"));
        assert_eq!(choose(false, &[home, xdg, ("PENSTOCK_CACHE", "/c")]), PathBuf::from("/c"));
        assert_eq!(choose(false, &[home, ("PENSTOCK_CACHE", "")]), PathBuf::from("/home/a/.cache/penstock"));
    }

    #[test]
    fn every_bundle_has_sums_and_a_folder_of_its_own() {
        let cache = Cache::at("/c");
        let folders: std::collections::BTreeSet<PathBuf> =
            Bundle::ALL.iter().map(|&bundle| cache.folder(bundle)).collect();
        assert_eq!(folders.len(), Bundle::ALL.len());
        for bundle in Bundle::ALL {
            assert!(Sums::parse(bundle.sums()).names().count() > 0, "{bundle}");
        }
    }

    #[test]
    fn complete_folder_is_not_fetched_again() {
        let root = tempfile::tempdir().expect("directory");
        let cache = Cache::at(root.path());
        std::fs::create_dir(cache.folder(Bundle::Kafka)).expect("folder");
        let steps = std::cell::RefCell::new(Vec::new());
        let folder = cache.ensure(Bundle::Kafka, &|step| steps.borrow_mut().push(step)).expect("cached");
        assert_eq!(folder, cache.folder(Bundle::Kafka));
        assert_eq!(steps.into_inner(), [Progress::Cached(Bundle::Kafka)]);
    }

    #[test]
    fn who_comes_second_waits_and_finds_it_there() {
        let root = tempfile::tempdir().expect("directory");
        let cache = Cache::at(root.path());
        let lock = cache.lock(Bundle::Kafka, &|_| {}).expect("lock");
        let (sender, steps) = mpsc::channel();
        let second = cache.clone();
        let waiting = std::thread::spawn(move || {
            let tell = |step| sender.send(step).expect("the test listens");
            second.ensure(Bundle::Kafka, &tell)
        });
        assert_eq!(steps.recv(), Ok(Progress::Waiting(Bundle::Kafka)));
        std::fs::create_dir(cache.folder(Bundle::Kafka)).expect("folder");
        drop(lock);
        assert_eq!(steps.recv(), Ok(Progress::Cached(Bundle::Kafka)));
        let folder = waiting.join().expect("no panic").expect("found");
        assert_eq!(folder, cache.folder(Bundle::Kafka));
    }

    #[test]
    fn wrong_sum_names_the_file_both_sums_and_the_remedy() {
        let folder = tempfile::tempdir().expect("directory");
        let sums = Sums::parse(Bundle::Registry.sums());
        let name = sums.names().next().expect("a name").to_owned();
        std::fs::write(folder.path().join(&name), "a").expect("write");
        let error = verify(Bundle::Registry, folder.path()).expect_err("another file");
        let text = error.to_string();
        let expected = Bundle::Registry.sums().split(' ').next().expect("a sum");
        // printf a | sha256sum
        let found = "ca978112ca1bbdcafac231b39a23dc4da786eff8147c4e72b9807785afee48bb";
        for part in [name.as_str(), expected, found, "Remedy: remove", "~/.m2"] {
            assert!(text.contains(part), "{part} in {text}");
        }
    }
}
