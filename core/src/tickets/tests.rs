//! The schedule: its course when all goes well, and its promises whatever happens.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::*;

const HOUR: Duration = Duration::from_hours(1);
/// Since 1970; some day.
const START: Duration = Duration::from_hours(500_000);

/// All steps that are due.
fn settle(epochs: &mut Vec<Epoch>, held: bool, now: Duration, timing: &Timing) -> Vec<Step> {
    let mut steps = Vec::new();
    while let Some(step) = step(epochs, |_| held, now, timing) {
        let id = epochs.iter().map(|epoch| epoch.id).max().unwrap_or(0) + 1;
        take(epochs, step, id, now);
        steps.push(step);
        assert!(steps.len() < 100, "steps come to an end: {steps:?}");
    }
    steps
}

fn stages(epochs: &[Epoch]) -> Vec<(u64, Stage)> {
    epochs.iter().map(|e| (e.id, e.stage())).collect()
}

#[test]
fn a_key_is_next_then_encrypting_then_previous_then_gone() {
    let timing = Timing::default();
    let mut epochs = Vec::new();
    assert_eq!(settle(&mut epochs, false, START, &timing), [Step::Make]);
    assert_eq!(settle(&mut epochs, false, START, &timing), []);
    assert_eq!(
        settle(&mut epochs, true, START, &timing),
        [Step::Promote(1)]
    );
    let almost = START + 12 * HOUR - Duration::from_millis(1);
    assert_eq!(settle(&mut epochs, true, almost, &timing), []);
    let due = START + 12 * HOUR;
    assert_eq!(settle(&mut epochs, false, due, &timing), [Step::Make]);
    assert_eq!(
        stages(&epochs),
        [(1, Stage::Encrypting), (2, Stage::Next)],
        "while somebody lacks the new one, tickets are made with the old one"
    );
    settle(&mut epochs, true, due, &timing);
    assert_eq!(
        stages(&epochs),
        [(1, Stage::Previous), (2, Stage::Encrypting)]
    );
    // Cut off at the beginning, a terminator makes tickets with it for 24 hours, and
    // the last of them lives for 24 more.
    for hours in (12..48).step_by(12) {
        settle(&mut epochs, true, START + hours * HOUR, &timing);
        assert!(epochs.iter().any(|epoch| epoch.id == 1), "{hours} h");
    }
    settle(&mut epochs, true, START + 48 * HOUR, &timing);
    assert!(epochs.iter().all(|epoch| epoch.id != 1));
    assert_eq!(epochs.len(), 4);
}

#[test]
fn who_does_not_answer_delays_a_key_for_ten_minutes() {
    let timing = Timing::default();
    let mut epochs = Vec::new();
    settle(&mut epochs, true, START, &timing);
    let due = START + 12 * HOUR;
    settle(&mut epochs, false, due, &timing);
    let almost = due + Duration::from_mins(10) - Duration::from_millis(1);
    assert_eq!(settle(&mut epochs, false, almost, &timing), []);
    let patience = due + Duration::from_mins(10);
    assert_eq!(
        settle(&mut epochs, false, patience, &timing),
        [Step::Promote(2)]
    );
}

#[test]
fn what_a_terminator_is_told_ends_by_itself() {
    let timing = Timing::default();
    let mut epoch = Epoch::new(1, START);
    assert_eq!(epoch.encrypts_for(START, &timing), Duration::ZERO);
    assert_eq!(epoch.opens_for(START, &timing), 48 * HOUR + PATIENCE);
    epoch.encrypting = Some(START);
    let at = |hours: u32| START + hours * HOUR;
    assert_eq!(epoch.encrypts_for(at(20), &timing), 4 * HOUR);
    assert_eq!(epoch.encrypts_for(at(25), &timing), Duration::ZERO);
    assert_eq!(epoch.opens_for(at(25), &timing), 23 * HOUR);
    assert_eq!(epoch.opens_for(at(49), &timing), Duration::ZERO);
    // Set back by a year, a clock makes no key live longer than it may.
    let back = START - 8760 * HOUR;
    assert_eq!(epoch.encrypts_for(back, &timing), 24 * HOUR);
    epoch.replaced = Some(at(12));
    assert_eq!(epoch.encrypts_for(at(12), &timing), Duration::ZERO);
}

