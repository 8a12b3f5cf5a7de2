//! Records as the bridge writes them, decoded into rows.

mod damage;
mod documents;
mod evolution;
mod fixture;
mod liveness;
mod oracle;
mod records;
