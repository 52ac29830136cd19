//! Names like one that is not there. Pure; used where a refusal is told.

use serde_json::Value;

use crate::alike;

/// As many are a help.
const MOST: usize = 3;
/// Below that two names have nothing in common.
const ALIKE: f64 = 0.45;

/// The names in a list of the API, by which its items are found.
pub(crate) fn names(items: &[Value]) -> Vec<String> {
    let name = |item: &Value| {
        let found = ["name", "id", "number"]
            .iter()
            .find_map(|key| item.get(key));
        match found? {
            Value::String(text) => Some(text.clone()),
            Value::Number(number) => Some(number.to_string()),
            _ => None,
        }
    };
    items.iter().filter_map(name).collect()
}

/// `Did you mean a, b?`, when some are alike.
pub(crate) fn alike(wanted: &str, names: &[String]) -> Option<String> {
    let ranked = alike::ranked(wanted, names.iter().map(String::as_str)).into_iter();
    let best: Vec<&str> = ranked
        .filter(|(likeness, name)| *likeness >= ALIKE || name.starts_with(wanted))
        .map(|(_, name)| name)
        .take(MOST)
        .collect();
    (!best.is_empty()).then(|| format!("Did you mean {}?", best.join(", ")))
}

/// Those that are alike, or what there is.
pub(crate) fn words(wanted: &str, names: &[String]) -> String {
    alike(wanted, names).unwrap_or_else(|| match names {
        [] => "There is none yet.".to_owned(),
        few if few.len() <= MOST => format!("There is: {}.", few.join(", ")),
        many => format!("There are {} others.", many.len()),
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_most_alike_comes_first() {
        let names = ["edge", "game-tls", "game-node", "chat"].map(str::to_owned);
        assert_eq!(
            words("game-nod", &names),
            "Did you mean game-node, game-tls?"
        );
        assert_eq!(alike("zzz", &names), None);
        assert_eq!(words("zzz", &names), "There are 4 others.");
        assert_eq!(words("zzz", &names[..2]), "There is: edge, game-tls.");
        assert_eq!(words("zzz", &[]), "There is none yet.");
    }

    #[test]
    fn the_beginning_of_a_long_name_is_enough() {
        let names = ["0197c5e2-70aa-7aaa-8aaa-0123456789ab".to_owned()];
        assert!(words("0197c5", &names).contains("0123456789ab"));
    }

    #[test]
    fn items_go_by_name_id_or_number() {
        let items = [
            json!({ "name": "a" }),
            json!({ "id": "b" }),
            json!({ "number": 3 }),
        ];
        assert_eq!(names(&items), ["a", "b", "3"]);
    }
}