#[test]
fn a_clock_that_is_set_back_holds_no_rotation() {
    let timing = Timing::default();
    let mut epochs = Vec::new();
    settle(&mut epochs, true, START, &timing);
    let back = START - 13 * HOUR;
    assert_eq!(settle(&mut epochs, false, back, &timing), [Step::Make]);
    assert_eq!(
        settle(&mut epochs, false, back - HOUR, &timing),
        [Step::Promote(2)]
    );
}

#[test]
fn times_that_do_not_fit_are_refused() {
    let seconds = Duration::from_secs;
    let refused = |rotation, lifetime| Timing::new(rotation, lifetime).err();
    assert_eq!(refused(Duration::ZERO, HOUR), Some(BadTiming::Rotation));
    assert_eq!(refused(HOUR, Duration::ZERO), Some(BadTiming::Lifetime));
    assert_eq!(refused(100 * HOUR, 169 * HOUR), Some(BadTiming::Lifetime));
    assert_eq!(refused(seconds(1), seconds(9)), Some(BadTiming::Ratio));
    assert_eq!(refused(seconds(1), seconds(8)), None);
    let short = Timing::new(seconds(2), seconds(8)).unwrap();
    assert_eq!(short.patience(), seconds(2), "a key is followed in time");
    let default = Timing::default();
    let same = Timing::new(default.rotation(), default.lifetime());
    assert_eq!(same, Ok(default));
}

/// One terminator: what it was told last, and when.
#[derive(Default)]
struct Terminator {
    connected: bool,
    told: Vec<Epoch>,
    told_at: Duration,
    acknowledged: BTreeSet<u64>,
}

impl Terminator {
    fn is_told(&mut self, epochs: &[Epoch], now: Duration) {
        self.told = epochs.to_vec();
        self.told_at = now;
    }

    /// With what it makes a ticket now. It counts time from when it was told.
    fn encrypts(&self, now: Duration, timing: &Timing) -> Option<u64> {
        let passed = now - self.told_at;
        let may = |epoch: &&Epoch| epoch.encrypts_for(self.told_at, timing) > passed;
        self.told.iter().find(may).map(|epoch| epoch.id)
    }

    fn opens(&self, id: u64, now: Duration, timing: &Timing) -> bool {
        let passed = now - self.told_at;
        let epoch = self.told.iter().find(|epoch| epoch.id == id);
        epoch.is_some_and(|epoch| epoch.opens_for(self.told_at, timing) > passed)
    }
}

#[derive(Clone, Debug)]
enum Event {
    /// The schedule is looked at, so many minutes later.
    Later(u16),
    /// A terminator acknowledges what it was told.
    Acknowledge(usize),
    /// Its link breaks, and the control plane notices.
    Leave(usize),
    /// It comes back, in its own time.
    Return(usize),
    /// It takes a ticket home.
    Ticket(usize),
    /// An operator wants a new key out of turn.
    Rotate,
}

