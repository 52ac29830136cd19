//! Which names are most like one that is not there. Pure; for refusals that help.

/// Longer than any name; comparing costs the product of both lengths.
const LONGEST: usize = 64;

/// Every name with its likeness to `wanted`, from 0 to 1, most alike first.
pub(crate) fn ranked<'a>(
    wanted: &str,
    names: impl IntoIterator<Item = &'a str>,
) -> Vec<(f64, &'a str)> {
    let wanted: String = wanted.chars().take(LONGEST).collect();
    let alike = |name| strsim::normalized_damerau_levenshtein(&wanted, name);
    let mut ranked: Vec<(f64, &str)> = names.into_iter().map(|name| (alike(name), name)).collect();
    // By name where they are equally like it: the answer is always the same.
    ranked.sort_by(|(a, one), (b, other)| b.total_cmp(a).then(one.cmp(other)));
    ranked
}
