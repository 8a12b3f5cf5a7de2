//! How a checkpoint holds what has no form of its own in it.

/// Epoch, commit LSN, seq.
pub(crate) mod position {
    use penstock_wire::lsn::CommitLsn;
    use penstock_wire::position::{Position, Seq};
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    pub(crate) fn serialize<S: Serializer>(position: &Position, serializer: S) -> Result<S::Ok, S::Error> {
        (position.epoch, position.commit_lsn.raw(), position.seq.0).serialize(serializer)
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Position, D::Error> {
        let (epoch, commit_lsn, seq) = Deserialize::deserialize(deserializer)?;
        Ok(Position { epoch, commit_lsn: CommitLsn::new(commit_lsn), seq: Seq(seq) })
    }
}

/// JSON documents as their texts: the form does not say of which type a value is.
pub(crate) mod documents {
    use std::sync::Arc;

    use serde::de::Error as _;
    use serde::{Deserialize, Deserializer, Serialize, Serializer};
    use serde_json::Value;

    type Documents = Option<Arc<[Option<Value>]>>;

    pub(crate) fn serialize<S: Serializer>(documents: &Documents, serializer: S) -> Result<S::Ok, S::Error> {
        let text = |document: &Option<Value>| document.as_ref().map(Value::to_string);
        let texts: Option<Vec<Option<String>>> = documents.as_ref().map(|all| all.iter().map(text).collect());
        texts.serialize(serializer)
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Documents, D::Error> {
        let texts: Option<Vec<Option<&str>>> = Deserialize::deserialize(deserializer)?;
        let document = |text: Option<&str>| text.map(serde_json::from_str).transpose().map_err(D::Error::custom);
        texts.map(|texts| texts.into_iter().map(document).collect()).transpose()
    }
}
