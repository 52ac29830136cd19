use super::*;
use crate::keyed::HashKey;
use proptest::prelude::*;

/// Up, open and idle, of this weight in a document.
fn view(weight: u32, in_flight: u32) -> View {
    View {
        open: true,
        up: true,
        ejected: false,
        weight: weight << 8,
        in_flight,
        limit: None,
        backup: false,
    }
}

const UP: View = View {
    open: true,
    up: true,
    ejected: false,
    weight: 256,
    in_flight: 0,
    limit: None,
    backup: false,
};
const DOWN: View = View { up: false, ..UP };
const CLOSED: View = View { open: false, ..UP };
const EJECTED: View = View {
    ejected: true,
    ..UP
};
const WEIGHTLESS: View = View { weight: 0, ..UP };
const FULL: View = View {
    in_flight: 3,
    limit: Some(3),
    ..UP
};
const BACKUP: View = View { backup: true, ..UP };

fn key() -> HashKey {
    HashKey::new(*b"a secret of ours")
}

fn names(count: usize) -> Vec<String> {
    (0..count).map(|i| format!("10.0.0.{i}:8443")).collect()
}

fn table_of(names: &[String], weights: impl Fn(usize) -> u32) -> SourceTable {
    let entry = |(i, name)| Entry {
        name,
        weight: weights(i),
        backup: false,
    };
    SourceTable::new(
        &key(),
        names.iter().map(String::as_str).enumerate().map(entry),
    )
}

fn method(balance: Balance, backends: usize) -> Method {
    match balance {
        Balance::LeastConnections => Method::LeastConnections,
        Balance::RoundRobin => Method::RoundRobin,
        Balance::RandomTwo => Method::RandomTwo,
        Balance::SourceHash => Method::SourceHash {
            table: Arc::new(table_of(&names(backends), |_| 1)),
            bounded_load: None,
        },
    }
}

fn picker(method: Method, start: usize) -> Picker {
    let rules = Rules {
        method,
        backups: Backups::First,
        all_down: AllDown::Backup,
    };
    Picker::new(rules, start)
}

const ALL: [Balance; 4] = [
    Balance::LeastConnections,
    Balance::RoundRobin,
    Balance::RandomTwo,
    Balance::SourceHash,
];

fn ask(draw: u64) -> Ask {
    Ask {
        hash: crate::keyed::mix(draw),
        draw: crate::keyed::mix(!draw),
    }
}

fn chosen(choice: Choice) -> Option<usize> {
    match choice {
        Choice::Backend { index, .. } => Some(index),
        Choice::Full { .. } | Choice::Nobody => None,
    }
}

fn picks(picker: &mut Picker, views: &[View], count: usize) -> Vec<usize> {
    (0..count)
        .filter_map(|i| chosen(picker.choose(ask(i as u64), &[], views.len(), |i| views[i])))
        .collect()
}

fn weighted(weights: &[u32]) -> Vec<View> {
    weights.iter().map(|&weight| view(weight, 0)).collect()
}

fn tally(picks: &[usize], len: usize) -> Vec<usize> {
    let mut counts = vec![0; len];
    for &picked in picks {
        counts[picked] += 1;
    }
    counts
}

#[test]
fn an_empty_pool_has_nobody() {
    for balance in ALL {
        let mut picker = picker(method(balance, 0), 7);
        let choice = picker.choose(ask(1), &[], 0, |_| UP);
        assert_eq!(choice, Choice::Nobody, "{balance:?}");
    }
}

