//! Round robin: the smooth weighted one of nginx, with its memory.
//!
//! Owns the credits, one per backend, by index. Who may get a turn is for
//! [`Picker`](super::Picker).

use super::Candidate;

/// A backend's account in the smooth weighted round robin of nginx
/// (`ngx_http_upstream_get_peer`).
///
/// Invariant while weights stay: the credits sum to zero, whoever is eligible.
/// So, with T the sum of all weights of `n` backends, each is within
/// `±T * (n - 1)` whatever the sequence of eligible subsets.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Turn {
    pub(super) credit: i64,
    /// As last seen; 0 before.
    weight: u32,
}

/// Everyone eligible earns its weight, the richest is chosen and pays what all
/// earned. With one set from the start no credit falls to -T, so that over T picks
/// each is chosen exactly as often as its weight says; after other sets it may be
/// out by what credit is left, once, at most 2 * (n - 1) picks.
pub(super) fn take<'a>(
    turns: &mut Vec<Turn>,
    backends: usize,
    eligible: impl Iterator<Item = &'a Candidate>,
) -> Option<usize> {
    if turns.len() != backends {
        turns.clear();
        turns.resize(backends, Turn::default());
    }
    let (mut earned, mut reweighted) = (0, false);
    let mut richest: Option<(usize, i64)> = None;
    for &Candidate { index, load, .. } in eligible {
        let turn = turns.get_mut(index)?;
        reweighted |= turn.weight != load.weight;
        turn.weight = load.weight;
        turn.credit += i64::from(turn.weight);
        earned += i64::from(turn.weight);
        if richest.is_none_or(|(_, credit)| turn.credit > credit) {
            richest = Some((index, turn.credit));
        }
    }
    let (picked, _) = richest?;
    turns.get_mut(picked)?.credit -= earned;
    if reweighted {
        // Credit earned under heavier weights would starve others for as many
        // picks as the old weights were large; one round's worth may stay.
        let total = turns.iter().map(|turn| i64::from(turn.weight)).sum::<i64>();
        for turn in turns {
            turn.credit = turn.credit.clamp(-total, total);
        }
    }
    Some(picked)
}
