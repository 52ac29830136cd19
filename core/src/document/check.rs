//! What only shows between resources: references that lead nowhere, and pairs
//! of settings that cannot work together. A file for the kinds that have rules;
//! each rule is one line of cause and mend.

mod listeners;
mod pools;
mod tls;

use std::collections::BTreeSet;

use super::index::Index;
use super::read::{Kind, Places};
use super::{Document, Material, Mistake, Name};

/// Adds the mistakes between the resources that could be read.
pub(super) fn references(document: &Document, places: &Places, mistakes: &mut Vec<Mistake>) {
    let by_name = Index::of(document);
    for (index, listener) in places.listeners.indexes.iter().zip(&document.listeners) {
        let mut at = Place {
            base: format!("/listeners/{index}"),
            mistakes,
        };
        listeners::listener(listener, &by_name, places, &mut at);
    }
    for (index, pool) in places.pools.indexes.iter().zip(&document.pools) {
        let mut at = Place {
            base: format!("/pools/{index}"),
            mistakes,
        };
        pools::pool(pool, &by_name, places, &mut at);
    }
}

/// In a fleet chains and keys are uploaded, and the document names them.
pub(super) fn certificates_are_uploaded(
    document: &Document,
    places: &Places,
    uploaded: &BTreeSet<Name>,
    mistakes: &mut Vec<Mistake>,
) {
    let declared = places.certificates.indexes.iter();
    for (index, certificate) in declared.zip(&document.certificates) {
        let mut at = Place {
            base: format!("/certificates/{index}"),
            mistakes,
        };
        let name = &certificate.name;
        if !matches!(certificate.material, Material::Uploaded) {
            at.wrong(
                "",
                format!(
                    "chain and key do not belong in a fleet's document: write only the name here, \
                     and `tidegate cert upload {name} --chain FILE --key FILE`"
                ),
            );
        } else if !uploaded.contains(name) {
            at.wrong(
                "/name",
                format!(
                    "{name} was never uploaded: \
                     `tidegate cert upload {name} --chain FILE --key FILE` first"
                ),
            );
        }
    }
}

/// A resource under examination.
struct Place<'a> {
    base: String,
    mistakes: &'a mut Vec<Mistake>,
}

impl Place<'_> {
    fn wrong(&mut self, below: &str, message: impl Into<String>) {
        self.mistakes
            .push(Mistake::new(format!("{}{below}", self.base), message));
    }

    /// Fields that are written and do not belong here, all for the same reason.
    fn foreign(&mut self, fields: &[(&str, bool)], why: &str) {
        for (below, is_written) in fields {
            if *is_written {
                self.wrong(below, why);
            }
        }
    }

    fn refers(&mut self, below: &str, what: &str, name: &Name, kind: &Kind) {
        if kind.names.contains(name) {
            return;
        }
        let there: Vec<&str> = kind.names.iter().map(Name::as_str).take(10).collect();
        let mend = match there.as_slice() {
            [] => format!("the document has no {what}: add it"),
            there => format!("there is {}", there.join(", ")),
        };
        self.wrong(below, format!("no {what} is named {name}; {mend}"));
    }
}

#[cfg(test)]
mod tests;
