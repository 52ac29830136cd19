//! Names like one that is not there, for the problem that says so. Pure.

/// As many are a help.
const MOST: usize = 5;

/// `there is a, b, c`: those most like `wanted` first.
pub(super) fn there_is<'a>(wanted: &str, names: impl IntoIterator<Item = &'a str>) -> String {
    let mut names: Vec<(f64, &str)> = names
        .into_iter()
        .map(|name| {
            let alike = strsim::normalized_damerau_levenshtein(&beginning(wanted), name);
            (alike, name)
        })
        .collect();
    // By name where they are equally like it: the answer is always the same.
    names.sort_by(|(a, one), (b, other)| b.total_cmp(a).then(one.cmp(other)));
    let best: Vec<&str> = names.iter().take(MOST).map(|(_, name)| *name).collect();
    match names.len().saturating_sub(MOST) {
        0 if best.is_empty() => "there is none".to_owned(),
        0 => format!("there is {}", best.join(", ")),
        more => format!("there is {} and {more} more", best.join(", ")),
    }
}

/// Longer than any name; comparing costs the product of both lengths.
fn beginning(wanted: &str) -> String {
    wanted.chars().take(64).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_most_alike_comes_first() {
        let names = ["chat", "edge", "game-node", "game-tls"];
        assert_eq!(
            there_is("game-nod", names),
            "there is game-node, game-tls, edge, chat"
        );
        assert_eq!(there_is("x", []), "there is none");
        let many: Vec<String> = (0..9).map(|n| format!("p{n}")).collect();
        let said = there_is("p7", many.iter().map(String::as_str));
        assert!(said.starts_with("there is p7, "), "{said}");
        assert!(said.ends_with(" and 4 more"), "{said}");
        assert!(there_is(&"x".repeat(1_000_000), names).len() < 100);
    }
}
