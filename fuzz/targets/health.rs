//! Results of checks, and other thresholds in between: a backend changes its state
//! exactly when so many in a row say so, and not because of a new document.
#![no_main]

use std::num::NonZeroU8;

use arbitrary::Arbitrary;
use libfuzzer_sys::fuzz_target;
use tidegate_core::health::{Health, Outcome, Start, Thresholds, Transition};

#[derive(Arbitrary, Debug)]
enum Step {
    Pass,
    Fail,
    Retune(NonZeroU8, NonZeroU8),
}

fuzz_target!(|history: (bool, NonZeroU8, NonZeroU8, Vec<Step>)| {
    let (starts_up, rise, fall, steps) = history;
    let mut thresholds = Thresholds { rise, fall };
    let start = if starts_up {
        Start::PresumedUp
    } else {
        Start::Down
    };
    let mut health = Health::new(thresholds, start);
    // What it has shown, as a row of equal results; presumed up, one failure is enough.
    let (mut row, mut proven) = (0u32, !starts_up);
    for step in steps {
        let was_up = health.is_up();
        let outcome = match step {
            Step::Pass => Outcome::Pass,
            Step::Fail => Outcome::Fail,
            Step::Retune(rise, fall) => {
                thresholds = Thresholds { rise, fall };
                health.retune(thresholds);
                assert_eq!(health.is_up(), was_up);
                continue;
            }
        };
        let contradicts = (outcome == Outcome::Pass) != was_up;
        row = if contradicts { row + 1 } else { 0 };
        let needed = match (was_up, proven) {
            (true, false) => 1,
            (true, true) => u32::from(thresholds.fall.get()),
            (false, _) => u32::from(thresholds.rise.get()),
        };
        proven = true;
        let changes = contradicts && row >= needed;
        let expected = changes.then_some(if was_up {
            Transition::Down
        } else {
            Transition::Up
        });
        assert_eq!(health.observe(outcome), expected);
        assert_eq!(health.is_up(), was_up != changes);
        if changes {
            row = 0;
        }
    }
});
