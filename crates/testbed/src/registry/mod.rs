//! A schema registry of one's own: Apicurio, which speaks Confluent's API and keeps schemas in a file, so that a
//! restarted registry knows the ids it gave.
//!
//! Invariants: it enforces a compatibility rule from the start (out of the box it enforces none), and keeps port and
//! data over kill and restart.

pub mod http;
pub mod scripted;

use std::path::PathBuf;

use rustix::process::Signal;

use crate::artifacts::{self, Bundle, Cache};
use crate::limits;
use crate::server::{self, Error, Lifecycle, Port, Process, Sandbox, java};

pub use http::Answer;
pub use scripted::Scripted;

/// Where Apicurio serves Confluent's API, version 7.
const API: &str = "/apis/ccompat/v7";
const HEAP_MB: u32 = 256;
const PROGRAM: &str = "apicurio-registry-app-2.6.13.Final-runner.jar";

/// A schema registry.
#[derive(Debug)]
pub struct Registry {
    // Dropped in this order: the process before the directory it writes to, and before the port it listens on.
    lifecycle: Lifecycle,
    program: PathBuf,
    port: Port,
    sandbox: Sandbox,
}

impl Registry {
    /// Starts a registry that enforces BACKWARD, Confluent's own default.
    ///
    /// # Errors
    /// If it can't be had, or does not come up.
    pub fn start_new(cache: &Cache) -> Result<Self, Error> {
        let folder = cache.ensure(Bundle::Registry, &|_| {})?;
        artifacts::check_readable(&folder)?;
        let port = Port::reserve()?;
        let registry = Self {
            lifecycle: Lifecycle::new(format!("registry on port {}", port.number())),
            program: folder.join(PROGRAM),
            port,
            sandbox: Sandbox::new("registry")?,
        };
        registry.start()?;
        registry.set_compatibility("BACKWARD")?;
        Ok(registry)
    }

    /// The base URL of Confluent's API.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}{API}", self.port())
    }

    /// Its port.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port.number()
    }

    /// Its process id, while it runs.
    #[must_use]
    pub fn pid(&self) -> Option<u32> {
        self.lifecycle.pid()
    }

    /// Its log.
    #[must_use]
    pub fn log(&self) -> PathBuf {
        self.sandbox.path().join("registry.log")
    }

    /// Sends a request; `path` is below the base URL and begins with a slash.
    ///
    /// # Errors
    /// If there is no answer. Any status is an answer.
    pub fn request(&self, method: &str, path: &str, body: &str) -> Result<Answer, Error> {
        http::request(self.port(), method, &format!("{API}{path}"), body)
            .map_err(Error::io(format!("{method} {}{path}", self.url())))
    }

    /// Sets the rule that every new version of a schema must obey: BACKWARD, FORWARD, FULL, NONE and so on.
    ///
    /// # Errors
    /// If the registry refuses.
    pub fn set_compatibility(&self, level: &str) -> Result<(), Error> {
        let body = serde_json::json!({ "compatibility": level }).to_string();
        let answer = self.request("PUT", "/config", &body)?;
        if answer.status == 200 {
            return Ok(());
        }
        Err(Error::Answer {
            name: "registry".to_owned(),
            answer: format!("{} to PUT /config: {}", answer.status, answer.body),
        })
    }

    /// Starts it (again) and waits until it answers.
    ///
    /// # Errors
    /// If it runs already, or does not come up: then with the end of its log.
    pub fn start(&self) -> Result<(), Error> {
        let answers = || match self.request("GET", "/subjects", "") {
            Ok(answer) if answer.status == 200 => Ok(()),
            Ok(answer) => Err(format!("status {}", answer.status)),
            Err(error) => Err(error.to_string()),
        };
        self.lifecycle.start(|| self.spawn(), |process| server::wait_ready(process, answers))
    }

    /// Asks it to leave (SIGTERM) and waits for its end.
    ///
    /// # Errors
    /// If it does not run, or does not end in time.
    pub fn stop(&self) -> Result<(), Error> {
        self.lifecycle.stop(Signal::TERM, limits::STOP_TIMEOUT)
    }

    /// Stops it and starts it again, with what it knew.
    ///
    /// # Errors
    /// As [`Registry::stop`] and [`Registry::start`].
    pub fn restart(&self) -> Result<(), Error> {
        self.stop()?;
        self.start()
    }

    /// Kills it (SIGKILL).
    ///
    /// # Errors
    /// If it does not run.
    pub fn kill(&self) -> Result<(), Error> {
        self.lifecycle.kill()
    }

    /// Stops it where it stands (SIGSTOP): it accepts connections and answers nothing.
    ///
    /// # Errors
    /// If it does not run.
    pub fn pause(&self) -> Result<(), Error> {
        self.lifecycle.pause()
    }

    /// Lets it go on (SIGCONT).
    ///
    /// # Errors
    /// If it does not run.
    pub fn resume(&self) -> Result<(), Error> {
        self.lifecycle.resume()
    }

    fn spawn(&self) -> Result<Process, Error> {
        let mut command = java::command(&self.sandbox, HEAP_MB)?;
        // The faster start is worth more to a registry that answers a few requests than the better code.
        command.arg("-XX:TieredStopAtLevel=1");
        command.args(["-Dquarkus.http.host=127.0.0.1", "-Dquarkus.http.access-log.enabled=false"]);
        command.arg(format!("-Dquarkus.http.port={}", self.port()));
        // Written through at once: what was answered survives SIGKILL.
        command.arg(format!(
            "-Dquarkus.datasource.jdbc.url=jdbc:h2:file:{};WRITE_DELAY=0;DB_CLOSE_ON_EXIT=FALSE",
            self.sandbox.path().join("schemas").display()
        ));
        command.args(["-Dquarkus.datasource.jdbc.initial-size=2", "-Dquarkus.datasource.jdbc.min-size=2"]);
        command.arg("-jar").arg(&self.program);
        Process::spawn("registry", command, &self.log())
    }
}
