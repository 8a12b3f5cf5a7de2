//! As much of the Confluent API as Penstock's own writers and readers ask for, in memory.
//!
//! It accepts every schema: there is no compatibility rule. The same text under any subject has the same id.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use axum::Router;
use axum::extract::{Path, State};
use axum::http::{StatusCode, header};
use axum::response::IntoResponse;
use axum::routing::{get, post};
use serde_json::{Value, json};
use tokio::net::TcpListener;

/// A registry that has its port.
#[derive(Debug)]
pub(super) struct Registry {
    listener: TcpListener,
}

#[derive(Clone, Debug, Default)]
struct Schemas(Arc<Mutex<Known>>);

#[derive(Debug, Default)]
struct Known {
    /// Ids are places in this list, from 1.
    texts: Vec<String>,
    /// By subject, the ids of its versions.
    subjects: BTreeMap<String, Vec<usize>>,
}

type Answer = (StatusCode, [(header::HeaderName, &'static str); 1], String);

impl Registry {
    pub(super) async fn bind() -> std::io::Result<Self> {
        Ok(Self { listener: TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await? })
    }

    pub(super) fn url(&self) -> std::io::Result<String> {
        Ok(format!("http://{}", self.listener.local_addr()?))
    }

    pub(super) async fn serve(self) -> std::io::Result<()> {
        let routes = Router::new()
            .route("/subjects", get(subjects))
            .route("/subjects/{subject}/versions", post(register).get(versions))
            .route("/schemas/ids/{id}", get(by_id))
            .route("/config", get(|| async { answer(StatusCode::OK, &json!({ "compatibilityLevel": "NONE" })) }))
            .with_state(Schemas::default());
        axum::serve(self.listener, routes).await
    }
}

impl Schemas {
    fn lock(&self) -> MutexGuard<'_, Known> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Known {
    fn register(&mut self, subject: String, text: &str) -> usize {
        let id = match self.texts.iter().position(|known| known == text) {
            Some(place) => place + 1,
            None => {
                self.texts.push(text.to_owned());
                self.texts.len()
            }
        };
        let versions = self.subjects.entry(subject).or_default();
        if !versions.contains(&id) {
            versions.push(id);
        }
        id
    }

    fn text(&self, id: usize) -> Option<&str> {
        self.texts.get(id.checked_sub(1)?).map(String::as_str)
    }
}

async fn subjects(State(schemas): State<Schemas>) -> impl IntoResponse {
    let subjects: Vec<String> = schemas.lock().subjects.keys().cloned().collect();
    answer(StatusCode::OK, &json!(subjects))
}

async fn versions(State(schemas): State<Schemas>, Path(subject): Path<String>) -> impl IntoResponse {
    match schemas.lock().subjects.get(&subject) {
        Some(versions) => answer(StatusCode::OK, &json!((1..=versions.len()).collect::<Vec<usize>>())),
        None => refusal(StatusCode::NOT_FOUND, 40_401, "subject not found"),
    }
}

async fn register(State(schemas): State<Schemas>, Path(subject): Path<String>, body: String) -> impl IntoResponse {
    let json: Option<Value> = serde_json::from_str(&body).ok();
    match json.as_ref().and_then(|json| json.get("schema")).and_then(Value::as_str) {
        Some(text) => answer(StatusCode::OK, &json!({ "id": schemas.lock().register(subject, text) })),
        None => refusal(StatusCode::UNPROCESSABLE_ENTITY, 42_201, "no schema"),
    }
}

async fn by_id(State(schemas): State<Schemas>, Path(id): Path<usize>) -> impl IntoResponse {
    match schemas.lock().text(id) {
        Some(text) => answer(StatusCode::OK, &json!({ "schema": text })),
        None => refusal(StatusCode::NOT_FOUND, 40_403, "schema not found"),
    }
}

fn refusal(status: StatusCode, code: u32, message: &str) -> Answer {
    answer(status, &json!({ "error_code": code, "message": message }))
}

fn answer(status: StatusCode, body: &Value) -> Answer {
    let kind = [(header::CONTENT_TYPE, "application/vnd.schemaregistry.v1+json")];
    (status, kind, body.to_string())
}

#[cfg(test)]
mod tests {
    use super::Known;

    #[test]
    fn same_text_has_the_same_id_under_any_subject() {
        let mut known = Known::default();
        assert_eq!(known.register("a".to_owned(), "one"), 1);
        assert_eq!(known.register("a".to_owned(), "two"), 2);
        assert_eq!(known.register("b".to_owned(), "one"), 1);
        assert_eq!(known.register("b".to_owned(), "one"), 1);
        assert_eq!(known.subjects["b"], [1]);
        assert_eq!(known.text(2), Some("two"));
        assert_eq!((known.text(0), known.text(3)), (None, None));
    }
}
