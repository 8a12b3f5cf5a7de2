//! Settings that are passed to the Kafka client as they are: security, addresses, tuning.
//!
//! Invariant: none of the settings on which a guarantee rests can be passed. They are listed with the reason, under
//! all names that the client knows them by.

use std::collections::BTreeMap;

use super::secret::Secret;

/// Properties of the Kafka client by name. Values are secret: one of them may be a password.
pub type Properties = BTreeMap<String, Secret>;

/// Names that the bridge sets itself, and what to do instead.
const OWNED: &[(&[&str], &str)] = &[
    (&["bootstrap.servers", "metadata.broker.list"], "set kafka.brokers"),
    (&["transactional.id"], "it is derived from source.name, so that a successor fences its predecessor"),
    (&["transaction.timeout.ms"], "set kafka.transaction_timeout_ms"),
    (&["enable.idempotence"], "exactly-once delivery needs it; it is always on"),
    (&["enable.gapless.guarantee"], "a batch that fails spoils its transaction, whatever this says"),
    (
        &["acks", "request.required.acks"],
        "the slot is only acknowledged behind records on all replicas; it is always all",
    ),
    (&["message.timeout.ms", "delivery.timeout.ms"], "a record never times out: Postgres waits instead"),
    (
        &["retries", "message.send.max.retries", "max.in.flight", "max.in.flight.requests.per.connection"],
        "idempotent delivery sets it",
    ),
    (&["delivery.report.only.error"], "every record needs its positive delivery report"),
    (&["queuing.strategy"], "records stay in order"),
    (&["partitioner"], "a record's partition follows from its account"),
    (&["message.max.bytes", "message.copy.max.bytes"], "set limits.record_bytes_max"),
    (&["queue.buffering.max.messages", "queue.buffering.max.kbytes"], "set limits.in_flight_bytes_max"),
    (&["allow.auto.create.topics"], "topics are created by penstock setup, with the settings they need"),
    (&["client.rack"], "progress is read from leaders: a follower can end before the newest record"),
    (&["isolation.level"], "progress is always read with read_committed"),
    (
        &["group.id", "group.instance.id", "enable.auto.commit", "auto.commit.enable", "enable.auto.offset.store"],
        "the bridge keeps its place in the progress topic, not in a consumer group",
    ),
    (&["auto.offset.reset", "enable.partition.eof"], "the bridge sets it for its own reading"),
];

/// Names whose values are passwords or private keys.
const SECRET: &[&str] = &[
    "sasl.password",
    "sasl.oauthbearer.assertion.private.key.passphrase",
    "sasl.oauthbearer.assertion.private.key.pem",
    "sasl.oauthbearer.client.credentials.client.secret",
    "sasl.oauthbearer.client.secret",
    "sasl.oauthbearer.config",
    "ssl.key.password",
    "ssl.key.pem",
    "ssl.keystore.password",
];

/// Why a property may not be set, if so.
pub(super) fn refusal(name: &str) -> Option<&'static str> {
    OWNED.iter().find(|(names, _)| names.contains(&name)).map(|(_, reason)| *reason)
}

/// Whether the value must not lie where others can read it.
pub(super) fn is_secret(name: &str) -> bool {
    SECRET.contains(&name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn properties_that_guarantees_rest_on_are_refused() {
        for name in [
            "transactional.id",
            "acks",
            "request.required.acks",
            "message.timeout.ms",
            "isolation.level",
            "client.rack",
            "partitioner",
        ] {
            assert!(refusal(name).is_some(), "{name}");
        }
        for name in
            ["security.protocol", "sasl.mechanism", "ssl.ca.location", "client.id", "linger.ms", "compression.type"]
        {
            assert!(refusal(name).is_none(), "{name}");
        }
    }

    #[test]
    fn what_the_client_takes_as_a_secret_is_one() {
        for name in [
            "sasl.password",
            "sasl.oauthbearer.client.secret",
            "sasl.oauthbearer.client.credentials.client.secret",
            "sasl.oauthbearer.assertion.private.key.passphrase",
            "sasl.oauthbearer.assertion.private.key.pem",
            "ssl.key.pem",
        ] {
            assert!(is_secret(name), "{name}");
        }
    }
}