fn events() -> impl Strategy<Value = Vec<Event>> {
    let who = 0..3_usize;
    let event = prop_oneof![
        4 => (0..200_u16).prop_map(Event::Later),
        4 => who.clone().prop_map(Event::Acknowledge),
        1 => who.clone().prop_map(Event::Leave),
        1 => who.clone().prop_map(Event::Return),
        3 => who.prop_map(Event::Ticket),
        1 => Just(Event::Rotate),
    ];
    proptest::collection::vec(event, 1..250)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2048, ..ProptestConfig::default() })]

    /// Whatever is acknowledged, lost and late: one key at most makes tickets; every
    /// connected terminator holds it unless it was late by the patience; a ticket
    /// that lives is opened by whoever was told of the present set; nobody delays a
    /// key for longer than the patience.
    #[test]
    fn tickets_open_everywhere_whatever_happens(events in events()) {
        let timing = Timing::new(3 * HOUR, 6 * HOUR).unwrap();
        let (mut now, mut last) = (START, 0);
        let mut epochs: Vec<Epoch> = Vec::new();
        let mut tickets: BTreeMap<u64, Duration> = BTreeMap::new();
        let mut fleet: [Terminator; 3] = Default::default();
        let mut rotations = 0_usize;
        for event in events {
            match event {
                Event::Later(minutes) => now += Duration::from_mins(minutes.into()),
                Event::Acknowledge(who) if fleet[who].connected => {
                    let told = fleet[who].told.iter();
                    fleet[who].acknowledged = told.map(|epoch| epoch.id).collect();
                }
                Event::Leave(who) => {
                    fleet[who].connected = false;
                    fleet[who].acknowledged.clear();
                }
                Event::Return(who) => {
                    fleet[who].connected = true;
                    fleet[who].is_told(&epochs, now);
                }
                Event::Ticket(who) => {
                    if let Some(id) = fleet[who].encrypts(now, &timing) {
                        tickets.insert(id, now);
                    }
                }
                Event::Rotate if rotations < 3 => {
                    rotations += 1;
                    if epochs.iter().all(|epoch| epoch.stage() != Stage::Next) {
                        last += 1;
                        epochs.push(Epoch::new(last, now));
                    }
                }
                Event::Acknowledge(_) | Event::Rotate => {}
            }
            loop {
                let connected = || fleet.iter().filter(|t| t.connected);
                let is_held = |id| connected().all(|t| t.acknowledged.contains(&id));
                let Some(step) = step(&epochs, is_held, now, &timing) else { break };
                if let Step::Promote(id) = step {
                    let next = epochs.iter().find(|epoch| epoch.id == id).unwrap();
                    prop_assert!(is_held(id) || now - next.made >= timing.patience());
                }
                last += 1;
                take(&mut epochs, step, last, now);
                for terminator in fleet.iter_mut().filter(|t| t.connected) {
                    terminator.is_told(&epochs, now);
                }
            }
            let encrypting = epochs.iter().filter(|e| e.stage() == Stage::Encrypting);
            prop_assert!(encrypting.count() <= 1);
            prop_assert!(epochs.len() <= MOST_EPOCHS);
            let waits = |epoch: &&Epoch| epoch.stage() == Stage::Next;
            if let Some(next) = epochs.iter().find(waits) {
                prop_assert!(now - next.made < timing.patience());
            }
            for (id, made) in &tickets {
                if now - *made >= timing.lifetime() {
                    continue;
                }
                for terminator in fleet.iter().filter(|t| t.connected) {
                    prop_assert!(terminator.opens(*id, now, &timing), "{id}: {epochs:?}");
                }
            }
        }
    }

    /// A clock that jumps makes keys too early or too late, and never two at once,
    /// none for good, or more than there is room for.
    #[test]
    fn a_clock_may_jump(jumps in proptest::collection::vec(-40_000_i64..40_000, 1..60)) {
        let timing = Timing::default();
        let mut epochs = Vec::new();
        let mut now = START;
        for minutes in jumps {
            let jump = Duration::from_mins(minutes.unsigned_abs());
            now = if minutes < 0 { now.saturating_sub(jump) } else { now + jump };
            settle(&mut epochs, true, now, &timing);
            let stages = epochs.iter().map(Epoch::stage);
            prop_assert_eq!(stages.filter(|s| *s == Stage::Encrypting).count(), 1);
            prop_assert!(epochs.len() <= MOST_EPOCHS);
            prop_assert!(epochs.iter().all(|e| e.opens_for(now, &timing) <= 49 * HOUR));
        }
    }
}
