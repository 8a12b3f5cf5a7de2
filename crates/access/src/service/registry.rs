//! Schemas by their ids. A registry that is away is asked again, however long it takes: records behind an unknown schema
//! wait, and so staleness tells of it.

use std::time::Duration;

use schema_registry_converter::async_impl::schema_registry::{SrSettings, get_schema_by_id};
use tokio::runtime::Runtime;

use super::config::RegistryConfig;
use super::error::ConnectError;

const TIMEOUT: Duration = Duration::from_secs(5);
const TICK: Duration = Duration::from_millis(100);

/// A client of one registry, for a thread that may wait.
#[derive(Debug)]
pub(super) struct Registry {
    settings: SrSettings,
    runtime: Runtime,
}

/// What it said.
pub(super) enum Answer {
    Schema(String),
    /// There is no schema of that id.
    Unknown,
    /// Ask again.
    Away(String),
}

impl Registry {
    pub(super) fn new(config: &RegistryConfig) -> Result<Self, ConnectError> {
        let mut builder = SrSettings::new_builder(config.url.trim_end_matches('/').to_owned());
        builder.set_timeout(TIMEOUT);
        if let Some(user) = &config.user {
            builder.set_basic_authorization(user, config.password.as_deref());
        }
        let settings = builder.build().map_err(|error| ConnectError::Registry(error.error))?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        Ok(Self { settings, runtime: runtime.map_err(ConnectError::Thread)? })
    }

    /// Asks once. Blocks for 5 s at most, and does `meanwhile` every [`TICK`]: time goes on.
    pub(super) fn schema(&self, id: u32, mut meanwhile: impl FnMut()) -> Answer {
        let asked = async {
            let mut answer = std::pin::pin!(get_schema_by_id(id, &self.settings));
            loop {
                match tokio::time::timeout(TICK, &mut answer).await {
                    Ok(answer) => return answer,
                    Err(_) => meanwhile(),
                }
            }
        };
        match self.runtime.block_on(asked) {
            Ok(registered) => Answer::Schema(registered.schema),
            Err(error) => {
                // The client tells the status only in its text.
                let unknown = error.error.contains("failed with status 404");
                if unknown { Answer::Unknown } else { Answer::Away(error.to_string()) }
            }
        }
    }
}
