//! Checkpoints on disk: one file a partition, replaced as a whole, in a folder that only this process uses.
//!
//! What is written is a copy of the state, taken under the lock; everything that takes long (encoding, hashing, the disk) is
//! done by a thread of its own. A checkpoint that cannot be written or read costs time at the next start and nothing else,
//! so it is told and never ends anything.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, SyncSender, TryRecvError, sync_channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;

use super::config::CheckpointConfig;
use super::engine::Shared;
use super::error::ConnectError;
use crate::checkpoint::{Basis, Checkpoint};
use crate::partition::ResumePoint;

const LOCK: &str = "lock";

/// Writes and reads the checkpoints of one instance.
#[derive(Debug)]
pub(super) struct Keeper {
    folder: Folder,
    basis: Basis,
    every: Duration,
    jobs: SyncSender<Checkpoint>,
    /// Whose checkpoint was written, and where it goes on; None: it could not be.
    done: Receiver<Option<ResumePoint>>,
    thread: JoinHandle<()>,
    /// What is on disk.
    kept: BTreeMap<u32, ResumePoint>,
    round: Instant,
    /// Partitions whose turn has not come in this round.
    due: Vec<u32>,
    is_writing: bool,
}

/// A folder that is locked for as long as this lives.
#[derive(Clone, Debug)]
struct Folder {
    path: PathBuf,
    _lock: std::sync::Arc<File>,
}

impl Keeper {
    /// None: no folder is configured.
    ///
    /// # Errors
    /// If the folder cannot be used, or another process uses it.
    pub(super) fn open(config: &CheckpointConfig, basis: Basis) -> Result<Option<Self>, ConnectError> {
        let Some(path) = &config.folder else { return Ok(None) };
        let folder = Folder::open(path)?;
        let (jobs, todo) = sync_channel::<Checkpoint>(1);
        let (tell, done) = sync_channel(1);
        let (of_thread, of_basis) = (folder.clone(), basis.clone());
        let write = move || {
            for checkpoint in todo {
                if tell.send(write(&of_thread, &of_basis, checkpoint)).is_err() {
                    return;
                }
            }
        };
        let thread = std::thread::Builder::new().name("penstock-checkpoint".to_owned()).spawn(write);
        Ok(Some(Self {
            folder,
            basis,
            every: Duration::from_secs(u64::from(config.every.get())),
            jobs,
            done,
            thread: thread.map_err(ConnectError::Thread)?,
            kept: BTreeMap::new(),
            round: Instant::now(),
            due: Vec::new(),
            is_writing: false,
        }))
    }

    /// The partition's checkpoint, if there is one that fits.
    pub(super) fn load(&mut self, partition: u32) -> Option<Checkpoint> {
        let bytes = match fs::read(self.folder.file(partition)) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return None,
            Err(error) => {
                tracing::warn!(partition, %error, "the checkpoint cannot be read: the partition is read from its beginning");
                return None;
            }
        };
        match Checkpoint::from_bytes(&bytes, partition, &self.basis) {
            Ok(checkpoint) => {
                self.kept.insert(partition, checkpoint.point.clone());
                Some(checkpoint)
            }
            Err(unfit) => {
                tracing::warn!(partition, reason = %unfit, "the checkpoint is discarded: the partition is read from its beginning");
                None
            }
        }
    }

    /// Keeps what is due, a partition at a time. Called at every turn.
    pub(super) fn keep_due(&mut self, shared: &Shared) {
        match self.done.try_recv() {
            Ok(written) => self.written(written),
            Err(TryRecvError::Empty | TryRecvError::Disconnected) => {}
        }
        if self.round.elapsed() >= self.every {
            self.round = Instant::now();
            self.due = shared.lock().replica.assigned();
        }
        while !self.is_writing
            && let Some(partition) = self.due.pop()
        {
            self.keep(partition, shared);
        }
    }

    /// Keeps every partition as it stands now, and ends.
    pub(super) fn close(mut self, shared: &Shared) {
        let assigned = shared.lock().replica.assigned();
        for partition in assigned {
            self.wait();
            self.keep(partition, shared);
        }
        self.wait();
        drop(self.jobs);
        if let Err(panic) = self.thread.join() {
            tracing::error!(?panic, "the thread of checkpoints has panicked");
        }
    }

    fn keep(&mut self, partition: u32, shared: &Shared) {
        let mut engine = shared.lock();
        let (began, replica) = (Instant::now(), &mut engine.replica);
        let point = replica.reading(partition).and_then(crate::replica::Reading::resume_point);
        if point.is_none() || point.as_ref() == self.kept.get(&partition) {
            return;
        }
        let saved = replica.save(partition);
        drop(engine);
        let Some((point, accounts)) = saved else { return };
        tracing::debug!(partition, copied_us = began.elapsed().as_micros() as u64, "a checkpoint is taken");
        self.is_writing = self.jobs.send(Checkpoint { point, accounts }).is_ok();
    }

    fn wait(&mut self) {
        if self.is_writing {
            let written = self.done.recv().unwrap_or(None);
            self.written(written);
        }
    }

    fn written(&mut self, written: Option<ResumePoint>) {
        self.is_writing = false;
        if let Some(point) = written {
            self.kept.insert(point.partition(), point);
        }
    }
}

