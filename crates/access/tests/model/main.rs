//! An account against the rules: each rule by a case of its own, and a plain reference model over random histories.

mod answers;
mod asked;
mod build;
mod deadlines;
mod flows;
mod history;
mod knowledge;
mod oracle;
mod parents;
mod questions;
mod random;
mod reference;
mod rules;
mod unseen;
mod windows;