/// Who may get the connection, of how many tried, under which rules.
#[test]
fn tiers_are_a_table() {
    use AllDown::{FailOpen, Refuse};
    use Tier::{Backup, Primary};
    let by_default = (Backups::First, AllDown::Backup);
    let some = |tier, any_of: &'static [usize]| Ok((tier, any_of));
    let full = |tier| Err(Choice::Full { tier });
    let nobody = Err(Choice::Nobody);
    type Expected = Result<(Tier, &'static [usize]), Choice>;
    type Row<'a> = (&'a [View], &'a [usize], (Backups, AllDown), Expected);
    let rows: &[Row<'_>] = &[
        (&[UP, UP], &[], by_default, some(Primary, &[0, 1])),
        (&[UP, DOWN], &[], by_default, some(Primary, &[0])),
        (&[CLOSED, UP], &[], by_default, some(Primary, &[1])),
        (&[WEIGHTLESS, UP], &[], by_default, some(Primary, &[1])),
        (&[EJECTED, UP], &[], by_default, some(Primary, &[1])),
        (&[UP, UP], &[0], by_default, some(Primary, &[1])),
        (&[UP, UP], &[0, 1], by_default, nobody),
        (&[CLOSED, WEIGHTLESS], &[], by_default, nobody),
        // Backups: not while a primary is up, tried or full.
        (&[UP, BACKUP], &[], by_default, some(Primary, &[0])),
        (&[DOWN, BACKUP], &[], by_default, some(Backup, &[1])),
        (&[FULL, BACKUP], &[], by_default, full(Primary)),
        (&[UP, FULL, BACKUP], &[0], by_default, full(Primary)),
        (&[UP, UP, BACKUP], &[0], by_default, some(Primary, &[1])),
        (&[UP, BACKUP], &[0], by_default, some(Backup, &[1])),
        (&[DOWN, BACKUP, BACKUP], &[], by_default, some(Backup, &[1])),
        (
            &[DOWN, BACKUP, BACKUP],
            &[1],
            by_default,
            some(Backup, &[2]),
        ),
        (
            &[DOWN, BACKUP, BACKUP],
            &[],
            (Backups::All, AllDown::Backup),
            some(Backup, &[1, 2]),
        ),
        (
            &[
                View {
                    backup: true,
                    ..FULL
                },
                BACKUP,
            ],
            &[],
            by_default,
            full(Backup),
        ),
        (
            &[
                View {
                    backup: true,
                    ..FULL
                },
                BACKUP,
            ],
            &[],
            (Backups::All, AllDown::Backup),
            some(Backup, &[1]),
        ),
        (
            &[
                View {
                    backup: true,
                    ..CLOSED
                },
                BACKUP,
            ],
            &[],
            by_default,
            some(Backup, &[1]),
        ),
        (
            &[
                View {
                    backup: true,
                    ..EJECTED
                },
                BACKUP,
            ],
            &[],
            by_default,
            some(Backup, &[1]),
        ),
        // Ejection is a guess: ignored when it takes all, and rather than nobody.
        (
            &[EJECTED, EJECTED, DOWN, BACKUP],
            &[],
            by_default,
            some(Primary, &[0, 1]),
        ),
        (&[EJECTED, UP], &[1], by_default, some(Primary, &[0])),
        (&[EJECTED, UP, BACKUP], &[1], by_default, some(Backup, &[2])),
        (
            &[EJECTED, UP, BACKUP],
            &[1, 2],
            by_default,
            some(Primary, &[0]),
        ),
        (
            &[
                DOWN,
                View {
                    backup: true,
                    ..EJECTED
                },
            ],
            &[],
            by_default,
            some(Backup, &[1]),
        ),
        (&[EJECTED, FULL], &[], by_default, full(Primary)),
        // All down.
        (&[DOWN, DOWN], &[], by_default, nobody),
        (&[DOWN, BACKUP], &[], (Backups::First, Refuse), nobody),
        (
            &[DOWN, UP],
            &[],
            (Backups::First, Refuse),
            some(Primary, &[1]),
        ),
        (
            &[DOWN, BACKUP],
            &[],
            (Backups::First, FailOpen),
            some(Backup, &[1]),
        ),
        (
            &[DOWN, DOWN, CLOSED, View { weight: 0, ..DOWN }],
            &[],
            (Backups::First, FailOpen),
            some(Tier::FailOpen, &[0, 1]),
        ),
        (
            &[
                View {
                    ejected: true,
                    ..DOWN
                },
                View {
                    backup: true,
                    ..DOWN
                },
            ],
            &[],
            (Backups::First, FailOpen),
            some(Tier::FailOpen, &[0, 1]),
        ),
        (
            &[View { up: false, ..FULL }],
            &[],
            (Backups::First, FailOpen),
            full(Tier::FailOpen),
        ),
    ];
    for (row, (views, tried, (backups, all_down), expected)) in rows.iter().enumerate() {
        for (balance, draw) in ALL.into_iter().flat_map(|b| (0..20).map(move |d| (b, d))) {
            let rules = Rules {
                method: method(balance, views.len()),
                backups: *backups,
                all_down: *all_down,
            };
            let start = usize::try_from(draw).unwrap();
            let choice =
                Picker::new(rules, start).choose(ask(draw), tried, views.len(), |i| views[i]);
            match (choice, expected) {
                (Choice::Backend { index, tier }, Ok((expected, any_of))) => {
                    assert_eq!(tier, *expected, "row {row}, {balance:?}");
                    assert!(any_of.contains(&index), "row {row}, {balance:?}: {index}");
                }
                (choice, Ok(expected)) => {
                    panic!("row {row}, {balance:?}: {choice:?}, not {expected:?}")
                }
                (choice, Err(expected)) => assert_eq!(choice, *expected, "row {row}, {balance:?}"),
            }
        }
    }
}

#[test]
fn least_is_least_for_its_weight() {
    let slow = |in_flight| View {
        weight: 64,
        in_flight,
        ..UP
    };
    for (views, least) in [
        (vec![view(1, 3), view(1, 2), view(1, 4)], 1),
        (vec![view(1, 0), view(100, 0)], 0),
        (vec![view(1, 0), view(100, 1)], 0),
        (vec![view(1, 1), view(100, 198)], 1),
        (vec![view(1, 1), view(100, 200)], 0),
        (vec![view(65535, u32::MAX), view(65535, u32::MAX - 1)], 1),
        (vec![view(1, u32::MAX), view(65535, u32::MAX)], 1),
        // A quarter of a unit: slow start.
        (vec![slow(1), view(1, 6)], 1),
        (vec![slow(1), view(1, 8)], 0),
    ] {
        let mut picker = picker(Method::LeastConnections, 0);
        let choice = picker.choose(ask(0), &[], views.len(), |i| views[i]);
        assert_eq!(chosen(choice), Some(least), "{views:?}");
    }
}

#[test]
fn round_robin_is_smooth() {
    for (weights, start, order) in [
        (vec![5, 1, 1], 0, vec![0, 0, 1, 0, 2, 0, 0]),
        (vec![1, 1, 1], 0, vec![0, 1, 2, 0, 1, 2]),
        (vec![1, 1, 1], 2, vec![2, 0, 1, 2, 0, 1]),
        (vec![2, 1], 10, vec![0, 1, 0]),
        (vec![7], 3, vec![0, 0]),
    ] {
        let mut picker = picker(Method::RoundRobin, start);
        let picked = picks(&mut picker, &weighted(&weights), order.len());
        assert_eq!(picked, order, "{weights:?}");
    }
}

#[test]
fn a_pool_that_grows_goes_on_after_its_last_pick() {
    let mut picker = picker(Method::RoundRobin, 0);
    assert_eq!(picks(&mut picker, &weighted(&[1, 1]), 1), [0]);
    assert_eq!(picks(&mut picker, &weighted(&[1, 1, 1]), 4), [1, 2, 0, 1]);
    assert_eq!(picks(&mut picker, &weighted(&[1]), 2), [0, 0]);
}

#[test]
fn new_rules_leave_the_turns_where_they_stood() {
    let mut picker = picker(Method::RoundRobin, 0);
    assert_eq!(picks(&mut picker, &weighted(&[2, 1]), 2), [0, 1]);
    picker.follow(Rules {
        all_down: AllDown::FailOpen,
        ..picker.rules.clone()
    });
    assert_eq!(picks(&mut picker, &weighted(&[2, 1]), 2), [0, 0]);
    let down = [View { up: false, ..UP }; 2];
    assert_eq!(picks(&mut picker, &down, 1).len(), 1);
}

#[test]
fn a_lower_weight_does_not_leave_anyone_starving() {
    let mut picker = picker(Method::RoundRobin, 0);
    picks(&mut picker, &weighted(&[65535, 65534, 1]), 50_001);
    let counts = tally(&picks(&mut picker, &weighted(&[1, 1, 1]), 30), 3);
    assert!(
        counts.iter().all(|count| (8..=12).contains(count)),
        "{counts:?}"
    );
}

#[test]
fn the_less_loaded_of_two_is_drawn_by_weight() {
    let mut picker = picker(Method::RandomTwo, 0);
    // Two backends: always the less loaded, however it was drawn.
    assert_eq!(picks(&mut picker, &[view(1, 5), view(1, 4)], 100), [1; 100]);
    assert_eq!(picks(&mut picker, &[view(4, 5), view(1, 4)], 100), [0; 100]);
    // The most loaded of three is never the less loaded of two.
    let counts = tally(
        &picks(&mut picker, &[view(1, 9), view(1, 2), view(1, 2)], 3_000),
        3,
    );
    assert_eq!(counts[0], 0);
    assert!(counts[1].abs_diff(counts[2]) < 200, "{counts:?}");
    // Loads in proportion to weights: the first draw decides, by weight.
    let views = [view(8, 15), view(1, 1), view(1, 1)];
    let counts = tally(&picks(&mut picker, &views, 10_000), 3);
    assert!(counts[0].abs_diff(8_000) < 200, "{counts:?}");
}

/// Held connections are spread almost evenly, unlike by one random draw.
#[test]
fn two_choices_keep_loads_together() {
    let mut loads = vec![UP; 100];
    let mut picker = picker(Method::RandomTwo, 0);
    for draw in 0..10_000 {
        let choice = picker.choose(ask(draw), &[], loads.len(), |i| loads[i]);
        loads[chosen(choice).unwrap()].in_flight += 1;
    }
    let most = loads.iter().map(|l| l.in_flight).max().unwrap();
    assert!(most <= 105, "{most} where the mean is 100");
}

fn map(views: &[View], method: &Method, clients: u64) -> Vec<usize> {
    let mut picker = picker(method.clone(), 0);
    (0..clients)
        .map(|c| chosen(picker.choose(ask(c), &[], views.len(), |i| views[i])).unwrap())
        .collect()
}

#[test]
fn slots_follow_weights() {
    for weights in [
        vec![1; 7],
        vec![1, 2, 3, 4],
        vec![256, 1, 1, 1],
        vec![3, 3, 256, 256, 100],
        (1..=200).collect(),
    ] {
        let table = table_of(&names(weights.len()), |i| weights[i]);
        let total: u32 = weights.iter().sum();
        let slots: Vec<_> = table.slots.iter().map(|&b| b as usize).collect();
        for (i, count) in tally(&slots, weights.len()).into_iter().enumerate() {
            let fair = slots.len() as f64 * f64::from(weights[i]) / f64::from(total);
            let off = (count as f64 - fair).abs();
            assert!(
                off <= 2.0 + fair / 50.0,
                "{count} slots, not {fair:.1}, of weight {} in {weights:?}",
                weights[i]
            );
        }
    }
}

#[test]
fn backups_and_weightless_backends_have_no_slots() {
    let entry = |name, weight, backup| Entry {
        name,
        weight,
        backup,
    };
    let table = |entries: &[Entry<'_>]| SourceTable::new(&key(), entries.iter().copied());
    let mixed = table(&[
        entry("a", 1, true),
        entry("b", 0, false),
        entry("c", 9, false),
    ]);
    assert!(mixed.slots.iter().all(|&b| b == 2));
    for none in [
        table(&[]),
        table(&[entry("a", 1, true), entry("b", 0, false)]),
    ] {
        assert_eq!(none.slots.len(), 0);
        assert_eq!(none.preferences(7).count(), 0);
    }
}

#[test]
fn a_table_has_enough_slots_and_seldom_another_size() {
    for (backends, size) in [
        (1, 8_191),
        (81, 8_191),
        (82, 131_071),
        (1_310, 131_071),
        (1_311, 524_287),
        (20_000, 524_287),
    ] {
        let table = table_of(&names(backends), |_| 1);
        assert_eq!(table.slots.len(), size);
    }
}

#[test]
fn another_key_makes_another_table() {
    let names = names(10);
    let entries = || {
        names.iter().map(|name| Entry {
            name,
            weight: 1,
            backup: false,
        })
    };
    let other = SourceTable::new(&HashKey::new([0; 16]), entries());
    assert_ne!(table_of(&names, |_| 1).slots, other.slots);
}

/// Of 100 backends one goes down: its clients move, all others stay, and the
/// clients that moved are spread over all others.
#[test]
fn only_clients_of_an_unusable_backend_move() {
    let method = method(Balance::SourceHash, 100);
    let before = map(&[UP; 100], &method, 20_000);
    let mut views = [UP; 100];
    views[42] = DOWN;
    let after = map(&views, &method, 20_000);
    let mut heirs = std::collections::BTreeSet::new();
    for (before, after) in before.into_iter().zip(after) {
        if before == 42 {
            assert_ne!(after, 42);
            heirs.insert(after);
        } else {
            assert_eq!(before, after);
        }
    }
    assert!(heirs.len() > 70, "{}", heirs.len());
}

/// Even when hardly any preference is usable, the same everywhere.
#[test]
fn the_last_usable_backends_share_all_clients() {
    let method = method(Balance::SourceHash, 100);
    let mut views = [DOWN; 100];
    for usable in [3, 50, 99] {
        views[usable] = UP;
    }
    let counts = tally(&map(&views, &method, 3_000), 100);
    for usable in [3, 50, 99] {
        assert!(counts[usable].abs_diff(1_000) < 150, "{}", counts[usable]);
    }
}

#[test]
fn backups_keep_their_clients_too() {
    let names = names(6);
    let entry = |i: usize| Entry {
        name: &names[i],
        weight: if i == 5 { 2 } else { 1 },
        backup: i > 2,
    };
    let rules = |order: &[usize]| Rules {
        method: Method::SourceHash {
            table: Arc::new(SourceTable::new(&key(), order.iter().map(|&i| entry(i)))),
            bounded_load: None,
        },
        backups: Backups::All,
        all_down: AllDown::Backup,
    };
    let (order, other) = ([0, 1, 2, 3, 4, 5], [5, 3, 1, 0, 4, 2]);
    let mut one = Picker::new(rules(&order), 0);
    let mut two = Picker::new(rules(&other), 0);
    let view = |i: usize| if i > 2 { BACKUP } else { DOWN };
    let mut counts = [0; 6];
    for client in 0..8_000 {
        let here = chosen(one.choose(ask(client), &[], 6, |i| view(order[i]))).unwrap();
        let there = chosen(two.choose(ask(client), &[], 6, |i| view(other[i]))).unwrap();
        assert_eq!(order[here], other[there]);
        counts[order[here]] += 1;
    }
    assert_eq!(counts[..3], [0; 3]);
    assert!(
        counts[3] > 1_800 && counts[4] > 1_800 && counts[5] > 3_700,
        "{counts:?}"
    );
}

#[test]
fn a_full_backend_is_passed_over_for_the_same_other_one() {
    let method = method(Balance::SourceHash, 10);
    let full = map(&[UP; 10].map(|_| UP), &method, 1)[0];
    let mut views = [UP; 10];
    views[full] = FULL;
    let first = map(&views, &method, 1)[0];
    assert_ne!(first, full);
    views[full] = DOWN;
    assert_eq!(map(&views, &method, 1)[0], first);
}

/// A generous bound, for a build without optimisation beside other tests; the
/// figure of a release build is in the commit.
#[test]
fn a_table_of_10_000_backends_is_built_in_no_time() {
    let names = names(10_000);
    #[expect(clippy::disallowed_methods, reason = "it is the clock that is asked")]
    let begun = std::time::Instant::now();
    let table = table_of(&names, |i| 1 + u32::try_from(i % 3).unwrap());
    #[expect(clippy::disallowed_methods, reason = "it is the clock that is asked")]
    let took = begun.elapsed();
    assert_eq!(table.slots.len(), 524_287);
    println!("10,000 backends: {took:?}");
    assert!(took.as_secs() < 2, "{took:?}");
}

fn any_view() -> impl Strategy<Value = View> {
    (
        proptest::array::uniform4(prop::bool::weighted(0.75)),
        0u32..4,
        0u32..50,
        proptest::option::of(1u32..50),
    )
        .prop_map(
            |([open, up, in_use, primary], weight, in_flight, limit)| View {
                open,
                up,
                ejected: !in_use,
                weight: weight << 8,
                in_flight,
                limit,
                backup: !primary,
            },
        )
}

fn any_usable() -> impl Strategy<Value = View> {
    let limit = proptest::option::of(1u32..30);
    (1u32..=256, 0u32..50, limit).prop_map(|(weight, in_flight, limit)| View {
        limit,
        ..view(weight, in_flight)
    })
}

fn any_rules() -> impl Strategy<Value = (Backups, AllDown)> {
    (
        prop::sample::select(vec![Backups::First, Backups::All]),
        prop::sample::select(vec![AllDown::Backup, AllDown::FailOpen, AllDown::Refuse]),
    )
}

/// The rules in one sentence each, without regard to speed: whoever is left by
/// the last of these that leaves anybody untried.
fn model(views: &[View], tried: &[usize], (backups, all_down): (Backups, AllDown)) -> Vec<usize> {
    let all = || (0..views.len()).filter(|&i| views[i].open && views[i].weight > 0);
    let up = |backup: bool, ejected: bool| {
        all()
            .filter(|&i| views[i].up && views[i].backup == backup && views[i].ejected == ejected)
            .collect::<Vec<_>>()
    };
    let first = |mut some: Vec<usize>| {
        some.retain(|i| !tried.contains(i));
        some.truncate(if backups == Backups::First {
            1
        } else {
            usize::MAX
        });
        some
    };
    let mut stages = vec![up(false, false)];
    if stages[0].is_empty() {
        stages.push(up(false, true));
    }
    if all_down != AllDown::Refuse {
        stages.push(first(up(true, false)));
    }
    stages.push(up(false, true));
    if all_down != AllDown::Refuse {
        stages.push(first(up(true, true)));
    }
    if all_down == AllDown::FailOpen {
        stages.push(all().collect());
    }
    stages
        .into_iter()
        .map(|stage| stage.into_iter().filter(|i| !tried.contains(i)).collect())
        .find(|stage: &Vec<usize>| !stage.is_empty())
        .unwrap_or_default()
}

proptest! {
    #[test]
    fn a_choice_is_always_one_that_may_be_made(
        balance in prop::sample::select(ALL.to_vec()),
        bounded_load in proptest::option::of(100u16..300),
        (backups, all_down) in any_rules(),
        start in any::<usize>(),
        pool in proptest::collection::vec(any_view(), 0..9),
        tried in proptest::collection::vec(0usize..9, 0..4),
        seeds in proptest::collection::vec(any::<u64>(), 1..20),
    ) {
        let method = match method(balance, pool.len()) {
            Method::SourceHash { table, .. } => Method::SourceHash { table, bounded_load },
            method => method,
        };
        let mut picker = Picker::new(Rules { method, backups, all_down }, start);
        let may = model(&pool, &tried, (backups, all_down));
        let room = |&i: &usize| pool[i].limit.is_none_or(|limit| pool[i].in_flight < limit);
        for seed in seeds {
            match picker.choose(ask(seed), &tried, pool.len(), |i| pool[i]) {
                Choice::Backend { index, tier } => {
                    prop_assert!(may.contains(&index) && room(&index), "{} of {:?}", index, may);
                    let expected = match (pool[index].up, pool[index].backup) {
                        (false, _) => Tier::FailOpen,
                        (true, true) => Tier::Backup,
                        (true, false) => Tier::Primary,
                    };
                    prop_assert_eq!(tier, expected);
                }
                Choice::Full { .. } => prop_assert!(!may.is_empty() && !may.iter().any(&room)),
                Choice::Nobody => prop_assert!(may.is_empty(), "{:?}", may),
            }
        }
    }

    #[test]
    fn who_is_said_to_serve_is_who_is_chosen(
        (backups, all_down) in any_rules(),
        pool in proptest::collection::vec(any_view(), 0..9),
    ) {
        let method = Method::LeastConnections;
        let mut picker = Picker::new(Rules { method, backups, all_down }, 0);
        let chosen = match picker.choose(ask(0), &[], pool.len(), |i| pool[i]) {
            Choice::Backend { tier, .. } | Choice::Full { tier } => Some(tier),
            Choice::Nobody => None,
        };
        prop_assert_eq!(serving(all_down, pool.into_iter()), chosen);
    }

    #[test]
    fn nobody_is_less_loaded_than_the_least(
        mut views in proptest::collection::vec(any_usable(), 1..12),
        start in any::<usize>(),
    ) {
        for view in &mut views {
            view.limit = None;
        }
        let mut picker = picker(Method::LeastConnections, start);
        let picked = chosen(picker.choose(ask(0), &[], views.len(), |i| views[i])).unwrap();
        let cost = |view: View| match view.in_flight {
            0 => 0.0,
            connections => f64::from(connections + 1) / f64::from(view.weight),
        };
        let least = views.iter().map(|&v| cost(v)).min_by(f64::total_cmp).unwrap();
        prop_assert_eq!(cost(views[picked]), least);
    }

    #[test]
    fn ties_are_spread_evenly(
        mut tied in proptest::collection::vec(any::<bool>(), 1..12),
        start in any::<usize>(),
        rounds in 1usize..5,
    ) {
        tied[0] = true;
        let views: Vec<_> = tied.iter().map(|&t| view(2, if t { 3 } else { 9 })).collect();
        let equals = tied.iter().filter(|&&t| t).count();
        let mut picker = picker(Method::LeastConnections, start);
        let counts = tally(&picks(&mut picker, &views, equals * rounds), views.len());
        for (count, tied) in counts.into_iter().zip(tied) {
            prop_assert_eq!(count, if tied { rounds } else { 0 });
        }
    }

    #[test]
    fn a_full_cycle_gives_each_its_weight(
        weights in proptest::collection::vec(0u32..=256, 1..10),
        start in any::<usize>(),
    ) {
        let cycle = weights.iter().sum::<u32>() as usize;
        let mut picker = picker(Method::RoundRobin, start);
        for _ in 0..2 {
            let counts = tally(&picks(&mut picker, &weighted(&weights), cycle), weights.len());
            prop_assert_eq!(counts, weights.iter().map(|&w| w as usize).collect::<Vec<_>>());
        }
    }

    #[test]
    fn credits_stay_bounded_whoever_is_eligible(
        weights in proptest::collection::vec(1u32..100, 1..8),
        subsets in proptest::collection::vec(any::<u8>(), 1..400),
    ) {
        let mut picker = picker(Method::RoundRobin, 0);
        picks(&mut picker, &weighted(&weights), 1);
        let total: i64 = weights.iter().map(|&w| i64::from(w << 8)).sum();
        let bound = total * i64::try_from(weights.len() - 1).unwrap();
        for subset in subsets {
            play(&mut picker, &weights, subset);
            prop_assert_eq!(picker.turns.iter().map(|turn| turn.credit).sum::<i64>(), 0);
            prop_assert!(picker.turns.iter().all(|turn| turn.credit.abs() <= bound));
        }
    }

    #[test]
    fn shares_hold_after_any_history(
        weights in proptest::collection::vec(1u32..20, 2..6),
        subsets in proptest::collection::vec(any::<u8>(), 0..200),
        cycles in 1usize..4,
    ) {
        let mut picker = picker(Method::RoundRobin, 0);
        for subset in subsets {
            play(&mut picker, &weights, subset);
        }
        let cycle = weights.iter().sum::<u32>() as usize;
        let counts = tally(&picks(&mut picker, &weighted(&weights), cycle * cycles), weights.len());
        // What the credits' bound is worth, in picks, at both ends.
        let slack = 2 * (weights.len() - 1);
        for (count, weight) in counts.into_iter().zip(weights) {
            prop_assert!(count.abs_diff(cycles * weight as usize) <= slack);
        }
    }

    #[test]
    fn two_balancers_agree_whatever_their_order(
        count in 1usize..40,
        weights in proptest::collection::vec(1u32..20, 40),
        down in any::<u64>(),
        shuffle in any::<u64>(),
        clients in proptest::collection::vec(any::<u64>(), 1..50),
    ) {
        let names = names(count);
        let mut order: Vec<usize> = (0..count).collect();
        order.sort_by_key(|&i| crate::keyed::mix(shuffle ^ i as u64));
        let shuffled: Vec<_> = order.iter().map(|&i| names[i].clone()).collect();
        let hash = |table| Method::SourceHash { table: Arc::new(table), bounded_load: None };
        let mut here = picker(hash(table_of(&names, |i| weights[i])), 0);
        let mut there = picker(hash(table_of(&shuffled, |i| weights[order[i]])), 3);
        let view = |i: usize| View { up: down >> i & 1 == 0, ..UP };
        for client in clients {
            let one = chosen(here.choose(ask(client), &[], count, view));
            let two = chosen(there.choose(ask(client), &[], count, |i| view(order[i])));
            prop_assert_eq!(one, two.map(|i| order[i]));
        }
    }

    #[test]
    fn few_clients_move_when_a_backend_comes_or_goes(
        count in 2usize..60,
        weights in proptest::collection::vec(1u32..8, 60),
        gone in any::<prop::sample::Index>(),
    ) {
        let names = names(count);
        let gone = gone.index(count);
        let kept: Vec<usize> = (0..count).filter(|&i| i != gone).collect();
        let fewer: Vec<_> = kept.iter().map(|&i| names[i].clone()).collect();
        let (before, after) = (table_of(&names, |i| weights[i]), table_of(&fewer, |i| weights[kept[i]]));
        let owner = |client: u64| before.preferences(client).next().unwrap();
        let heir = |client: u64| kept[after.preferences(client).next().unwrap()];
        let moved = (0..4_000u64)
            .map(|client| ask(client).hash)
            // Those of the backend that goes have to.
            .filter(|&client| owner(client) != gone && owner(client) != heir(client))
            .count();
        let share = f64::from(weights[gone]) / f64::from(weights[..count].iter().sum::<u32>());
        prop_assert!(
            moved as f64 / 4_000.0 <= share + 0.05,
            "{moved} of 4,000 moved needlessly, share {share}"
        );
    }

    #[test]
    fn the_bound_on_load_is_never_exceeded(
        views in proptest::collection::vec(any_usable(), 1..12),
        percent in 100u16..200,
        clients in proptest::collection::vec(any::<u64>(), 1..200),
    ) {
        let table = Arc::new(table_of(&names(views.len()), |i| views[i].weight));
        let bounded_load = Some(percent);
        let mut picker = picker(Method::SourceHash { table, bounded_load }, 0);
        let mut views = views;
        for client in clients {
            let room = |v: &&View| v.limit.is_none_or(|limit| v.in_flight < limit);
            let usable: Vec<_> = views.iter().filter(room).copied().collect();
            let choice = picker.choose(ask(client), &[], views.len(), |i| views[i]);
            let Some(picked) = chosen(choice) else {
                prop_assert!(usable.is_empty());
                break;
            };
            let load: u32 = usable.iter().map(|v| v.in_flight).sum();
            let weight: u32 = usable.iter().map(|v| v.weight).sum();
            let mean = f64::from(load + 1) * f64::from(views[picked].weight) / f64::from(weight);
            let most = (mean * f64::from(percent) / 100.0 - 1e-9).ceil();
            views[picked].in_flight += 1;
            prop_assert!(f64::from(views[picked].in_flight) <= most);
        }
    }
}

/// One choice of round robin among the `subset`.
fn play(picker: &mut Picker, weights: &[u32], subset: u8) {
    picker.choose(ask(0), &[], weights.len(), |i| View {
        up: subset >> i & 1 == 1,
        ..view(weights[i], 0)
    });
}