fn write(folder: &Folder, basis: &Basis, checkpoint: Checkpoint) -> Option<ResumePoint> {
    let (began, partition) = (Instant::now(), checkpoint.point.partition());
    let bytes = checkpoint.to_bytes(basis);
    match folder.store(partition, &bytes) {
        Ok(()) => {
            let ms = began.elapsed().as_millis() as u64;
            tracing::debug!(partition, bytes = bytes.len(), ms, "a checkpoint is written");
            Some(checkpoint.point)
        }
        Err(error) => {
            tracing::warn!(partition, folder = %folder.path.display(), %error, "a checkpoint cannot be written");
            None
        }
    }
}

impl Folder {
    fn open(path: &Path) -> Result<Self, ConnectError> {
        let failed = |source| ConnectError::Checkpoint { path: path.display().to_string(), source };
        fs::DirBuilder::new().recursive(true).mode(0o700).create(path).map_err(failed)?;
        let mut options = OpenOptions::new();
        let lock =
            options.create(true).write(true).truncate(false).mode(0o600).open(path.join(LOCK)).map_err(failed)?;
        match flock(&lock, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => Ok(Self { path: path.to_owned(), _lock: std::sync::Arc::new(lock) }),
            Err(Errno::WOULDBLOCK) => Err(ConnectError::CheckpointShared(path.display().to_string())),
            Err(error) => Err(failed(error.into())),
        }
    }

    fn file(&self, partition: u32) -> PathBuf {
        self.path.join(format!("partition-{partition}.checkpoint"))
    }

    /// The file is the old one or the new one, whenever the machine stops.
    fn store(&self, partition: u32, bytes: &[u8]) -> io::Result<()> {
        let draft = self.path.join(format!("partition-{partition}.draft"));
        // Left by a process that was killed; and with it whatever mode it had.
        match fs::remove_file(&draft) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            Ok(()) | Err(_) => {}
        }
        let mut file = OpenOptions::new().create_new(true).write(true).mode(0o600).open(&draft)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        fs::rename(&draft, self.file(partition))?;
        File::open(&self.path)?.sync_all()
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn a_folder_has_one_user() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("of/checkpoints");
        let first = Folder::open(&path).expect("it is free");
        let second = Folder::open(&path).expect_err("it is taken").to_string();
        assert!(second.contains("another process") && second.contains("checkpoint.folder"), "{second}");
        drop(first);
        Folder::open(&path).expect("it is free again");
    }

    #[test]
    fn a_file_is_replaced_as_a_whole_and_nobody_else_may_read_it() {
        let folder = tempfile::tempdir().expect("a folder");
        let open = Folder::open(folder.path()).expect("it is free");
        fs::write(folder.path().join("partition-3.draft"), "left by a process that was killed").expect("a draft");
        for bytes in [&b"a longer one"[..], b"short"] {
            open.store(3, bytes).expect("it can be written");
            assert_eq!(fs::read(open.file(3)).expect("it is there"), bytes);
        }
        let mode = fs::metadata(open.file(3)).expect("it is there").permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        let mut names: Vec<_> =
            fs::read_dir(folder.path()).expect("a folder").map(|entry| entry.expect("an entry").file_name()).collect();
        names.sort();
        assert_eq!(names, [LOCK, "partition-3.checkpoint"], "no draft is left");
    }
}
