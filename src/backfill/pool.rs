//! Connections that are open and not in use.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// The one that was used last is used next, so that the others grow old.
#[derive(Debug)]
pub(super) struct Pool<T>(Mutex<Vec<(Instant, T)>>);

impl<T> Pool<T> {
    pub(super) fn new() -> Self {
        Self(Mutex::new(Vec::new()))
    }

    fn lock(&self) -> MutexGuard<'_, Vec<(Instant, T)>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn take(&self) -> Option<T> {
        self.lock().pop().map(|(_, connection)| connection)
    }

    pub(super) fn put(&self, connection: T) {
        self.lock().push((Instant::now(), connection));
    }

    /// Closes those that nobody has used for so long.
    pub(super) fn close_unused(&self, age_max: Duration) {
        self.lock().retain(|(since, _)| since.elapsed() <= age_max);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_used_is_used_next_and_the_old_are_closed() {
        let pool = Pool::new();
        assert_eq!(pool.take(), None);
        pool.put(1);
        pool.put(2);
        assert_eq!(pool.take(), Some(2));
        pool.close_unused(Duration::from_secs(3600));
        assert_eq!(pool.take(), Some(1));
        pool.put(3);
        pool.close_unused(Duration::ZERO);
        assert_eq!(pool.take(), None);
    }
}
