//! Routes by server name: which of a listener's pools a client asks for.
//!
//! Owns the matching. Names and wildcards were validated when the document was
//! read, and names of clients when the hello was
//! ([`client_hello`](crate::client_hello)). Called once per connection of a
//! listener with routes.

use std::borrow::Cow;
use std::collections::BTreeMap;

/// From names to whatever they lead to.
#[derive(Clone, Debug)]
pub struct Routes<T> {
    exact: BTreeMap<Box<str>, T>,
    /// By what follows `*.`.
    below: BTreeMap<Box<str>, T>,
}

impl<T> Routes<T> {
    /// Of patterns: `play.example.com` is that name; `*.example.com` is every name
    /// below `example.com`, however deep, and not `example.com` itself. Refuses
    /// nothing; of two equal patterns the first holds.
    pub fn new<P: AsRef<str>>(patterns: impl IntoIterator<Item = (P, T)>) -> Self {
        let (mut exact, mut below) = (BTreeMap::new(), BTreeMap::new());
        for (pattern, to) in patterns {
            let pattern = pattern.as_ref().to_ascii_lowercase();
            let (names, name) = match pattern.strip_prefix("*.") {
                Some(suffix) => (&mut below, suffix),
                None => (&mut exact, pattern.as_str()),
            };
            names.entry(Box::from(name)).or_insert(to);
        }
        Self { exact, below }
    }

    /// Everything that some name leads to.
    pub fn iter(&self) -> impl Iterator<Item = &T> {
        self.exact.values().chain(self.below.values())
    }

    /// Where `name` leads: an exact name before any wildcard, and of these the
    /// longest. Case makes no difference.
    pub fn find(&self, name: &str) -> Option<&T> {
        let name = if name.bytes().any(|byte| byte.is_ascii_uppercase()) {
            Cow::Owned(name.to_ascii_lowercase())
        } else {
            Cow::Borrowed(name)
        };
        self.exact.get(&*name).or_else(|| {
            // The longest suffix is the one after the first dot.
            let mut rest = &*name;
            while let Some((label, suffix)) = rest.split_once('.') {
                rest = suffix;
                if let Some(to) = self.below.get(suffix).filter(|_| !label.is_empty()) {
                    return Some(to);
                }
            }
            None
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn exact_names_come_before_the_longest_wildcard() {
        let routes = Routes::new([
            ("*.example.com", "any"),
            ("play.example.com", "play"),
            ("*.eu.Example.com", "eu"),
            ("example.org", "org"),
            ("*.play.example.com", "below play"),
            ("PLAY.example.com", "second"),
        ]);
        for (name, to) in [
            ("play.example.com", Some("play")),
            ("Play.EXAMPLE.com", Some("play")),
            ("a.example.com", Some("any")),
            ("a.b.c.example.com", Some("any")),
            ("a.eu.example.com", Some("eu")),
            ("a.b.eu.example.com", Some("eu")),
            ("eu.example.com", Some("any")),
            ("a.play.example.com", Some("below play")),
            ("example.com", None),
            (".example.com", None),
            ("aexample.com", None),
            ("com", None),
            ("", None),
            ("example.org", Some("org")),
            ("a.example.org", None),
        ] {
            assert_eq!(routes.find(name).copied(), to, "{name}");
        }
    }

    fn name() -> impl Strategy<Value = String> {
        proptest::collection::vec(prop::sample::select(vec!["a", "b", "C", "xn--d"]), 1..5)
            .prop_map(|labels| labels.join("."))
    }

    proptest! {
        #[test]
        fn finding_is_a_scan(
            patterns in proptest::collection::vec((any::<bool>(), name()), 0..12),
            names in proptest::collection::vec(name(), 1..20),
        ) {
            let written: Vec<String> = patterns
                .into_iter()
                .map(|(wild, name)| if wild { format!("*.{name}") } else { name })
                .collect();
            let routes = Routes::new(written.iter().zip(0..));
            for name in names {
                let matches = |pattern: &&String| match pattern.strip_prefix('*') {
                    Some(suffix) => name.to_lowercase().ends_with(&suffix.to_lowercase()),
                    None => pattern.eq_ignore_ascii_case(&name),
                };
                // Exact first, then the longest; of equals the first.
                let best = written
                    .iter()
                    .filter(matches)
                    .min_by_key(|p| (p.starts_with('*'), std::cmp::Reverse(p.len())));
                let found = routes.find(&name).map(|&i: &usize| &written[i]);
                prop_assert_eq!(found, best);
            }
        }
    }
}
