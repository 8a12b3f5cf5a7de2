//! Which compatibility rule a subject has: told to operators, never decided by.
//!
//! The registry's client library has no call for it. A registry that does not tell its rule in Confluent's way has none
//! here; what it would do with a schema is asked of it elsewhere.

use reqwest::{Client, StatusCode, Url};
use serde_json::Value;

use super::{RegistryError, RegistryOptions, client};
use crate::config::Secret;

/// Where to ask.
#[derive(Clone, Debug)]
pub(super) struct Rules {
    client: Client,
    url: String,
    login: Option<(String, Secret)>,
}

impl Rules {
    pub(super) fn new(options: &RegistryOptions) -> Result<Self, RegistryError> {
        let url = options.url.trim_end_matches('/').to_owned();
        let built = client(options)?.timeout(options.timeout).build();
        let client = built.map_err(|error| RegistryError::Setup { url: url.clone(), reason: error.to_string() })?;
        let login = options.login.as_ref().map(|(user, password)| (user.clone(), Secret::new(password)));
        Ok(Self { client, url, login })
    }

    /// The rule that has refused a schema of the subject: its own, or the one for all; `None` if the registry does not say.
    pub(super) async fn refusing(&self, subject: &str) -> Option<String> {
        match self.ask(&["config", subject]).await {
            Some(rule) => Some(rule),
            None => self.ask(&["config"]).await,
        }
    }

    async fn ask(&self, path: &[&str]) -> Option<String> {
        let mut url = Url::parse(&self.url).ok()?;
        url.path_segments_mut().ok()?.pop_if_empty().extend(path);
        let mut request = self.client.get(url);
        if let Some((user, password)) = &self.login {
            request = request.basic_auth(user, Some(password.expose()));
        }
        let answer = request.send().await.ok().filter(|answer| answer.status() == StatusCode::OK)?;
        let answer: Value = serde_json::from_str(&answer.text().await.ok()?).ok()?;
        let rule = answer.get("compatibilityLevel")?.as_str()?;
        // It goes into a message: a word, whatever answered. What has refused is not NONE, which is what Apicurio (2.6) says of
        // a subject without a rule of its own.
        let is_word = !rule.is_empty() && rule.len() < 40 && rule.bytes().all(|b| b.is_ascii_uppercase() || b == b'_');
        (is_word && rule != "NONE").then(|| rule.to_owned())
    }
}
