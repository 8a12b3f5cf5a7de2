//! `schema`: the Avro schemas as files.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;

use super::{ConfigArgs, failed, runtime};
use crate::catalog::Catalog;
use crate::config::Config;
use crate::run::describe;
use crate::schema::{Difference, SchemaFilesError, Schemas};

#[derive(Clone, Debug, Args)]
pub(super) struct SchemaArgs {
    #[command(flatten)]
    pub(super) config: ConfigArgs,
    /// The folder of the files, one a schema.
    #[arg(long, value_name = "FOLDER", default_value = "schemas")]
    dir: PathBuf,
    /// Write nothing; show how the files differ from what would be written, and exit 1 if they do.
    #[arg(long)]
    check: bool,
}

/// Writes the files or compares them.
pub(super) fn run(config: &Config, args: &SchemaArgs) -> ExitCode {
    let schemas = match runtime() {
        Ok(runtime) => runtime.block_on(async {
            let mut catalog = Catalog::new(config.source.server.connect_options("penstock schema"));
            Schemas::of(config, &mut catalog).await
        }),
        Err(error) => return failed(&format!("cannot start: {error}"), None),
    };
    let done = schemas.and_then(|schemas| match args.check {
        true => check(&schemas, args),
        false => write(&schemas, args),
    });
    done.unwrap_or_else(|error| failed(&describe(&error), remedy(&error).as_deref()))
}

fn write(schemas: &Schemas, args: &SchemaArgs) -> Result<ExitCode, SchemaFilesError> {
    let strays = schemas.write(&args.dir)?;
    println!("{} schemas written to {}", schemas.count(), args.dir.display());
    for path in strays {
        eprintln!("penstock: {} belongs to no record; remove it", path.display());
    }
    Ok(ExitCode::SUCCESS)
}

fn check(schemas: &Schemas, args: &SchemaArgs) -> Result<ExitCode, SchemaFilesError> {
    let differences = schemas.compare(&args.dir)?;
    for (path, difference) in &differences {
        let path = path.display();
        match difference {
            Difference::Missing => println!("{path}: missing"),
            Difference::Stray => println!("{path}: belongs to no record"),
            Difference::Other(lines) => println!("{path}: differs (- the file, + the database)\n{lines}"),
        }
    }
    if differences.is_empty() {
        println!("{} schemas, as in {}", schemas.count(), args.dir.display());
        return Ok(ExitCode::SUCCESS);
    }
    Ok(failed(&format!("{} files differ", differences.len()), Some("`penstock schema` writes them anew.")))
}

fn remedy(error: &SchemaFilesError) -> Option<String> {
    match error {
        SchemaFilesError::Catalog(error) => Some(error.advice().to_owned()),
        SchemaFilesError::Table(fault) => Some(fault.remedy()),
        SchemaFilesError::Nothing | SchemaFilesError::Layout { .. } | SchemaFilesError::File { .. } => None,
    }
}
