//! Postgres counts time from 2000-01-01 00:00 UTC, Avro and Kafka from 1970-01-01: the two conversions.

/// Days from 1970-01-01 to 2000-01-01.
pub const POSTGRES_EPOCH_DAYS: i32 = 10_957;
/// Microseconds from 1970-01-01 to 2000-01-01.
pub const POSTGRES_EPOCH_MICROS: i64 = 946_684_800_000_000;

/// Unix microseconds of a time the replication protocol sent; `None` beyond the range of a 64-bit number.
pub const fn unix_micros(postgres_micros: i64) -> Option<i64> {
    postgres_micros.checked_add(POSTGRES_EPOCH_MICROS)
}

/// Postgres microseconds, as a status update needs them, of a Unix time; `None` beyond the range.
pub const fn postgres_micros(unix_micros: i64) -> Option<i64> {
    unix_micros.checked_sub(POSTGRES_EPOCH_MICROS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_two_epochs_are_thirty_years_apart() {
        assert_eq!(unix_micros(0), Some(946_684_800_000_000));
        assert_eq!(postgres_micros(0), Some(-946_684_800_000_000));
        assert_eq!(unix_micros(i64::MAX), None);
        assert_eq!(postgres_micros(i64::MIN), None);
        assert_eq!(i64::from(POSTGRES_EPOCH_DAYS) * 86_400_000_000, POSTGRES_EPOCH_MICROS);
    }
}
