//! Names like one that is not there, for the problem that says so. Pure.

use crate::alike;

/// As many are a help.
const MOST: usize = 5;

/// `there is a, b, c`: those most like `wanted` first.
pub(super) fn there_is<'a>(wanted: &str, names: impl IntoIterator<Item = &'a str>) -> String {
    let names = alike::ranked(wanted, names);
    let best: Vec<&str> = names.iter().take(MOST).map(|(_, name)| *name).collect();
    match names.len().saturating_sub(MOST) {
        0 if best.is_empty() => "there is none".to_owned(),
        0 => format!("there is {}", best.join(", ")),
        more => format!("there is {} and {more} more", best.join(", ")),
    }
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
