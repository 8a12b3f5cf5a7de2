//! The registry: whether it answers, keeps a compatibility rule, and would take today's schemas.

use super::Report;
use crate::catalog::Catalog;
use crate::config::Config;
use crate::registry::{Registry, RegistryError};
use crate::schema;

/// Whatever rule there is refuses this one after the real schema: the account changes its type, the other fields go.
const INCOMPATIBLE: &str = r#"{"type":"record","name":"ControlKey","namespace":"penstock.wire","fields":[{"name":"__account","type":"long"}]}"#;

/// What was seen, and whether it answers. Tables are looked at if there is a catalog to ask.
pub(super) async fn look(config: &Config, registry: &Registry, catalog: Option<&mut Catalog>) -> (Report, bool) {
    let mut report = Report::default();
    let answered = ask(config, registry, catalog, &mut report).await;
    if let Err(error) = &answered {
        report.stop("registry", error.to_string(), "start it, or correct [registry] in the configuration");
    }
    (report, answered.is_ok())
}

async fn ask(
    config: &Config,
    registry: &Registry,
    catalog: Option<&mut Catalog>,
    report: &mut Report,
) -> Result<(), RegistryError> {
    let subjects = registry.subjects().await?;
    let url = &config.registry.url;
    let known = format!("{}-penstock.wire.ControlKey", config.kafka.topic);
    // A registry tells its rule in ways of its own; what it would do is the same for all.
    let rule = match subjects.contains(&known) {
        false => "no schema of the topic is registered yet",
        true if registry.would_accept(&known, INCOMPATIBLE).await? => {
            report.warn(
                "registry",
                "it takes any change of a schema: a change of a table can leave readers unable to read",
                format!("curl -X PUT {url}/config -H 'Content-Type: application/json' -d '{{\"compatibility\": \"BACKWARD\"}}'"),
            );
            "keeps no compatibility rule"
        }
        true => "keeps a compatibility rule",
    };
    report.look("registry", format!("{} subjects at {url}, {rule}", subjects.len()));
    let Some(catalog) = catalog else { return Ok(()) };
    // Tables that have no schema are the catalog's findings.
    let tables = schema::captured(config, catalog).await.unwrap_or_default();
    for table in tables.values() {
        let Ok(plan) = schema::plan(table, config, catalog).await else { continue };
        let topic = &config.kafka.topic;
        for (subject, text) in
            [(plan.key_subject(topic), plan.key_schema()), (plan.envelope_subject(topic), plan.envelope_schema())]
        {
            if subjects.contains(&subject) && !registry.would_accept(&subject, text).await? {
                report.stop(
                    format!("table {}", table.name),
                    format!("the registry would refuse its schema: it is not compatible with what is registered under {subject}"),
                    "look at `penstock schema --check`; undo the change of the table, or change the subject's compatibility rule",
                );
            }
        }
    }
    Ok(())
}
