//! What differs between two snapshots, by kind and name: for the event an agent
//! logs when it applies one, and for people who ask before they apply.

mod documents;

use std::collections::BTreeMap;
use std::fmt;

use crate::document::Name;
use crate::snapshot::{Certificate, Listener, Pool, Snapshot};

pub use documents::{FieldChange, Kind, ResourceChange, documents};

/// The differences of two snapshots.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Diff {
    /// Of listeners.
    pub listeners: Changes,
    /// Of pools.
    pub pools: Changes,
    /// Of certificates.
    pub certificates: Changes,
}

/// The differences of one kind, by name, sorted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Changes {
    /// Only in the new one.
    pub added: Vec<Name>,
    /// Only in the old one.
    pub removed: Vec<Name>,
    /// In both, with another content.
    pub changed: Vec<Name>,
}

impl Diff {
    /// What has to happen to get from `old` to `new`.
    pub fn between(old: &Snapshot, new: &Snapshot) -> Self {
        Self {
            listeners: Changes::between(&old.listeners, &new.listeners),
            pools: Changes::between(&old.pools, &new.pools),
            certificates: Changes::between(&old.certificates, &new.certificates),
        }
    }

    /// Whether nothing differs.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

impl fmt::Display for Diff {
    /// `+listener edge ~pool game -certificate old`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kinds = [
            ("listener", &self.listeners),
            ("pool", &self.pools),
            ("certificate", &self.certificates),
        ];
        let mut gap = "";
        for (kind, changes) in kinds {
            let signs = [
                ('+', &changes.added),
                ('~', &changes.changed),
                ('-', &changes.removed),
            ];
            for (sign, names) in signs {
                for name in names {
                    write!(f, "{gap}{sign}{kind} {name}")?;
                    gap = " ";
                }
            }
        }
        if gap.is_empty() {
            f.write_str("nothing")
        } else {
            Ok(())
        }
    }
}

impl Changes {
    fn between<T: Named + PartialEq>(old: &[T], new: &[T]) -> Self {
        let old: BTreeMap<&Name, &T> = old.iter().map(|r| (r.name(), r)).collect();
        let new: BTreeMap<&Name, &T> = new.iter().map(|r| (r.name(), r)).collect();
        let missing_in = |there: &BTreeMap<&Name, &T>, here: &BTreeMap<&Name, &T>| {
            here.keys()
                .filter(|n| !there.contains_key(*n))
                .map(|n| (*n).clone())
                .collect()
        };
        Self {
            added: missing_in(&old, &new),
            removed: missing_in(&new, &old),
            changed: new
                .iter()
                .filter(|(name, resource)| old.get(*name).is_some_and(|o| o != *resource))
                .map(|(name, _)| (*name).clone())
                .collect(),
        }
    }
}

trait Named {
    fn name(&self) -> &Name;
}

impl Named for Listener {
    fn name(&self) -> &Name {
        &self.name
    }
}

impl Named for Pool {
    fn name(&self) -> &Name {
        &self.name
    }
}

impl Named for Certificate {
    fn name(&self) -> &Name {
        &self.name
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::snapshot::Fingerprint;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    fn certificates(versions: &BTreeMap<u8, u8>) -> Snapshot {
        let certificates = versions
            .iter()
            .map(|(name, version)| Certificate {
                name: format!("c{name}").parse().unwrap(),
                fingerprint: Fingerprint::of(&[*version]),
                chain: String::new(),
            })
            .collect();
        Snapshot {
            certificates,
            ..Snapshot::default()
        }
    }

    #[test]
    fn a_diff_reads_as_one_line() {
        let old = certificates(&[(1, 1), (2, 1)].into());
        let new = certificates(&[(2, 2), (3, 1)].into());
        let diff = Diff::between(&old, &new);
        assert_eq!(
            diff.to_string(),
            "+certificate c3 ~certificate c2 -certificate c1"
        );
        assert_eq!(Diff::between(&old, &old).to_string(), "nothing");
    }

    proptest! {
        #[test]
        fn every_name_is_in_exactly_the_right_list(
            old in proptest::collection::btree_map(0..20u8, 0..3u8, 0..12),
            new in proptest::collection::btree_map(0..20u8, 0..3u8, 0..12),
        ) {
            let diff = Diff::between(&certificates(&old), &certificates(&new));
            let expect = |f: &dyn Fn(u8) -> bool| -> BTreeSet<String> {
                (0..20).filter(|n| f(*n)).map(|n| format!("c{n}")).collect()
            };
            let names = |l: &[Name]| -> BTreeSet<String> { l.iter().map(Name::to_string).collect() };
            let (o, n) = (|k| old.get(&k), |k| new.get(&k));
            prop_assert_eq!(names(&diff.certificates.added),
                expect(&|k| o(k).is_none() && n(k).is_some()));
            prop_assert_eq!(names(&diff.certificates.removed),
                expect(&|k| o(k).is_some() && n(k).is_none()));
            prop_assert_eq!(names(&diff.certificates.changed),
                expect(&|k| o(k).is_some() && n(k).is_some() && o(k) != n(k)));
            prop_assert_eq!(diff.is_empty(), old == new);
        }
    }
}
