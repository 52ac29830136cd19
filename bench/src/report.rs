//! What one run's figures say: ratios against the best peer, a Markdown document, and
//! charts. All of it is made of [`Results`](crate::results::Results) and nothing else,
//! so that a report can be written again from an old `results.json`.
//!
//! A new case appears by itself, in the table of its scenario and in the chart whose
//! topic its id belongs to ([`charts`] has the list). A new metric is named in the
//! columns of its table, in `sections`.

mod chart;
mod figure;
mod markdown;
mod panel;
mod ratio;
#[cfg(test)]
pub(crate) mod sample;
mod sections;
mod svg;
mod table;
mod topic;

pub use chart::{Chart, charts};
pub(crate) use figure::{Scale, is_rate, ratio_text};
pub use markdown::markdown;
pub use ratio::{Ratio, Standing, ratios};
pub(crate) use ratio::{over, usable};
